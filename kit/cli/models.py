"""List the models: size, image side, weights, their domain and licence, and what they need."""

import argparse

EXAMPLE = "kit models tissue"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit models`."""
    parser.add_argument(
        "part", nargs="?", default="", metavar="FILTER", help="only those with this in name, domain, licence or source"
    )


def call(arguments: argparse.Namespace) -> None:
    """Run `kit models`."""
    from kit.models import listing

    print(listing.as_text(arguments.part))

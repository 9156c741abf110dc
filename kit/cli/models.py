"""List the models: parameters, image side, weights and their licence."""

import argparse

EXAMPLE = "kit models resnet"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit models`."""
    parser.add_argument("part", nargs="?", default="", metavar="FILTER", help="only those with this in name or source")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit models`."""
    from kit.models import registry

    print(registry.as_text(arguments.part))

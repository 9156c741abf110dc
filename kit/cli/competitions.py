"""List the competitions: targets, metrics, the settings they take, and their configs."""

import argparse

EXAMPLE = "kit competitions"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit competitions`."""
    parser.add_argument("part", nargs="?", default="", metavar="FILTER", help="only those with this in name or title")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit competitions`."""
    from kit.competitions import as_text

    print(as_text(arguments.part))

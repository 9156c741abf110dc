"""List the settings: name, default and meaning."""

import argparse
import shutil

EXAMPLE = "kit settings learning_rate"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit settings`."""
    text = "only those with this in their name or meaning, such as augment or train.loss"
    parser.add_argument("part", nargs="?", default="", metavar="FILTER", help=text)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit settings`."""
    from kit.config import describe

    print(describe.as_text(arguments.part, shutil.get_terminal_size((100, 24)).columns))

"""Write the files of a competition of your own to start from."""

import argparse
from pathlib import Path

from kit.cli._arguments import add_verb, add_verbs, call_verb
from kit.cli._types import folder

EXAMPLE = "kit new competition moles --like csv"
call = call_verb


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit new`."""
    text = "Write NAME.py, which says how the raw folder is read, and NAME.yaml, its settings; both run as they are."
    competition = add_verb(add_verbs(parser), "competition", _competition, text, EXAMPLE)
    competition.add_argument("name", metavar="NAME")
    text = "images with a table of labels (default), or in folders by class"
    competition.add_argument("--like", choices=["csv", "folders"], default="csv", help=text)
    competition.add_argument("--out", type=folder, default=Path(), metavar="DIR", help="default: the current folder")


def _competition(arguments: argparse.Namespace) -> None:
    from kit.config.new import write_competition

    code, config = write_competition(arguments.name, arguments.like, arguments.out)
    print(f"{code}: change it to what your folder is like, and try it: kit examples {config} --data DIR --check")
    print(f"{config}: then kit run {config} --data DIR")

"""List pre-trained weights and where they are, or get some for use without internet."""

import argparse

from kit.cli._arguments import add_verb, call_verb
from kit.cli._types import folder

EXAMPLE = "kit weights get efficientnetv2s --out weights"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit weights`."""
    parser.set_defaults(verb=_list, part="")
    verbs = parser.add_subparsers(metavar="VERB")
    text = "List published weights: size, licence, checksum and where they are on this machine."
    listing = add_verb(verbs, "list", _list, text, "kit weights list resnet")
    listing.add_argument("part", nargs="?", default="", metavar="FILTER", help="only those with this in their name")
    text = "Download weights, check them, and print where they are."
    get = add_verb(verbs, "get", _get, text, EXAMPLE)
    get.add_argument("name", metavar="NAME", help="a model of `kit weights`")
    text = "where to put them (default: $KIT_WEIGHTS, or else where Keras keeps its own)"
    get.add_argument("--out", type=folder, metavar="DIR", help=text)


call = call_verb


def _list(arguments: argparse.Namespace) -> None:
    from kit.models import download

    print(download.as_text(arguments.part))


def _get(arguments: argparse.Namespace) -> None:
    from kit.models.download import save

    path = save(arguments.name, arguments.out)
    print(f"{path}: found wherever $KIT_WEIGHTS is its folder")

"""Compute the features of frozen backbones, which runs of the model `features` then share."""

import argparse

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import MOUNTED_DATA_HELP, add_config, add_max_hours
from kit.cli._types import folder
from kit.errors import counted

EXAMPLE = "kit features folders --data DIR --backbone efficientnet_lite0"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit features`."""
    add_config(parser)
    text = "a model of `kit models`; several are put side by side"
    parser.add_argument("--backbone", nargs="+", required=True, metavar="NAME", help=text)
    text = "their weights, as model.weights takes them (default: their own)"
    parser.add_argument("--weights", metavar="SOURCE", help=text)
    text = "mirrored and turned images over which features are averaged (default: none)"
    parser.add_argument("--views", choices=["none", "mirror", "flips", "dihedral"], default="none", help=text)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    text = "records, built here if there are none (default: those of the runs in runs/COMP)"
    parser.add_argument("--records", type=folder, metavar="DIR", help=text)
    add_max_hours(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit features`."""
    from kit.runtime import session
    from kit.stages.extract import extract, features_config

    chosen = (arguments.backbone, arguments.weights, arguments.views, arguments.set)
    config = features_config(arguments.competition, *chosen)
    deadline = session.deadline(arguments.max_hours)
    extracted = extract(config, arguments.data, arguments.records, deadline)
    if extracted is None:
        return OUT_OF_TIME
    print(f"{counted(extracted.images, 'image')}, {extracted.width:,} features each")
    for path in extracted.folders:
        print(path)
    return DONE

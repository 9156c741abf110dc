"""Train a model for each fold."""

import argparse

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import add_config, add_max_hours
from kit.cli._types import folder, numbers

EXAMPLE = "kit train pcam --records records/pcam --run runs/pcam/first"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit train`."""
    add_config(parser)
    parser.add_argument("--records", type=folder, required=True, metavar="DIR")
    parser.add_argument("--run", type=folder, required=True, metavar="DIR")
    parser.add_argument("--folds", type=numbers, metavar="0,1", help="only these folds, counted from 0")
    add_max_hours(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit train`."""
    from kit.config import load_config
    from kit.data.records.manifest import open_records
    from kit.run import Run
    from kit.runtime import session
    from kit.stages.train import train

    config = load_config(arguments.competition, arguments.set)
    deadline = session.deadline(arguments.max_hours)
    records = open_records(arguments.records)
    finished = train(config, records, Run(arguments.run), arguments.folds, deadline)
    return DONE if finished else OUT_OF_TIME

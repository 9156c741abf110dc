"""Train a model for each fold."""

import argparse

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import add_config, add_max_hours, add_retrain, add_trust
from kit.cli._types import folder, numbers

EXAMPLE = "kit train pcam --records records/pcam --run runs/pcam/first"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit train`."""
    add_config(parser)
    parser.add_argument("--records", type=folder, required=True, metavar="DIR")
    parser.add_argument("--run", type=folder, required=True, metavar="DIR")
    parser.add_argument("--folds", type=numbers, metavar="0,1", help="only these folds, counted from 0")
    add_max_hours(parser)
    add_retrain(parser)
    add_trust(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit train`."""
    from kit.data.records.manifest import open_records
    from kit.run import Run
    from kit.runtime import session
    from kit.stages.check import check_settings, rehearse_training
    from kit.stages.resume import config_of
    from kit.stages.train import train

    run = Run(arguments.run)
    config = config_of(run, arguments.competition, arguments.set, arguments.trust)
    deadline = session.deadline(arguments.max_hours)
    check_settings(config, run)
    records = open_records(arguments.records)
    rehearse_training(config, records.image, run)
    finished = train(config, records, run, arguments.folds, deadline, arguments.retrain)
    return DONE if finished else OUT_OF_TIME

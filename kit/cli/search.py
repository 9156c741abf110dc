"""Search settings; the best become a config, chosen without fold 0's validation images."""

import argparse

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import HOURS_HELP, MOUNTED_DATA_HELP, add_config
from kit.cli._types import at_least_one, folder, number_from_zero, worker_count

EXAMPLE = "kit search pcam_scratch --space pcam_cnn --records records/pcam --trials 26 --hours 9"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit search`."""
    add_config(parser)
    parser.add_argument("--space", required=True, metavar="FILE", help="what to try: a YAML file, or one that kit has")
    parser.add_argument("--trials", type=at_least_one, required=True, metavar="N", help="finished ones in all")
    parser.add_argument("--hours", type=number_from_zero, metavar="H", help=HOURS_HELP)
    parser.add_argument("--run", type=folder, metavar="DIR", help="default: runs/COMP/search")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--records", type=folder, metavar="DIR")
    source.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    parser.add_argument("--workers", type=worker_count, default=1, metavar="N", help="processes that share the trials")
    parser.add_argument("--helper", type=int, help=argparse.SUPPRESS)  # the number of a process that --workers started


def call(arguments: argparse.Namespace) -> int:
    """Run `kit search`."""
    from kit.tune.search import help_search, search

    limits = (arguments.trials, arguments.hours)
    study = (arguments.competition, arguments.space, *limits, arguments.run, arguments.records)
    if arguments.helper:
        help_search(*study, arguments.set, arguments.helper)
        return DONE
    return DONE if search(*study, arguments.data, arguments.workers, arguments.set) else OUT_OF_TIME

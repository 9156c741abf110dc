"""Run all stages, skipping those that are done."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import MOUNTED_DATA_HELP, add_config, add_max_hours
from kit.cli._types import folder

EXAMPLE = "kit run pcam --data DIR --run runs/pcam/first"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit run`."""
    add_config(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    parser.add_argument("--run", type=folder, metavar="DIR", help="default: runs/COMP/run")
    parser.add_argument(
        "--records",
        type=folder,
        metavar="DIR",
        help="default: records/ beside the run, shared by its neighbours; on Kaggle and Colab a scratch folder",
    )
    add_max_hours(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit run`."""
    folders = (arguments.data, arguments.run, arguments.records)
    return run_and_print(arguments.competition, *folders, arguments.set, arguments.max_hours)


def run_and_print(
    competition: str,
    data: Path | None = None,
    run: Path | None = None,
    records: Path | None = None,
    settings: Sequence[str] = (),
    max_hours: float | None = None,
) -> int:
    """All stages, then the scores; returns the exit code. Also what `kit demo` and a local `kit submit` do."""
    from kit import pipeline
    from kit.evaluate.text import as_text
    from kit.run import Run

    result = pipeline.run(competition, data, run, records, settings, max_hours)
    if result is None:
        return OUT_OF_TIME
    print(as_text(*pipeline.score(Run(result.parent))))
    print(f"{'submission' if result.suffix == '.csv' else 'no test images; out-of-fold predictions'}: {result}")
    return DONE

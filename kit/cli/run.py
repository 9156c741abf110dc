"""Run all stages, skipping those that are done."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kit.cli import DONE, OUT_OF_TIME
from kit.cli._arguments import MOUNTED_DATA_HELP, add_config, add_max_hours, add_retrain, add_trust
from kit.cli._types import at_least_one, folder

EXAMPLE = "kit run pcam --data DIR --run runs/pcam/first"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit run`."""
    add_config(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    text = "default: runs/COMP/run; one that exists is continued"
    parser.add_argument("--run", type=folder, metavar="DIR", help=text)
    parser.add_argument(
        "--records",
        type=folder,
        metavar="DIR",
        help="default: records/ beside the run, shared by its neighbours; on Kaggle and Colab a scratch folder",
    )
    text = "train all folds N times, with other seeds and folds, and average (repeats=N)"
    parser.add_argument("--repeats", type=at_least_one, metavar="N", help=text)
    text = "stop after the run of the frozen network, in the folder frozen of the run: a score within minutes"
    parser.add_argument("--quick", action="store_true", help=text)
    parser.add_argument("--no-report", action="store_true", help="leave out the report, which takes seconds")
    add_max_hours(parser)
    add_retrain(parser)
    add_trust(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run `kit run`."""
    folders = (arguments.data, arguments.run, arguments.records)
    more = {"retrain": arguments.retrain, "trust": arguments.trust, "quick": arguments.quick}
    more["report"] = not arguments.no_report
    settings = [*arguments.set, *([f"repeats={arguments.repeats}"] if arguments.repeats else [])]
    return run_and_print(arguments.competition, *folders, settings, arguments.max_hours, **more)


def run_and_print(
    competition: str,
    data: Path | None = None,
    run: Path | None = None,
    records: Path | None = None,
    settings: Sequence[str] = (),
    max_hours: float | None = None,
    retrain: bool = False,
    trust: bool = False,
    quick: bool = False,
    report: bool = True,
) -> int:
    """All stages, then the scores; returns the exit code. Also what `kit demo` and a local `kit submit` do."""
    from kit import pipeline
    from kit.evaluate.text import as_text

    result = pipeline.run(competition, data, run, records, settings, max_hours, retrain, trust, quick, report)
    if not result.is_complete:
        return OUT_OF_TIME
    print(as_text(*pipeline.score(result)))
    if result.test().empty:
        print(f"no test images; out-of-fold predictions: {result.oof_path}")
    else:
        print(f"submission: {result.submission_path}")
    if report and result.report_path.exists():
        print(f"report: {result.report_path}")
    return DONE

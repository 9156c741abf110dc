"""Score a run: metrics with intervals, thresholds, calibration; further runs are compared with the first, paired."""

import argparse
import json
from pathlib import Path

EXAMPLE = "kit score runs/pcam/first runs/pcam/second"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit score`."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--json", action="store_true", help="print JSON")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit score`."""
    from kit.evaluate import text
    from kit.stages import score as stage

    scores, thresholds = stage.score(arguments.runs[0])
    comparison = stage.compare(arguments.runs) if len(arguments.runs) > 1 else []
    if arguments.json:
        print(json.dumps({"scores": scores, "thresholds": thresholds, "comparison": comparison}, indent=1))
        return
    print(text.as_text(scores, thresholds))
    if comparison:
        print(text.comparison(comparison, scores["interval"]["confidence"]))

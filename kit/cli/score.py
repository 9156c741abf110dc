"""Score a run: metrics with intervals, thresholds, calibration; further runs are compared with the first, paired."""

import argparse
import json

from kit.cli._arguments import add_settings, add_trust
from kit.cli._types import folder

EXAMPLE = "kit score runs/pcam/first runs/pcam/second"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit score`."""
    parser.add_argument("runs", type=folder, nargs="+", metavar="RUN")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, "change a setting evaluate.* of the first RUN, which keeps it; may be repeated")
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit score`."""
    from kit.evaluate import text
    from kit.run import Run
    from kit.stages.score import compare, score

    runs = [Run(folder, arguments.trust) for folder in arguments.runs]
    scores, decision = score(runs[0], arguments.set)
    comparison = compare(runs) if len(runs) > 1 else []
    if arguments.json:
        content = {"scores": scores.as_json(), "decision": decision.as_json()}
        print(json.dumps({**content, "comparison": [line.as_json() for line in comparison]}, indent=1))
        return
    print(text.as_text(scores, decision))
    if comparison:
        print(text.comparison(comparison, scores.interval.confidence))

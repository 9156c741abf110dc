"""Blend runs: every blend is scored on folds that did not fit it; the best (or the plain mean) is taken."""

import argparse

from kit.cli._arguments import add_trust
from kit.cli._types import folder, names

EXAMPLE = "kit ensemble runs/pcam/first runs/pcam/second --out runs/pcam/both"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit ensemble`."""
    parser.add_argument("runs", type=folder, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=folder, required=True, metavar="DIR", help="a folder with the files of a run")
    parser.add_argument(
        "--blend",
        default="auto",
        metavar="NAME",
        help="mean, best_single, weighted:2,1, geometric, logit, rank, convex, nnls, greedy, stack or boost, whatever "
        "its score (default: auto)",
    )
    parser.add_argument("--metadata", type=names, default=[], metavar="age,sex", help="what boost may use too")
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit ensemble`."""
    from kit.evaluate import text
    from kit.run import Run
    from kit.stages.ensemble import ensemble

    runs = [Run(folder, arguments.trust) for folder in arguments.runs]
    print(text.ensemble(ensemble(runs, Run(arguments.out), arguments.blend, arguments.metadata)))
    print(f"written as a run: {arguments.out}")

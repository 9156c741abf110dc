"""Run everything on a small made-up competition."""

import argparse
from pathlib import Path

from kit.cli._types import folder
from kit.cli.run import run_and_print

EXAMPLE = "kit demo --out demo"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit demo`."""
    parser.add_argument("--out", type=folder, default=Path("demo"), metavar="DIR")


def call(arguments: argparse.Namespace) -> int:
    """Run `kit demo`."""
    run = arguments.out / "toy"
    code = run_and_print("toy", run=run)
    print(
        f"\n{run} now holds a model per fold, out-of-fold and test predictions, scores.json, a checked submission\n"
        "and report.html, which says it all in figures and images: open it in a browser.\n"
        "Running the demo again takes seconds, and so does `kit score`: finished stages are skipped.\n"
        f"`kit serve {run}` shows a page on which it predicts new images.\n"
        "Next, the same on real images:  kit run pcam --data DIR --run runs/pcam/first   (README.md says more)"
    )
    return code

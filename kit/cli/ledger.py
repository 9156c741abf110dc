"""Show what was submitted: out-of-fold scores beside the leaderboard's."""

import argparse
from pathlib import Path

from kit.cli._types import finite, folder, path
from kit.errors import ConfigError

EXAMPLE = "kit ledger --run runs/pcam/first --file submission.csv --public 0.95"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit ledger`."""
    parser.add_argument("--ledger", type=path, default=Path("submissions.csv"), metavar="F.csv")
    parser.add_argument("--run", type=folder, metavar="RUN", help="add a submission of this run, or its scores later")
    parser.add_argument("--file", type=path, metavar="F", help="the file that was submitted")
    parser.add_argument("--public", type=finite, metavar="SCORE")
    parser.add_argument("--private", type=finite, metavar="SCORE")
    parser.add_argument("--description", default="", metavar="TEXT")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit ledger`."""
    from kit.submit import ledger

    if arguments.run is None:
        print(ledger.as_text(ledger.read(arguments.ledger)))
        return
    if arguments.file is None:
        raise ConfigError("which file was submitted? Give --file submission.csv")
    from kit.run import Run
    from kit.stages.score import score

    ledger.check(arguments.ledger)
    run = Run(arguments.run)
    score(run)
    line = ledger.entry(run, arguments.file, arguments.description)
    scored = {**line, "public": arguments.public, "private": arguments.private}
    print(ledger.as_text(ledger.write(arguments.ledger, scored)))

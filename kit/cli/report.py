"""Write a run's report: scores, figures and images on one page, for people; further runs are compared with it."""

import argparse

from kit.cli._arguments import add_trust
from kit.cli._types import folder, output_file

EXAMPLE = "kit report runs/pcam/first runs/pcam/second"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit report`."""
    parser.add_argument("runs", type=folder, nargs="+", metavar="RUN")
    text = "where the pictures come from (default: beside the run, where `kit run` builds them)"
    parser.add_argument("--records", type=folder, metavar="DIR", help=text)
    text = "write the page there, and nothing into RUN (default: report.html in the first RUN, with figures/)"
    parser.add_argument("--out", type=output_file, metavar="F.html", help=text)
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit report`."""
    from kit.run import Run
    from kit.stages.report import write_report

    runs = [Run(folder, arguments.trust) for folder in arguments.runs]
    print(f"report: {write_report(runs, arguments.records, arguments.out)}")

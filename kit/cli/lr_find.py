"""Train while the learning rate rises: a figure, and a rate to start from."""

import argparse

from kit.cli._arguments import add_config
from kit.cli._types import folder, output_file

EXAMPLE = "kit lr-find pcam --records records/pcam --out lr.png"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit lr-find`."""
    add_config(parser)
    parser.add_argument("--records", type=folder, required=True, metavar="DIR")
    parser.add_argument(
        "--out", type=output_file, required=True, metavar="F.png", help="the figure; the curve goes beside it"
    )


def call(arguments: argparse.Namespace) -> None:
    """Run `kit lr-find`."""
    from kit.config import load_config
    from kit.tune.lr_find import lr_find

    rate = lr_find(arguments.competition, arguments.records, arguments.out, arguments.set)
    phases = load_config(arguments.competition, arguments.set).train.phases
    use = "learning_rate of a phase that trains all" if phases else f"--set train.learning_rate={rate:.2g}"
    print(f"steepest descent at {rate:.2g}: {use}   (curve: {arguments.out})")

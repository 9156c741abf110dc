"""Look at a data set: one HTML page of what is in a raw folder, and what is odd about it."""

import argparse
from pathlib import Path

from kit.cli._arguments import MOUNTED_DATA_HELP, add_config
from kit.cli._types import at_least_one, folder, output_file

EXAMPLE = "kit eda pcam --data DIR --out eda.html"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit eda`."""
    add_config(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    parser.add_argument("--out", type=output_file, default=Path("eda.html"), metavar="F.html", help="default: eda.html")
    text = "random images of which grey levels, colours and mean images are shown (default: 2000)"
    parser.add_argument("--images", type=at_least_one, default=2000, metavar="N", help=text)
    parser.add_argument("--edges", action="store_true", help="show where edges are, too (Sobel)")
    text = "decode only those images: what is odd about the others stays unknown"
    parser.add_argument("--quick", action="store_true", help=text)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit eda`."""
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.report import page
    from kit.stages.eda import explore
    from kit.stages.examples import raw_folder

    config = load_config(arguments.competition, arguments.set)
    data = raw_folder(find_competition(config.competition, config), arguments.data, Path("data"))
    page.write(explore(config, data, arguments.images, arguments.edges, arguments.quick), arguments.out)
    print(arguments.out)

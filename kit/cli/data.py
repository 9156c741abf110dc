"""Download a competition's raw files."""

import argparse
from pathlib import Path

from kit.cli._arguments import add_config, add_verb, add_verbs, call_verb
from kit.cli._types import folder, positive

EXAMPLE = "kit data fetch pcam --out data/pcam"
call = call_verb


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit data`."""
    text = "Download a competition's files, check and unpack them, and look at every image."
    fetch = add_verb(add_verbs(parser), "fetch", _fetch, text, EXAMPLE)
    add_config(fetch)
    fetch.add_argument("--out", type=folder, metavar="DIR", help="default: data/COMP")
    fetch.add_argument(
        "--max-gib", type=positive, default=100.0, metavar="G", help="largest size unpacked (default: 100)"
    )
    fetch.add_argument("--no-check", action="store_true", help="do not look at the images")


def _fetch(arguments: argparse.Namespace) -> None:
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.data.table.check import as_text
    from kit.kaggle.fetch import fetch_data
    from kit.stages.examples import check_folder

    config = load_config(arguments.competition, arguments.set)
    competition = find_competition(config.competition, config)
    out = arguments.out or Path("data", competition.name)
    fetch_data(competition, out, max_gib=arguments.max_gib)
    if not arguments.no_check:
        print(as_text(check_folder(config, out)))
    print(f"kit run {arguments.competition} --data {out}")

"""List raw files as an example table, and report what is in the data."""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from kit.cli._arguments import MOUNTED_DATA_HELP, add_config
from kit.cli._types import folder, output_file
from kit.errors import ConfigError

EXAMPLE = "kit examples pcam --data DIR --check --out examples.parquet"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit examples`."""
    add_config(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    parser.add_argument("--out", type=output_file, metavar="F.parquet", help="write the table: one row per image")
    parser.add_argument(
        "--check", action="store_true", help="decode every image: sizes, formats, unreadable files, duplicates, leaks"
    )
    parser.add_argument("--json", action="store_true", help="--check as JSON, with all names")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit examples`."""
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.data.table.check import as_text
    from kit.data.table.examples import write_examples
    from kit.stages.examples import check_folder, list_examples, raw_folder

    if not arguments.out and not arguments.check:
        raise ConfigError("nothing to do: give --out F.parquet for the table, or --check to look at the data")
    config = load_config(arguments.competition, arguments.set)
    data = raw_folder(find_competition(config.competition, config), arguments.data, Path("data"))
    if arguments.check:
        summary = check_folder(config, data)
        print(json.dumps(summary, indent=1) if arguments.json else as_text(summary))
    if arguments.out:
        with redirect_stdout(sys.stderr) if arguments.json else nullcontext():  # --json: standard output is JSON alone
            examples = list_examples(config, data)
            write_examples(arguments.out, examples)
            print(f"{len(examples.table)} images, {examples.table['group'].nunique()} groups: {arguments.out}")

"""List raw files as an example table, and report what is in the data."""

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from kit.cli._arguments import MOUNTED_DATA_HELP, add_config
from kit.cli._types import folder, output_file
from kit.errors import ConfigError, counted

EXAMPLE = "kit examples pcam --data DIR --check --out examples.parquet"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit examples`."""
    add_config(parser)
    parser.add_argument("--data", type=folder, metavar="DIR", help=MOUNTED_DATA_HELP)
    parser.add_argument("--out", type=output_file, metavar="F.parquet", help="write the table: one row per image")
    parser.add_argument(
        "--check", action="store_true", help="decode every image: sizes, formats, unreadable files, duplicates, leaks"
    )
    parser.add_argument("--json", action="store_true", help="the counts, or --check, as JSON with all names")


def call(arguments: argparse.Namespace) -> None:
    """Run `kit examples`."""
    from kit.competitions import find_competition
    from kit.config import load_config
    from kit.data.table import check, counts
    from kit.data.table.examples import write_examples
    from kit.stages.examples import check_folder, count_folder, list_examples, raw_folder

    out = arguments.out
    if out and out.suffix.lower() in (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".json"):
        raise ConfigError(f"--out {out}: the table is Parquet, so name it {out.with_suffix('.parquet')}")
    config = load_config(arguments.competition, arguments.set)
    data = raw_folder(find_competition(config.competition, config), arguments.data, Path("data"))
    quiet = redirect_stdout(sys.stderr) if arguments.json else nullcontext()  # --json: standard output is JSON alone
    if arguments.check or not arguments.out:
        with quiet:
            summary = check_folder(config, data) if arguments.check else count_folder(config, data)
        text = check.as_text if arguments.check else counts.as_text
        print(json.dumps(summary, indent=1) if arguments.json else text(summary))
    if not (arguments.check or arguments.out or arguments.json):
        print("--check decodes every image too, --out F.parquet writes the table: one row per image")
    if arguments.out:
        with quiet:
            examples = list_examples(config, data)
            write_examples(arguments.out, examples)
            images, groups = len(examples.table), examples.table["group"].nunique()
            print(f"{counted(images, 'image')}, {counted(groups, 'group')}: {arguments.out}")

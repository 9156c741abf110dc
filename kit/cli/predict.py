"""Predict new images, or the out-of-fold and test images of a run."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING

from kit.cli._arguments import add_settings, add_trust
from kit.cli._types import folder, numbers, output_file, run_or_file
from kit.errors import ConfigError, counted

if TYPE_CHECKING:
    from kit.run import Run

EXAMPLE = "kit predict runs/pcam/first --images photos/ --out predictions.csv"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit predict`."""
    parser.add_argument("run", type=run_or_file, metavar="RUN", help="a run, or a file that `kit export` wrote")
    source = parser.add_mutually_exclusive_group(required=True)
    text = "new images: files, folders (with all that is below) or globs, of any format that kit reads"
    source.add_argument("--images", nargs="+", metavar="PATH", help=text)
    text = "the records the run was trained on: writes its out-of-fold and test predictions"
    source.add_argument("--records", type=folder, metavar="DIR", help=text)
    parser.add_argument(
        "--out", type=output_file, metavar="F.csv", help="--images: write the table (default: print it)"
    )
    parser.add_argument("--folds", type=numbers, metavar="0,2", help="--images: the models of these folds alone")
    parser.add_argument(
        "--tta",
        choices=["none", "mirror", "flips", "dihedral", "crops", "scales"],
        help="--records: average over 1, 2, 4, 8, 6 or 3 views, which the run keeps (default: the run's)",
    )
    add_settings(parser, "--records: change a setting predict.*, which the run keeps; may be repeated")
    add_trust(parser)


def call(arguments: argparse.Namespace) -> None:
    """Run `kit predict`."""
    if arguments.out and arguments.out.suffix.lower() in (".xlsx", ".xls", ".ods", ".parquet", ".json"):
        raise ConfigError(f"--out {arguments.out}: the table is CSV, so name it {arguments.out.with_suffix('.csv')}")
    if arguments.records:
        from kit.run import Run

        if arguments.out or arguments.folds:
            raise ConfigError("--out and --folds go with --images: predictions of records are files of the run")
        _predict_records(Run(arguments.run, arguments.trust), arguments)
        return
    if arguments.tta or arguments.set:
        raise ConfigError(
            "--tta and --set go with --records: new images are seen in the views that the run was scored with"
        )
    from kit.evaluate.sent import in_cells
    from kit.files import write_text
    from kit.predict.packed import opened
    from kit.stages.predict import predict_images

    with opened(arguments.run) as run:
        with nullcontext() if arguments.out else redirect_stdout(sys.stderr):  # standard output is the table alone
            table, unreadable = predict_images(run, arguments.images, arguments.folds, arguments.trust)
        text = in_cells(run.decision, table).to_csv(index=False)
    if arguments.out:
        write_text(arguments.out, text)
        print(f"{counted(len(table), 'image')}: {arguments.out}")
    else:
        print(text, end="")
    for path, reason in unreadable.items():
        print(f"unreadable {path}: {reason}", file=sys.stderr)


def _predict_records(run: "Run", arguments: argparse.Namespace) -> None:
    from kit.data.records.manifest import open_records
    from kit.stages.predict import predict

    predict(run, open_records(arguments.records), arguments.tta, arguments.set, arguments.trust)
    print(f"written: {run.oof_path}, {run.test_path}")

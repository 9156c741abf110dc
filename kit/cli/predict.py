"""Write a run's out-of-fold and test predictions."""

import argparse
from pathlib import Path

EXAMPLE = "kit predict runs/pcam/first --records records/pcam"


def add(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kit predict`."""
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--records", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--tta",
        choices=["none", "mirror", "flips", "dihedral", "crops", "scales"],
        help="average over 1, 2, 4, 8, 6 or 3 views (default: the config's)",
    )


def call(arguments: argparse.Namespace) -> None:
    """Run `kit predict`."""
    from kit import pipeline
    from kit.data.records.manifest import open_records

    run = arguments.run
    pipeline.predict(run, open_records(arguments.records), arguments.tta)
    print(f"written: {run / 'oof.parquet'}, {run / 'test.parquet'}")

"""`kit report` on as many rows as PCam has: how long it takes, and how much memory.

    python scripts/bench/report.py [--rows 220025] [--labels 1] [--folds 5]

Predictions are synthetic, as in scripts/bench/evaluate.py; every row is a patient of its own. There are no records, so
the page has no pictures. Scores are there before: what is timed is the report in a process of its own.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine
from evaluate import synthetic

from kit import files
from kit.config import load_config
from kit.run import FORMAT_VERSION, Run
from kit.schemas import Folds
from kit.stages.score import score
from kit.tables import probability_columns, truth_columns

CELLS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=220_025)
    parser.add_argument("--labels", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", arguments.rows, arguments.labels, arguments.folds)
        started = time.perf_counter()
        score(run)
        print(f"scores: {time.perf_counter() - started:.1f} s", flush=True)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "kit", "report", str(run)], check=True)
        taken = time.perf_counter() - started
        size = run.report_path.stat().st_size / 1e6
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"report of {arguments.rows} rows, {arguments.labels} labels, {arguments.folds} folds: {taken:.1f} s, "
        f"{memory:.2f} GiB at most, page of {size:.1f} MB"
    )


def write_run(folder, rows, count, folds):
    """A run of PCam's, or with several labels of NIH's, that is predicted and not scored yet."""
    labels = ("tumour",) if count == 1 else tuple(f"finding {n}" for n in range(count))
    y, p = synthetic(rows, count)
    ids, cell = [f"{n:040d}" for n in range(rows)], np.arange(rows) % CELLS
    cells = [list(range(k, CELLS, folds)) for k in range(folds)]
    examples = pd.DataFrame({"id": ids, "path": ids, "bytes": 1, "split": "train", "group": ids, "cell": cell})
    examples = examples.assign(**dict(zip(truth_columns(labels), y.T, strict=True)))
    oof = pd.DataFrame({"id": ids, "fold": cell % folds})
    oof = oof.assign(**dict(zip(probability_columns(labels), p.T, strict=True)))
    run, task = Run(folder), "binary" if count == 1 else "multilabel"
    identity = dict.fromkeys(("training", "test", "image"), "synthetic")
    split = Folds(format_version=FORMAT_VERSION, task=task, labels=labels, cells=CELLS, folds=cells, **identity)
    run.prepare(load_config("pcam" if count == 1 else "nih"), examples, split)
    files.write_parquet(run.oof_path, oof)
    files.write_parquet(run.test_path, oof.iloc[:0])
    return run


if __name__ == "__main__":
    main()

"""Run directories made by hand, with the files that trained folds leave."""

from pathlib import Path

import pandas as pd

from kit import files
from kit.config import Config
from kit.run import FORMAT_VERSION, Run
from kit.schemas import Folds


def write_run(
    folder: Path,
    config: Config,
    examples: pd.DataFrame,
    oof: pd.DataFrame,
    test: pd.DataFrame,
    folds: int,
    task: str = "binary",
    label: str = "tumour",
) -> Run:
    """A run of one label that is predicted: its tables, as they are given, and a stamp of fold 0."""
    run = Run(folder)
    cells = [[k] for k in range(folds)]
    fingerprints = {"training": "training", "test": "test", "image": "image"}
    split = Folds(format_version=FORMAT_VERSION, task=task, labels=(label,), cells=folds, folds=cells, **fingerprints)
    run.prepare(config, examples, split)
    files.write_parquet(run.oof_path, oof)
    files.write_parquet(run.test_path, test)
    files.write_text(run.fold(0).done, "{}")
    return run

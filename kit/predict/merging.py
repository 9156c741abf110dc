"""The prediction files of a run: per fold and merged, out-of-fold and test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from kit import files
from kit.data.table.examples import label_columns
from kit.errors import DataError


def merge(run: Path, folds: Sequence[int]) -> list[Path]:
    """Merge the prediction files of these folds into `oof.parquet` and `test.parquet`; returns their paths."""
    written = []
    for name, merged in (("oof.parquet", merge_oof), ("test.parquet", merge_test)):
        tables = {k: pd.read_parquet(run / f"fold{k}" / name) for k in folds}
        files.write_parquet(run / name, merged(tables))
        written.append(run / name)
    return written


def merge_oof(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Out-of-fold predictions of all folds: columns id, fold, `y_*`, `p_*`; raises DataError for an id with two."""
    merged = _merged(tables)
    twice = merged["id"][merged["id"].duplicated()]
    if len(twice):
        raise DataError(f"{len(twice)} ids were predicted by two folds, such as {twice.iloc[0]}")
    return merged.sort_values("id", ignore_index=True)


def merge_test(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Test predictions of all folds below each other: columns id, fold, `p_*`."""
    merged = _merged(tables)
    return merged.drop(columns=label_columns(merged)).sort_values(["fold", "id"], ignore_index=True)


def mean_over_folds(test: pd.DataFrame) -> pd.DataFrame:
    """One row per id: the mean probability over the folds' models."""
    return test.drop(columns="fold").groupby("id", as_index=False).mean()


def _merged(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(fold=fold) for fold, table in tables.items()]
    merged = pd.concat(numbered, ignore_index=True)
    return merged[["id", "fold", *(column for column in merged.columns if column[:2] in ("y_", "p_"))]]

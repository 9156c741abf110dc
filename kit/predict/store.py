"""The prediction files of a run: per fold and merged, out-of-fold and test."""

from collections.abc import Sequence

import pandas as pd

from kit.data.examples import label_columns
from kit.errors import DataError


def merge_oof(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Out-of-fold predictions of all folds: columns id, fold, `y_*`, `p_*`; raises DataError for an id with two."""
    merged = _merged(tables)
    twice = merged["id"][merged["id"].duplicated()]
    if len(twice):
        raise DataError(f"{len(twice)} ids were predicted by two folds, such as {twice.iloc[0]}")
    return merged.sort_values("id", ignore_index=True)


def merge_test(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Test predictions of all folds below each other: columns id, fold, `p_*`."""
    merged = _merged(tables)
    return merged.drop(columns=label_columns(merged)).sort_values(["fold", "id"], ignore_index=True)


def mean_over_folds(test: pd.DataFrame) -> pd.DataFrame:
    """One row per id: the mean probability over the folds' models."""
    return test.drop(columns="fold").groupby("id", as_index=False).mean()


def _merged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(fold=fold) for fold, table in enumerate(tables)]
    merged = pd.concat(numbered, ignore_index=True)
    return merged[["id", "fold", *(column for column in merged.columns if column[:2] in ("y_", "p_"))]]

"""Predictions of several folds -> one table."""

from collections.abc import Mapping

import pandas as pd

from kit.errors import DataError, counted


def merge_oof(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Out-of-fold predictions of all folds: columns id, fold, `p_*`; raises DataError for an id in two of them."""
    merged = _merged(tables)
    twice = merged["id"][merged["id"].duplicated()]
    if len(twice):
        raise DataError(f"{counted(len(twice), 'id was', 'ids were')} predicted by two folds, such as {twice.iloc[0]}")
    return merged.sort_values("id", ignore_index=True)


def merge_test(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Test predictions of all folds below each other: columns id, fold, `p_*`."""
    return _merged(tables).sort_values(["fold", "id"], ignore_index=True)


def mean_over_folds(test: pd.DataFrame) -> pd.DataFrame:
    """One row per id: the mean probability over the folds' models."""
    return test.drop(columns="fold").groupby("id", as_index=False).mean()


def _merged(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    merged = pd.concat([table.assign(fold=fold) for fold, table in tables.items()], ignore_index=True)
    return merged[["id", "fold", *(column for column in merged.columns if column not in ("id", "fold"))]]

"""Predictions of several folds -> one table."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from kit.boxes import boxes_of, nothing, with_boxes
from kit.config.predict import PredictSettings
from kit.errors import DataError, counted
from kit.evaluate.boxes.merging import fuse
from kit.tables import predicted_labels, probability_columns
from kit.tasks import find_task


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


def over_folds(test: pd.DataFrame, labels: Sequence[str], task: str, settings: PredictSettings) -> pd.DataFrame:
    """One row per id, sorted: the mean probability over the folds' models, or their boxes fused."""
    return _OVER_FOLDS[find_task(task).prediction](test, labels, settings)


def _mean(test: pd.DataFrame, labels: Sequence[str], settings: PredictSettings) -> pd.DataFrame:
    return test.drop(columns="fold").groupby("id", as_index=False).mean()


def _fused(test: pd.DataFrame, labels: Sequence[str], settings: PredictSettings) -> pd.DataFrame:
    """Boxes of all folds as one; columns `p_*`, by which they may be weighed, are averaged."""
    columns = probability_columns(predicted_labels(test))
    table = test[["id", *columns]].groupby("id", as_index=False).mean()
    parts = [rows.set_index("id").reindex(table["id"]) for _, rows in test.groupby("fold")]
    boxes = [boxes_of(part, labels) for part in parts]
    return with_boxes(table, fuse(boxes, settings.boxes) if boxes else nothing(0), labels)


_OVER_FOLDS: dict[str, Callable[[pd.DataFrame, Sequence[str], PredictSettings], pd.DataFrame]] = {
    "probabilities": _mean,
    "boxes": _fused,
}


def _merged(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    merged = pd.concat([table.assign(fold=fold) for fold, table in tables.items()], ignore_index=True)
    return merged[["id", "fold", *(column for column in merged.columns if column not in ("id", "fold"))]]

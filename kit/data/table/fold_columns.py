"""Folds that a column deals: whole hospitals, scanners or years are left out, or the folds are the user's own.

Each value of the column becomes a cell, in their order (numbers as numbers). With as many folds as values each is left
out by itself, and fold k is the k-th value.
"""

from dataclasses import replace

import pandas as pd

from kit.data.table.cells import CELLS, assign_cells
from kit.data.table.examples import Examples
from kit.errors import ConfigError, DataError, counted, nearest, some
from kit.tables import FOLD_OF, is_metadata


def deal_by(examples: Examples, column: str) -> Examples:
    """The examples with a column `fold_of`, the value of `column` of each training image.

    Raises ConfigError where the example table has no such column, and what `require_dealt` does.
    """
    table = examples.table
    known = list(filter(is_metadata, table.columns))
    if column not in known:
        remedy = "; of your own table, name it in columns.metadata"
        raise ConfigError(f"fold_by: the example table has no column {column!r}{nearest(column, known)}{remedy}")
    texts = table[column].map(_as_text).where(table["split"] == "train")
    dealt = replace(examples, table=table.assign(**{FOLD_OF: texts.astype(object).where(texts.notna(), None)}))
    require_dealt(dealt, f"fold_by = {column}")
    return dealt


def require_dealt(examples: Examples, setting: str) -> None:
    """Raise DataError for training images without a value, a single value, and a group (patient) of several values."""
    train = examples.table[examples.table["split"] == "train"]
    values = train[FOLD_OF]
    if (absent := values.isna() | (values.astype(str) == "")).any():
        images = counted(int(absent.sum()), "training image has", "training images have")
        raise DataError(f"{setting}: {images} no value: {some(train['id'][absent])}")
    if values.nunique() < 2:
        raise DataError(f"{setting}: all training images have the value {values.iloc[0]!r}, so none can be left out")
    pairs = train[["group", FOLD_OF]].drop_duplicates()
    if len(several := pairs[pairs["group"].duplicated(keep=False)]):
        first = several["group"].iloc[0]
        of_first = some(several[FOLD_OF][several["group"] == first])
        groups = counted(several["group"].nunique(), "group (patient) has", "groups (patients) have")
        raise DataError(
            f"{setting}: {groups} images of several values, such as {first} ({of_first}): no fold splits one"
        )


def deal_cells(table: pd.DataFrame) -> pd.Series:
    """The cell (int64) of every row of a training table: by its column `fold_of` where it has one, else by groups."""
    if FOLD_OF not in table.columns:
        return assign_cells(table)
    values = values_of(table)
    if len(values) > CELLS:
        return assign_cells(table.assign(group=table[FOLD_OF]))
    return table[FOLD_OF].map({value: n for n, value in enumerate(values)}).astype("int64")


def values_of(table: pd.DataFrame) -> list[str]:
    """The values that deal a training table, in order."""
    values = table[FOLD_OF].unique().tolist()
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def require_folds(table: pd.DataFrame, folds: int, fixed: bool) -> None:
    """Raise ConfigError for more folds than values that deal a training table or, where these are `fixed`, others."""
    if FOLD_OF not in table.columns:
        return
    values = values_of(table)
    if folds > len(values) or (fixed and folds != len(values)):
        what = "columns.fold" if fixed else "fold_by"
        raise ConfigError(
            f"folds = {folds}, but {what} has {len(values)} values ({some(values, 8)}): --set folds={len(values)}"
        )


def _as_text(value: object) -> str | None:
    """A cell as text, 2021.0 as 2021; None where there is none."""
    if value is None or value != value or value is pd.NaT:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

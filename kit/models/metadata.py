"""Metadata columns of an example table -> numbers for a model: values, codes of categories, how far out in the group.

The encoding is fitted on training rows and saved with the model as JSON. Labels, ids and whatever else describes the
table itself are refused as metadata: they tell the answer, or nothing.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from kit.errors import ConfigError, DataError, nearest, some
from kit.tables import is_metadata, truth

log = logging.getLogger(__name__)

_MOST_CATEGORIES = 256
_FEW = 20  # rows that a column has to tell the labels of before it looks like the answer


class Column(BaseModel):
    """A metadata column: numbers, or the names of its categories, sorted; their places are their codes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    categories: tuple[str, ...] | None = None


class Metadata(BaseModel):
    """How metadata columns become features.

    Features are the columns' values; with `per_group` also each numeric column's z-score within the row's group, and
    the group's size. `fill` stands for a missing value of each feature: the median of the training rows, or None, which
    leaves NaN, where training rows lacked it too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[Column, ...] = ()
    per_group: bool = False
    fill: tuple[FiniteFloat | None, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> "Metadata":
        if len(self.fill) != len(self.features):
            raise ValueError(f"fill has {len(self.fill)} values for {len(self.features)} features")
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return _names(self.columns, self.per_group)

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """The features of rows of an example table, float64 [n, features]; a category that is new is missing.

        The rows must hold their groups whole. Raises DataError for a column that is absent, or no number where numbers
        are expected.
        """
        values = _matrix(table, self.columns, self.per_group)
        fill = np.array([np.nan if value is None else value for value in self.fill], np.float64)
        return np.where(np.isnan(values), fill, values)

    def blank(self, rows: int) -> pd.DataFrame:
        """A table of so many rows, each a group of its own, without any value."""
        return pd.DataFrame({"group": np.arange(rows), **{column.name: np.nan for column in self.columns}})


def fit_metadata(table: pd.DataFrame, names: Sequence[str], per_group: bool) -> Metadata:
    """The encoding of the columns `names` of training rows, which hold their groups whole."""
    columns = tuple(_column(table, name) for name in names)
    values = _matrix(table, columns, per_group)
    complete = ~np.isnan(values).any(axis=0) & (len(values) > 0)
    fill = tuple(float(np.median(each)) if whole else None for each, whole in zip(values.T, complete, strict=True))
    return Metadata(columns=columns, per_group=per_group, fill=fill)


def check_metadata(table: pd.DataFrame, names: Sequence[str], labels: Sequence[str]) -> None:
    """Raise ConfigError, naming the setting, for columns of an example table that cannot be used as metadata.

    That is: unknown ones, those of labels, ids and predictions, one that is empty in the training or the test set, and
    texts that are names rather than categories.
    """
    usable = [str(name) for name in table.columns if not _is_own(str(name), labels)]
    for name in names:
        what = f"model.arguments.metadata: {name!r}"
        if _is_own(name, labels):
            raise ConfigError(f"{what} is no metadata: it is a label, or names or counts images; leave it out")
        if name not in usable:
            known = nearest(name, usable) if usable else "; it has no metadata column"
            raise ConfigError(f"{what} is no column of the example table{known}")
        if names.count(name) > 1:
            raise ConfigError(f"{what} is named twice")
        for split in ("train", "test"):
            rows = table.loc[table["split"] == split, name]
            if len(rows) and rows.isna().all():
                raise ConfigError(f"{what} has no value in the {split} set: leave it out, or add it to the {split} set")
        try:
            _values(table, _column(table[table["split"] == "train"], name))
        except DataError as error:
            raise ConfigError(f"model.arguments.metadata: {error}") from error


def remark_on_answer(train: pd.DataFrame, name: str, labels: Sequence[str]) -> None:
    """Log that a column tells a label of every training row, where it does: perhaps it was filled in afterwards."""
    values, present = train[name].astype(str).to_numpy(), train[name].notna().to_numpy()
    for label, y in zip(labels, truth(train, labels).T, strict=True):
        rows = present & ~np.isnan(y)
        each = pd.Series(y[rows] > 0.5).groupby(values[rows])
        few = rows.sum() < _FEW or each.ngroups > rows.sum() / 2 or len(np.unique(y[rows] > 0.5)) < 2
        if not few and (each.nunique() == 1).all():
            log.warning(
                f"model.arguments.metadata: {name!r} alone tells {label!r} of all {rows.sum()} training images: is it "
                "there before the answer is?"
            )


def z_scores(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many standard deviations each value [n, columns] lies from the mean of its group, float64.

    The deviation is that of the population. NaN where the value is missing or the group has one value; 0 where all
    values of the group are equal.
    """
    values = np.asarray(values, np.float64)
    frame = pd.DataFrame(values).groupby(pd.factorize(groups)[0])
    mean, count = frame.transform("mean").to_numpy(), frame.transform("count").to_numpy()
    deviation = frame.transform("std", ddof=0).to_numpy()
    equal = deviation <= 1e-12 * np.maximum(1, np.abs(mean))  # rounding of a constant
    z = np.where(equal, 0.0, (values - mean) / np.where(equal, 1.0, deviation))
    return np.where((count < 2) | np.isnan(values), np.nan, z)


def group_sizes(groups: np.ndarray) -> np.ndarray:
    """The number of rows of each row's group, float64 [n]."""
    codes = pd.factorize(groups)[0]
    return np.bincount(codes)[codes].astype(np.float64) if len(codes) else np.empty(0)


def _is_own(name: str, labels: Sequence[str]) -> bool:
    return not is_metadata(name) or name.casefold() in {each.casefold() for each in labels}


def _names(columns: Sequence[Column], per_group: bool) -> tuple[str, ...]:
    own = tuple(column.name for column in columns)
    if not per_group:
        return own
    return (*own, *(f"{each.name} in group" for each in columns if each.categories is None), "size of group")


def _matrix(table: pd.DataFrame, columns: Sequence[Column], per_group: bool) -> np.ndarray:
    values = np.empty((len(table), len(columns)), np.float64)
    for n, column in enumerate(columns):
        values[:, n] = _values(table, column)
    if not per_group:
        return values
    groups = table["group"].to_numpy()
    numeric = values[:, [column.categories is None for column in columns]]
    return np.column_stack([values, z_scores(numeric, groups), group_sizes(groups)])


def _column(table: pd.DataFrame, name: str) -> Column:
    series = _require(table, name)
    if _numbers(series) is not None:
        return Column(name=name)
    texts = series.dropna()
    if not texts.map(lambda value: isinstance(value, str | bool | int | float)).all():
        raise DataError(f"the column {name!r} holds values that are neither numbers nor texts: leave it out")
    categories = sorted({str(text) for text in texts})
    if len(categories) > _MOST_CATEGORIES:
        raise DataError(
            f"the column {name!r} has {len(categories)} different texts, such as {some(categories)}: names rather than "
            "categories; leave it out"
        )
    return Column(name=name, categories=tuple(categories))


def _values(table: pd.DataFrame, column: Column) -> np.ndarray:
    series = _require(table, column.name)
    if column.categories is not None:
        codes = {text: float(code) for code, text in enumerate(column.categories)}
        return np.array([np.nan if missing else codes.get(str(value), np.nan) for value, missing in _cells(series)])
    numbers = _numbers(series)
    if numbers is None:
        bad = int(np.flatnonzero(pd.to_numeric(series, errors="coerce").isna() & series.notna())[0])
        row = table.iloc[bad]
        raise DataError(
            f"the column {column.name!r} holds numbers, but {row[column.name]!r} for the image {row['id']}: correct it"
        )
    return numbers


def _cells(series: pd.Series) -> list[tuple[object, bool]]:
    return list(zip(series.tolist(), series.isna().tolist(), strict=True))


def _require(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        raise DataError(
            f"the example table has no column {name!r}, which the model was trained with: add it, or train without it"
        )
    return table[name]


def _numbers(series: pd.Series) -> np.ndarray | None:
    """The column as float64, infinite values as missing; None where it does not hold numbers."""
    if pd.api.types.is_datetime64_any_dtype(series) or pd.api.types.is_timedelta64_dtype(series):
        return None
    try:
        numbers = pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return None
    return np.where(np.isfinite(numbers), numbers, np.nan)

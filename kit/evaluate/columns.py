"""What the columns of the arrays [rows, labels] are that a metric takes, and statistics of resamples of such rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.errors import ConfigError, nearest

# How often each group is drawn (int [groups]) -> float64 [1 + labels]: the metric, then that of each label alone.
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Columns:
    """The names of the labels, none where nothing depends on them, and whether they are `exclusive` classes."""

    labels: tuple[str, ...] = ()
    exclusive: bool = False

    def only(self, places: Sequence[int]) -> "Columns":
        """Some of the columns; they exclude each other no more."""
        if len(places) == len(self.labels):
            return self
        return Columns(tuple(self.labels[n] for n in places) if self.labels else ())


def weights_of(columns: Columns, count: int, weights: Mapping[str, float]) -> np.ndarray:
    """The weight of each of `count` labels, float64: 1 where `weights` does not name it."""
    names = columns.labels or ("",) * count
    return np.array([float(weights.get(name, 1.0)) for name in names])


def require_labels(option: str, names: Any, labels: Sequence[str]) -> None:
    """Raise ConfigError for a name that is none of the labels."""
    for name in names:
        if name not in labels:
            raise ConfigError(f"metric_options.{option}: there is no label {name!r}{nearest(str(name), labels)}")


def group_sums(values: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Sums of the rows of each group: float [rows, ...] -> float64 [groups, ...]."""
    groups, flat = int(group_of.max()) + 1 if len(group_of) else 0, values.reshape(len(values), -1)
    sums = [np.bincount(group_of, column, groups) for column in flat.T]
    return np.stack(sums, axis=1).reshape(groups, *values.shape[1:])


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(whole) > 0, part / whole, np.nan)


def weighted_mean(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The mean of the values that are defined; NaN of none."""
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan")
    return float(np.average(values[defined], weights=None if weights is None else weights[defined]))


def with_mean(each: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The (weighted) mean of the labels for which the metric is defined, then the value of each label."""
    return np.append(weighted_mean(each, weights), each)

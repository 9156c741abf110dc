"""Bootstrap intervals that resample groups (patients), because rows of one group are not independent.

A resample is how often each group is drawn. Whatever does not depend on it (the order of the scores, each group's
losses) is computed once, so that a resample costs only a few passes over memory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from kit.evaluate import metrics
from kit.evaluate.boxes import metrics as box_metrics
from kit.evaluate.columns import Statistic, with_mean

__all__ = ["Statistic", "by_group", "interval", "numbered", "resample", "share_above", "statistic"]


def statistic(metric: metrics.Metric, y: Any, p: Any, group_of: np.ndarray, labels: int | None = None) -> Statistic:
    """The metric of any resample of rows; `group_of` (int [rows]) is the number of each row's group.

    `labels`: how many there are, for boxes cannot tell (None: those that occur).
    """
    if metric.name not in _BOXES:
        return metric.statistic(y, p, group_of)
    of_label = partial(_BOXES[metric.name], **metric.options)
    each = by_group(box_metrics.each_label(of_label, y, p, labels), group_of)
    return lambda times: with_mean(each(times)[:, 0])


def by_group(value: Callable[[np.ndarray], np.ndarray], group_of: np.ndarray) -> Statistic:
    """A function of how often each row counts, such as those of kit.evaluate.boxes.metrics, for resamples of groups."""
    return lambda times: value(times[group_of])


def resample(statistics: Sequence[Statistic], groups: int, resamples: int, seed: int = 0) -> np.ndarray:
    """All statistics on the same resamples: float64 [resamples, statistics, 1 + labels].

    A resample draws as many groups as there are, with replacement, and takes all rows of each (Efron & Tibshirani 1993,
    ch. 13).
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in tqdm(range(resamples), desc="bootstrap", leave=False, disable=None):
        times = np.bincount(rng.integers(0, groups, groups), minlength=groups)
        values.append([of_rows(times) for of_rows in statistics])
    return np.array(values)


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval of resampled values (float [resamples]); undefined ones are left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def share_above(differences: np.ndarray) -> float:
    """The share of resampled differences above 0, ties counting half; NaN when none is defined."""
    defined = differences[~np.isnan(differences)]
    return float(np.mean((defined > 0) + (defined == 0) / 2)) if len(defined) else float("nan")


def numbered(groups: np.ndarray) -> tuple[np.ndarray, int]:
    """Each row's group as a number from 0 (int [rows]), and how many there are."""
    names, group_of = np.unique(groups, return_inverse=True)
    return group_of, len(names)


_BOXES: dict[str, Callable[..., box_metrics.Weighed]] = {
    "rsna_mean_average_precision": box_metrics.rsna_of,
    "box_ap50": box_metrics.ap50_of,
    "box_ap": box_metrics.ap_of,
}

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

# How often each group is drawn (int [groups]) -> float64 [1 + labels]: the metric, then that of each label alone.
Statistic = Callable[[np.ndarray], np.ndarray]


def statistic(metric: metrics.Metric, y: Any, p: Any, group_of: np.ndarray, labels: int | None = None) -> Statistic:
    """The metric of any resample of rows; `group_of` (int [rows]) is the number of each row's group.

    `labels`: how many there are, for boxes cannot tell (None: those that occur).
    """
    if metric.name in _BOXES:
        of_label = partial(_BOXES[metric.name], **metric.options)
        each = by_group(box_metrics.each_label(of_label, y, p, labels), group_of)
        return lambda times: _with_mean(each(times)[:, 0])
    if metric.name in _LOSSES:
        summed = y.shape[1] if metric.name == "multiclass_log_loss" else 1
        return _mean_statistic(_LOSSES[metric.name](y, p), group_of, summed)
    if metric.name not in _CURVES:
        return _drawn(metric, y, p, group_of)
    curve = _CURVES[metric.name]
    curves = []
    for truth, score in zip(y.T, p.T, strict=True):
        labelled = ~np.isnan(truth)
        curves.append(curve(truth[labelled] > 0.5, score[labelled], group_of[labelled]))
    return lambda times: _with_mean(np.array([of_label(times) for of_label in curves]))


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


def _drawn(metric: metrics.Metric, y: np.ndarray, p: np.ndarray, group_of: np.ndarray) -> Statistic:
    """Of a metric that is known as a function alone: its value for the rows that are drawn, and for each label."""

    def value(times: np.ndarray) -> np.ndarray:
        rows = np.repeat(np.arange(len(group_of)), times[group_of])
        truth, score = y[rows], p[rows]
        whole = metric(truth, score)
        labels = range(y.shape[1])
        each = [metric(truth[:, [n]], score[:, [n]]) for n in labels] if len(labels) > 1 else [whole]
        return np.array([whole, *each])

    return value


def _with_mean(each: np.ndarray) -> np.ndarray:
    """The mean of the labels for which the metric is defined, then the value of each label."""
    return np.append(box_metrics.mean_of_defined(each), each)


def _mean_statistic(losses: np.ndarray, group_of: np.ndarray, summed: int) -> Statistic:
    """A mean of losses [rows, labels], from each group's sums; over all labels it is multiplied by `summed`."""
    defined = ~np.isnan(losses)
    groups = int(group_of.max()) + 1
    sums, counts = (
        np.column_stack([np.bincount(group_of, column, groups) for column in values.T])
        for values in (np.where(defined, losses, 0.0), defined.astype(np.float64))
    )

    def value(times: np.ndarray) -> np.ndarray:
        total, count = times @ sums, times @ counts
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.concatenate([[summed * total.sum() / count.sum()], total / count])

    return value


def _roc_curve(positive: np.ndarray, score: np.ndarray, group_of: np.ndarray) -> Callable[[np.ndarray], float]:
    """The share of pairs of a positive and a negative that are in order, ties counting half (Hanley & McNeil 1982)."""
    negative = np.argsort(score[~positive], kind="stable")
    ordered, of_negative = score[~positive][negative], group_of[~positive][negative]
    below, upto = (np.searchsorted(ordered, score[positive], side) for side in ("left", "right"))
    of_positive = group_of[positive]

    def value(times: np.ndarray) -> float:
        weights = times[of_positive]
        before = np.concatenate([[0], np.cumsum(times[of_negative])])
        pairs = float(weights.sum()) * float(before[-1])
        return float(weights @ (before[below] + before[upto])) / 2 / pairs if pairs else float("nan")

    return value


def _precision_curve(positive: np.ndarray, score: np.ndarray, group_of: np.ndarray) -> Callable[[np.ndarray], float]:
    """Average precision: the mean over positives of the precision at their score, as scikit-learn takes it."""
    order = np.argsort(-score[positive], kind="stable")
    scores, of_positive = score[positive][order], group_of[positive][order]
    others = np.argsort(-score[~positive], kind="stable")
    of_negative = group_of[~positive][others]
    same = np.searchsorted(-scores, -scores, "right")
    above = np.searchsorted(-score[~positive][others], -scores, "right")

    def value(times: np.ndarray) -> float:
        weights = times[of_positive]
        hits = np.concatenate([[0], np.cumsum(weights)])
        misses = np.concatenate([[0], np.cumsum(times[of_negative])])
        if not hits[-1] or not misses[-1]:
            return float("nan")
        taken = weights > 0
        recalled = hits[same][taken]
        return float(weights[taken] @ (recalled / (recalled + misses[above][taken])) / hits[-1])

    return value


_BOXES: dict[str, Callable[..., box_metrics.Weighed]] = {
    "rsna_mean_average_precision": box_metrics.rsna_of,
    "box_ap50": box_metrics.ap50_of,
    "box_ap": box_metrics.ap_of,
}
_LOSSES = {"log_loss": metrics.log_losses, "multiclass_log_loss": metrics.class_losses, "brier": metrics.squared_errors}
_CURVES = {"roc_auc": _roc_curve, "average_precision": _precision_curve}

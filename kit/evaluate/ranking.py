"""Metrics of how predictions are ranked, as functions of how often each group is drawn (`Statistic`).

What does not depend on that, the order of the scores, is computed once. An unknown label (NaN) is left out.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from kit.evaluate.columns import Columns, Statistic, weights_of, with_mean

# How often each group is drawn -> the value of one label.
Curve = Callable[[np.ndarray], float]
# Of one label: bool [n], score [n] and the number of each row's group [n] -> its curve.
MakeCurve = Callable[[np.ndarray, np.ndarray, np.ndarray], Curve]


def roc_auc_of(
    y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns, weights: Mapping[str, float] | None = None
) -> Statistic:
    """Area under the ROC curve, the mean over the labels, which may be weighed.

    RSNA's Intracranial Aneurysm Detection (2025) weighs the label of any aneurysm 13, those of the 13 places 1 each.
    """
    return _over_labels(_roc_curve, y, p, group_of, weights_of(columns, y.shape[1], weights or {}))


def average_precision_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """Average precision, as scikit-learn takes it, the mean over the labels."""
    return _over_labels(_precision_curve, y, p, group_of)


def partial_auc_of(
    y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns, above: float = 0.8
) -> Statistic:
    """The area under the ROC curve and above a true-positive rate, from 0 to 1 - `above`; the mean over the labels.

    The metric of ISIC 2024, with .8.
    """
    return _over_labels(partial(_partial_curve, above=above), y, p, group_of)


def c_index_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """Harrell's concordance (1982): how many pairs, of which one is known to have its event first, are ranked so.

    The labels are "event by month 12", "by month 24", ...: 0 where it came later, NaN from where a patient was lost to
    follow-up on. The risk is the sum of the probabilities (the less survival in that time, the more). Ties of the risk
    count half; of a label alone it is the ROC AUC.
    """
    risk = np.asarray(p.sum(axis=1, dtype=np.float64))
    has_event = (y > 0.5).any(axis=1)
    first = np.where(has_event, (y > 0.5).argmax(axis=1), -1)
    pairs = []
    for k in range(y.shape[1]):
        event, later = np.equal(first, k), np.less(y[:, k], 0.5)
        rows = event | later
        pairs.append(_pairs(event[rows], risk[rows], group_of[rows]))
    alone = _over_labels(_roc_curve, y, p, group_of)

    def value(times: np.ndarray) -> np.ndarray:
        ordered, count = map(sum, zip(*(of_label(times) for of_label in pairs), strict=True))
        return np.append(ordered / count if count else np.nan, alone(times)[1:])

    return value


def _over_labels(
    curve: MakeCurve, y: np.ndarray, p: np.ndarray, group_of: np.ndarray, weights: np.ndarray | None = None
) -> Statistic:
    curves = []
    for truth, score in zip(y.T, p.T, strict=True):
        labelled = ~np.isnan(truth)
        curves.append(curve(truth[labelled] > 0.5, score[labelled], group_of[labelled]))
    return lambda times: with_mean(np.array([of_label(times) for of_label in curves]), weights)


def _pairs(
    positive: np.ndarray, score: np.ndarray, group_of: np.ndarray
) -> Callable[[np.ndarray], tuple[float, float]]:
    """The pairs of a positive and a negative that are in order, ties counting half, and all such pairs."""
    negative = np.argsort(score[~positive], kind="stable")
    ordered, of_negative = score[~positive][negative], group_of[~positive][negative]
    below, upto = (np.searchsorted(ordered, score[positive], side) for side in ("left", "right"))
    of_positive = group_of[positive]

    def value(times: np.ndarray) -> tuple[float, float]:
        weights = times[of_positive]
        before = np.concatenate([[0], np.cumsum(times[of_negative])])
        return float(weights @ (before[below] + before[upto])) / 2, float(weights.sum()) * float(before[-1])

    return value


def _roc_curve(positive: np.ndarray, score: np.ndarray, group_of: np.ndarray) -> Curve:
    """The share of pairs of a positive and a negative that are in order (Hanley & McNeil 1982)."""
    pairs = _pairs(positive, score, group_of)

    def value(times: np.ndarray) -> float:
        ordered, count = pairs(times)
        return ordered / count if count else float("nan")

    return value


def _precision_curve(positive: np.ndarray, score: np.ndarray, group_of: np.ndarray) -> Curve:
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


def _partial_curve(positive: np.ndarray, score: np.ndarray, group_of: np.ndarray, above: float) -> Curve:
    """The specificity, integrated over the share of positives that are missed, from 0 to 1 - `above`."""
    order = np.argsort(score, kind="stable")
    rising, of_row, is_positive = score[order], group_of[order], positive[order]
    last = np.flatnonzero(np.append(rising[1:] > rising[:-1], True))[: len(rising)]  # rows of one score go together

    def value(times: np.ndarray) -> float:
        weights = times[of_row]
        missed, passed = (
            np.concatenate([[0], np.cumsum(weights * side)[last]]) for side in (is_positive, ~is_positive)
        )
        if not missed[-1] or not passed[-1]:
            return float("nan")
        x, specificity = missed / missed[-1], passed / passed[-1]
        stop = int(np.searchsorted(x, 1 - above, "right"))
        if stop < len(x):
            part = (1 - above - x[stop - 1]) / (x[stop] - x[stop - 1])
            end = specificity[stop - 1] + part * (specificity[stop] - specificity[stop - 1])
            x, specificity = np.append(x[:stop], 1 - above), np.append(specificity[:stop], end)
        return float((np.diff(x) * (specificity[1:] + specificity[:-1])).sum() / 2)

    return value

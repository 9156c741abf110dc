"""Where to cut a probability: the threshold with the largest F1, and its worth on rows that did not choose it."""

import numpy as np
from sklearn.metrics import f1_score, precision_recall_curve


def max_f1_threshold(y: np.ndarray, p: np.ndarray) -> float:
    """The score t for which `p >= t` has the largest F1, the largest such t; exact over all distinct scores.

    `y` 0/1 [rows], `p` [rows]. Without a positive row F1 is 0 everywhere; the answer is then the largest score.
    """
    if not np.any(y):
        return float(np.max(p))
    precision, recall, thresholds = precision_recall_curve(y, p)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]  # equal F1 by different roundings is a tie
    return float(thresholds[best])


def f1_at(y: np.ndarray, p: np.ndarray, threshold: float) -> float:
    """F1 of `p >= threshold`; 0 when there is no positive row or none is called positive."""
    return float(f1_score(y, p >= threshold, zero_division=0))


def cross_validated_f1(y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> float:
    """F1 over all rows when each fold is cut at the threshold that the other folds choose: an honest estimate.

    NaN when there is one fold only, as nothing else could choose.
    """
    if len(np.unique(fold)) < 2:
        return float("nan")
    called = np.zeros(len(y), bool)
    for k in np.unique(fold):
        inside = fold == k
        called[inside] = p[inside] >= max_f1_threshold(y[~inside], p[~inside])
    return float(f1_score(y, called, zero_division=0))

"""Metrics of probabilities against labels; arrays [rows, labels], unknown labels (NaN) left out."""

from collections.abc import Callable

import numpy as np
from sklearn import metrics as sk

Metric = Callable[[np.ndarray, np.ndarray], float]


def roc_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve, the mean over the labels where it is defined (both classes occur); NaN if none is."""
    return _mean_over_labels(sk.roc_auc_score, y, p)


def weighted_roc_auc(y: np.ndarray, p: np.ndarray) -> Callable[[np.ndarray], float]:
    """`roc_auc` of the same rows for one weighting (float or int [rows]) after another; the scores are sorted once.

    The share of pairs of a positive and a negative that are in order, ties counting half (Hanley & McNeil 1982).
    """
    labels = []
    for truth, score in zip(y.T, p.T, strict=True):
        rows = np.flatnonzero(~np.isnan(truth))
        rows = rows[np.argsort(score[rows], kind="stable")]
        ties = np.cumsum(np.diff(score[rows], prepend=score[rows[:1]]) > 0)  # rows of one score have one number
        labels.append((rows, ties, truth[rows] > 0.5))

    def value(weights: np.ndarray) -> float:
        values = []
        for rows, ties, positive in labels:
            weight = weights[rows]
            positives, every = np.bincount(ties, weight * positive), np.bincount(ties, weight)
            negatives = every - positives
            pairs = positives.sum() * negatives.sum()
            if pairs:
                below = np.cumsum(negatives) - negatives
                values.append(float((positives * (below + negatives / 2)).sum() / pairs))
        return float(np.mean(values)) if values else float("nan")

    return value


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision (scikit-learn's), the mean over the labels for which it is defined."""
    return _mean_over_labels(sk.average_precision_score, y, p)


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Binary cross-entropy in nats, the mean over all known labels; probabilities clipped to [1e-7, 1 - 1e-7]."""
    known = ~np.isnan(y)
    clipped = np.clip(p[known].astype(np.float64), 1e-7, 1 - 1e-7)
    return float(np.mean(-np.where(y[known] > 0.5, np.log(clipped), np.log1p(-clipped))))


def accuracy(y: np.ndarray, p: np.ndarray, task: str) -> float:
    """The share of rows whose likeliest class is theirs (multiclass), else of known labels on their side of .5.

    As MedMNIST's benchmark defines ACC (Yang et al. 2023): its multi-label ACC is the mean over all labels too.
    """
    if task == "multiclass":
        known = ~np.isnan(y).any(axis=1)
        return float(np.mean(y[known].argmax(axis=1) == p[known].argmax(axis=1)))
    known = ~np.isnan(y)
    return float(np.mean((y[known] > 0.5) == (p[known] > 0.5)))


METRICS: dict[str, Metric] = {"roc_auc": roc_auc, "average_precision": average_precision, "log_loss": log_loss}


def _mean_over_labels(metric: Callable[..., float], y: np.ndarray, p: np.ndarray) -> float:
    values = []
    for truth, score in zip(y.T, p.T, strict=True):
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            values.append(float(metric(truth[known], score[known])))
    return float(np.mean(values)) if values else float("nan")

"""The variance of ROC AUC without resampling (DeLong et al. 1988): a cross-check of the bootstrap.

It assumes independent rows, so it is valid only where every group has a single row.
"""

import numpy as np

from kit.lazy import lazy

stats = lazy("scipy.stats")


def delong(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC AUC of each score, and their covariance: `positive` bool [rows], `scores` [models, rows] -> [M], [M, M].

    In O(n log n) by midranks (Sun & Xu 2014, algorithm 2). NaN unless each class has two rows.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    pooled = np.stack([stats.rankdata(score) for score in scores])
    of_positives = np.stack([stats.rankdata(score) for score in scores[:, positive]])
    of_negatives = np.stack([stats.rankdata(score) for score in scores[:, ~positive]])
    v10 = (pooled[:, positive] - of_positives) / n  # of each positive: the share of negatives below it
    v01 = 1 - (pooled[:, ~positive] - of_negatives) / m
    covariance = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return v10.mean(axis=1), covariance


def delong_interval(positive: np.ndarray, score: np.ndarray, confidence: float) -> tuple[float, float]:
    """The normal interval of one ROC AUC, cut at 0 and 1."""
    values, covariance = delong(positive, score[None])
    width = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(covariance[0, 0])
    low, high = np.clip([values[0] - width, values[0] + width], 0, 1)  # which leaves NaN as it is
    return float(low), float(high)

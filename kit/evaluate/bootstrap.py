"""Bootstrap intervals that resample groups (patients), because rows of one group are not independent."""

import numpy as np
from tqdm import tqdm

from kit.evaluate.metrics import Metric


def bootstrap(
    metric: Metric, y: np.ndarray, p: np.ndarray, groups: np.ndarray, resamples: int, confidence: float, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval (low, high) of `metric(y, p)`, arrays [rows, labels] (Efron & Tibshirani 1993, ch. 13).

    Every resample draws as many groups as there are, with replacement, and takes all rows of each. Resamples in which
    the metric is not defined are left out; NaN, NaN when it is defined in none.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(inverse.max() + 2))
    sizes = np.diff(starts)
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for n in tqdm(range(resamples), desc="bootstrap", leave=False, disable=None):
        drawn = rng.integers(0, len(sizes), len(sizes))
        # rows of all drawn groups: each group's start, plus 0 .. size - 1
        counts = sizes[drawn]
        rows = order[np.repeat(starts[drawn] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())]
        values[n] = metric(y[rows], p[rows])
    tail = (1 - confidence) / 2
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)

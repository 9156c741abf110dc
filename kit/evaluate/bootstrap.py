"""Bootstrap intervals that resample groups (patients), because rows of one group are not independent."""

import numpy as np
from tqdm import tqdm

from kit.evaluate.metrics import Metric, roc_auc, weighted_roc_auc


def bootstrap(
    metric: Metric, y: np.ndarray, p: np.ndarray, groups: np.ndarray, resamples: int, confidence: float, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval (low, high) of `metric(y, p)`, arrays [rows, labels] (Efron & Tibshirani 1993, ch. 13).

    Every resample draws as many groups as there are, with replacement, and takes all rows of each. Resamples in which
    the metric is not defined are left out; NaN, NaN when it is defined in none.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    count = int(group_of.max()) + 1

    def of_rows(times: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(y)), times)
        return metric(y[rows], p[rows])

    value = weighted_roc_auc(y, p) if metric is roc_auc else of_rows  # scikit-learn would sort again at every call
    rng = np.random.default_rng(seed)
    values = np.empty(resamples)
    for n in tqdm(range(resamples), desc="bootstrap", leave=False, disable=None):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[group_of]  # each row is taken
        values[n] = value(times)
    tail = (1 - confidence) / 2
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)

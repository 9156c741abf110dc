"""Probabilities that mean what they say: calibrators, how far off they are, and a test set with another prevalence.

Probabilities are float [rows, labels]; of classes (multiclass) a row sums to 1. Unknown labels are NaN.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kit.evaluate.metrics import log_loss

Calibrator = Callable[[np.ndarray], np.ndarray]  # probabilities [rows, labels] -> the same shape
_EPS = 1e-7


def fit(kind: str, y: np.ndarray, p: np.ndarray, task: str) -> Calibrator:
    """A calibrator (`KINDS`) fitted on labels and probabilities, both [rows, labels].

    `temperature` (Guo et al. 2017) has one number for all labels; the others fit each label, or class against the rest,
    and classes are scaled to sum to 1 again. A label is left as it is when one class of it occurs, or its scores say
    nothing or the contrary of it (a curve that falls, or has one step).
    """
    if kind == "none":
        return lambda given: given
    if kind == "temperature":
        return _temperature(y, p, task)
    each = [_KINDS[kind](y[:, n], p[:, n]) for n in range(y.shape[1])]

    def calibrate(given: np.ndarray) -> np.ndarray:
        return normalised(np.column_stack([one(given[:, n]) for n, one in enumerate(each)]), task)

    return calibrate


def cross_fitted(kind: str, y: np.ndarray, p: np.ndarray, fold: np.ndarray, task: str) -> np.ndarray:
    """The probabilities when each fold is calibrated by what the other folds fit: an honest estimate needs it."""
    calibrated = np.empty(p.shape, np.float64)
    for k in np.unique(fold):
        inside = fold == k
        calibrated[inside] = fit(kind, y[~inside], p[~inside], task)(p[inside])
    return calibrated


def reliability(y: np.ndarray, p: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """A reliability diagram of one label [rows]: columns rows, predicted, observed, of bins with equally many rows.

    Rows of the same probability stay in one bin.
    """
    known = ~np.isnan(y)
    truth, score = y[known], p[known].astype(np.float64)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])) if len(score) else np.empty(0)
    bin_of = np.searchsorted(edges, score, side="right")
    rows = pd.DataFrame({"bin": bin_of, "predicted": score, "observed": truth})
    means = rows.groupby("bin").agg(
        rows=("observed", "size"), predicted=("predicted", "mean"), observed=("observed", "mean")
    )
    return means.reset_index(drop=True)


def calibration_error(y: np.ndarray, p: np.ndarray, bins: int = 15) -> float:
    """Adaptive ECE (Nixon et al. 2019): |predicted - observed| over equally full bins, the mean of the labels."""
    values = []
    for n in range(y.shape[1]):
        bars = reliability(y[:, n], p[:, n], bins)
        if len(bars):
            values.append(float(np.average((bars["predicted"] - bars["observed"]).abs(), weights=bars["rows"])))
    return float(np.mean(values)) if values else float("nan")


def shift_prior(p: np.ndarray, trained: np.ndarray, wanted: np.ndarray, task: str) -> np.ndarray:
    """Probabilities [rows, labels] for a population in which the labels' shares are `wanted` instead of `trained` [L].

    Bayes' rule for a changed prior (Saerens et al. 2002, eq. 2.4). A label that always or never occurs is not shifted.
    """
    p, known = p.astype(np.float64), (trained > 0) & (trained < 1)  # of the others there is nothing to shift
    trained, wanted = np.where(known, trained, 0.5), np.where(known, wanted, 0.5)
    yes = p * (wanted / trained)
    if task == "multiclass":
        return normalised(yes, task)
    no = (1 - p) * ((1 - wanted) / (1 - trained))
    return np.clip(yes / (yes + no), 0.0, 1.0)


def normalised(p: np.ndarray, task: str) -> np.ndarray:
    """Of classes, rows that sum to 1; where all are 0, all alike."""
    if task != "multiclass":
        return p
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.maximum(total, 1e-300), 1 / p.shape[1])


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), of probabilities clipped to [1e-7, 1 - 1e-7]."""
    clipped = np.clip(p.astype(np.float64), _EPS, 1 - _EPS)
    return np.log(clipped / (1 - clipped))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


def _temperature(y: np.ndarray, p: np.ndarray, task: str) -> Calibrator:
    def warmed(given: np.ndarray, log_t: float) -> np.ndarray:
        if task != "multiclass":
            return sigmoid(logit(given) / np.exp(log_t))
        scores = np.log(np.clip(given.astype(np.float64), _EPS, 1)) / np.exp(log_t)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def loss(log_t: float) -> float:
        scores = warmed(p, log_t)
        if task != "multiclass":
            return log_loss(y, scores)
        known = ~np.isnan(y).any(axis=1)
        return float(-np.log(np.maximum(scores[known][y[known] > 0.5], _EPS)).mean())

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-4}).x
    return lambda given: warmed(given, best)


def _of_label(fitted: Callable[[np.ndarray, np.ndarray], Calibrator]) -> Callable[[np.ndarray, np.ndarray], Calibrator]:
    def of_known(y: np.ndarray, p: np.ndarray) -> Calibrator:
        known = ~np.isnan(y)
        if len(np.unique(y[known] > 0.5)) < 2:
            return _as_it_is
        return fitted(y[known] > 0.5, p[known].astype(np.float64))

    return of_known


def _platt(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """A logistic curve of the logit (Platt 1999, without his changed targets)."""
    model = LogisticRegression(C=np.inf).fit(logit(p)[:, None], y)
    if model.coef_[0, 0] <= 0:
        return _as_it_is
    return lambda given: model.predict_proba(logit(given)[:, None])[:, 1]


def _isotonic(y: np.ndarray, p: np.ndarray) -> Calibrator:
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
    if len(np.unique(model.y_thresholds_)) < 3:
        return _as_it_is
    return lambda given: model.predict(given.astype(np.float64))


def _beta(y: np.ndarray, p: np.ndarray) -> Calibrator:
    """Beta calibration (Kull et al. 2017): logistic in ln p and -ln(1 - p), neither of which may fall.

    A coefficient that comes out negative is dropped, as in the paper's section 4.
    """

    def features(given: np.ndarray) -> np.ndarray:
        clipped = np.clip(given.astype(np.float64), _EPS, 1 - _EPS)
        return np.column_stack([np.log(clipped), -np.log1p(-clipped)])

    kept = np.array([True, True])
    model = LogisticRegression(C=np.inf).fit(features(p), y)
    if (model.coef_[0] < 0).any():
        kept = model.coef_[0] >= 0
        if not kept.any():
            return _as_it_is
        model = LogisticRegression(C=np.inf).fit(features(p)[:, kept], y)
        if model.coef_[0, 0] <= 0:
            return _as_it_is
    return lambda given: model.predict_proba(features(given)[:, kept])[:, 1]


def _as_it_is(p: np.ndarray) -> np.ndarray:
    """Where scores say nothing, or the contrary: a curve that falls would turn the ranking round."""
    return p.astype(np.float64)


_KINDS = {"platt": _of_label(_platt), "isotonic": _of_label(_isotonic), "beta": _of_label(_beta)}
KINDS = ("none", "temperature", *_KINDS)

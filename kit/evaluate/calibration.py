"""Calibrated probabilities: calibrators, calibration error, and the correction for another prevalence.

Probabilities are float [rows, labels]; of exclusive classes each row sums to 1. Unknown labels are NaN.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from kit.decisions import Beta, Calibration, Curve, Isotonic, Platt, Unchanged
from kit.evaluate.metrics import log_loss
from kit.lazy import lazy

optimize, isotonic, linear_model = lazy("scipy.optimize"), lazy("sklearn.isotonic"), lazy("sklearn.linear_model")
_EPS = 1e-7


def fit(kind: str, y: np.ndarray, p: np.ndarray, exclusive: bool) -> Calibration:
    """A calibrator (`KINDS`) fitted on labels and probabilities, both [rows, labels].

    `temperature` (Guo et al. 2017) has one number for all labels; the others fit a curve to each label, or class
    against the rest, and `exclusive` classes are rescaled to sum to 1. A label keeps its probabilities when only one
    class of it occurs, or when they carry no information or point the wrong way (the curve falls, or has a single
    step).
    """
    if kind == "none":
        return Calibration(kind="none", exclusive=exclusive)
    if kind == "temperature":
        return Calibration(kind="temperature", exclusive=exclusive, temperature=_temperature(y, p, exclusive))
    curves = tuple(_curve(kind, truth, score) for truth, score in zip(y.T, p.T, strict=True))
    return Calibration.model_validate({"kind": kind, "exclusive": exclusive, "curves": curves})


def apply(calibration: Calibration, p: np.ndarray) -> np.ndarray:
    """The calibrated probabilities [rows, labels], float64; those of `none` are returned as they are."""
    if calibration.kind == "none":
        return p
    if calibration.temperature is not None:
        return _tempered(p, calibration.temperature, calibration.exclusive)
    columns = [_mapped(curve, p[:, n].astype(np.float64)) for n, curve in enumerate(calibration.curves)]
    return normalised(np.column_stack(columns), calibration.exclusive)


def cross_fitted(kind: str, y: np.ndarray, p: np.ndarray, fold: np.ndarray, exclusive: bool) -> np.ndarray:
    """The probabilities of each fold, calibrated by a calibrator fitted on the other folds; float64 [rows, labels]."""
    calibrated = np.empty(p.shape, np.float64)
    for k in np.unique(fold):
        inside = fold == k
        calibrated[inside] = apply(fit(kind, y[~inside], p[~inside], exclusive), p[inside])
    return calibrated


def reliability(y: np.ndarray, p: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """The reliability diagram of one label [rows]: columns rows, predicted, observed; bins hold equally many rows.

    Rows of equal probability share a bin.
    """
    labelled = ~np.isnan(y)
    truth, score = y[labelled], p[labelled].astype(np.float64)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])) if len(score) else np.empty(0)
    bin_of = np.searchsorted(edges, score, side="right")
    rows = pd.DataFrame({"bin": bin_of, "predicted": score, "observed": truth})
    means = rows.groupby("bin").agg(
        rows=("observed", "size"), predicted=("predicted", "mean"), observed=("observed", "mean")
    )
    return means.reset_index(drop=True)


def calibration_error(y: np.ndarray, p: np.ndarray, bins: int = 15) -> float:
    """Adaptive ECE (Nixon et al. 2019): |predicted - observed| over equally full bins, averaged over the labels."""
    values = []
    for n in range(y.shape[1]):
        bars = reliability(y[:, n], p[:, n], bins)
        if len(bars):
            values.append(float(np.average((bars["predicted"] - bars["observed"]).abs(), weights=bars["rows"])))
    return float(np.mean(values)) if values else float("nan")


def shift_prior(p: np.ndarray, trained: np.ndarray, test: np.ndarray, exclusive: bool) -> np.ndarray:
    """Probabilities [rows, labels] for a population where the labels' shares are `test` [L] instead of `trained` [L].

    Bayes' rule for a changed prior (Saerens et al. 2002, eq. 2.4). A label that always or never occurs in training is
    not shifted.
    """
    p, varies = p.astype(np.float64), (trained > 0) & (trained < 1)
    trained, test = np.where(varies, trained, 0.5), np.where(varies, test, 0.5)
    yes = p * (test / trained)
    if exclusive:
        return normalised(yes, exclusive)
    no = (1 - p) * ((1 - test) / (1 - trained))
    return np.clip(yes / (yes + no), 0.0, 1.0)


def normalised(p: np.ndarray, exclusive: bool) -> np.ndarray:
    """Rows of exclusive classes scaled to sum to 1 (uniform where all are 0); other labels unchanged."""
    if not exclusive:
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


def _temperature(y: np.ndarray, p: np.ndarray, exclusive: bool) -> float:
    labelled = ~np.isnan(y).any(axis=1)

    def loss(log_t: float) -> float:
        scores = _tempered(p, float(np.exp(log_t)), exclusive)
        if not exclusive:
            return log_loss(y, scores)
        return float(-np.log(np.maximum(scores[labelled][y[labelled] > 0.5], _EPS)).mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-4}).x))


def _tempered(p: np.ndarray, temperature: float, exclusive: bool) -> np.ndarray:
    if not exclusive:
        return sigmoid(logit(p) / temperature)
    scores = np.log(np.clip(p.astype(np.float64), _EPS, 1)) / temperature
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _curve(kind: str, y: np.ndarray, p: np.ndarray) -> Curve:
    """The curve of one label, fitted on its labelled rows."""
    labelled = ~np.isnan(y)
    if len(np.unique(y[labelled] > 0.5)) < 2:
        return Unchanged(kind="unchanged")
    return _FITS[kind](y[labelled] > 0.5, p[labelled].astype(np.float64))


def _mapped(curve: Curve, p: np.ndarray) -> np.ndarray:
    """The probabilities [rows] of one label through its curve."""
    if isinstance(curve, Platt):
        return sigmoid(curve.slope * logit(p) + curve.intercept)
    if isinstance(curve, Isotonic):
        return np.interp(p, curve.p, curve.q)
    if isinstance(curve, Beta):
        return sigmoid(_beta_features(p) @ [curve.a, curve.b] + curve.intercept)
    return p


def _platt(y: np.ndarray, p: np.ndarray) -> Curve:
    """A logistic curve of the logit (Platt 1999, without his smoothed targets)."""
    model = linear_model.LogisticRegression(C=np.inf).fit(logit(p)[:, None], y)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Platt(kind="platt", slope=slope, intercept=intercept) if slope > 0 else Unchanged(kind="unchanged")


def _isotonic(y: np.ndarray, p: np.ndarray) -> Curve:
    model = isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
    if len(np.unique(model.y_thresholds_)) < 3:
        return Unchanged(kind="unchanged")
    return Isotonic(kind="isotonic", p=tuple(model.X_thresholds_.tolist()), q=tuple(model.y_thresholds_.tolist()))


def _beta(y: np.ndarray, p: np.ndarray) -> Curve:
    """Beta calibration (Kull et al. 2017): logistic in ln p and -ln(1 - p), without negative coefficients.

    A coefficient that comes out negative is dropped, as in the paper's section 4.
    """
    features = _beta_features(p)
    model = linear_model.LogisticRegression(C=np.inf).fit(features, y)
    coefficients = np.zeros(2)
    kept = model.coef_[0] >= 0
    if not kept.any():
        return Unchanged(kind="unchanged")
    if not kept.all():
        model = linear_model.LogisticRegression(C=np.inf).fit(features[:, kept], y)
        if model.coef_[0, 0] <= 0:
            return Unchanged(kind="unchanged")
    coefficients[kept] = model.coef_[0]
    a, b = map(float, coefficients)
    return Beta(kind="beta", a=a, b=b, intercept=float(model.intercept_[0]))


def _beta_features(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, _EPS, 1 - _EPS)
    return np.column_stack([np.log(clipped), -np.log1p(-clipped)])


_FITS: dict[str, Callable[[np.ndarray, np.ndarray], Curve]] = {"platt": _platt, "isotonic": _isotonic, "beta": _beta}
KINDS = ("none", "temperature", *_FITS)

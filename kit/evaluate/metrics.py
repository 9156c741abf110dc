"""Metrics of probabilities against labels; arrays [rows, labels], unknown labels (NaN) left out.

What is not defined (a label of which only one class occurs) is NaN, never 0. scikit-learn's functions are used where
they take arrays; what follows from counts is computed from counts, since scikit-learn would look at every row again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from kit.errors import ConfigError, nearest


@dataclass(frozen=True)
class Metric:
    """What predictions are scored by; calling it with truth and prediction gives the value.

    `needs` is what it takes of a prediction: `probabilities` [rows, labels], or `boxes`.
    """

    name: str
    function: Callable[[np.ndarray, np.ndarray], float]
    larger_is_better: bool = True
    needs: Literal["probabilities", "boxes"] = "probabilities"

    def __call__(self, y: np.ndarray, p: np.ndarray) -> float:
        """The value; NaN where it is not defined."""
        return self.function(y, p)

    def gain(self, value: Any, reference: Any) -> Any:
        """How much better `value` is than `reference` (numbers or arrays): positive when better."""
        return value - reference if self.larger_is_better else reference - value


def roc_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve, the mean over the labels where it is defined (both classes occur); NaN if none is."""
    return _mean_over_labels(sk.roc_auc_score, y, p)


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision (scikit-learn's), the mean over the labels for which it is defined."""
    return _mean_over_labels(sk.average_precision_score, y, p)


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Binary cross-entropy in nats, the mean over all known labels; probabilities clipped to [1e-7, 1 - 1e-7]."""
    return _mean_of_known(log_losses(y, p))


def multiclass_log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """-log of the true class's probability in nats, the mean over the rows: what Kaggle calls log loss of classes."""
    return _mean_of_known(class_losses(y, p)) * y.shape[1]


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Brier score: the mean squared error over all known labels (Brier 1950; of classes, his sum divided by K)."""
    return _mean_of_known(squared_errors(y, p))


# What a competition may be scored by.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", roc_auc),
        Metric("average_precision", average_precision),
        Metric("log_loss", log_loss, larger_is_better=False),
        Metric("multiclass_log_loss", multiclass_log_loss, larger_is_better=False),
        Metric("brier", brier, larger_is_better=False),
    )
}


def find_metric(name: str) -> Metric:
    """The metric of that name; raises ConfigError, with the nearest names, where kit has none."""
    if name not in METRICS:
        raise ConfigError(f"kit has no metric {name!r}{nearest(name, METRICS)}")
    return METRICS[name]


def log_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of every row and label; NaN where the label is unknown."""
    clipped = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.where(np.isnan(y), np.nan, -np.where(y > 0.5, np.log(clipped), np.log1p(-clipped)))


def class_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What each row and class adds to `multiclass_log_loss`; NaN where the label is unknown."""
    return np.where(np.isnan(y), np.nan, np.where(y > 0.5, -np.log(np.clip(p.astype(np.float64), 1e-7, 1)), 0))


def squared_errors(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Squared error of every row and label; NaN where the label is unknown."""
    return np.square(p.astype(np.float64) - y)


def accuracy(y: np.ndarray, p: np.ndarray, exclusive: bool) -> float:
    """The share of rows whose likeliest class is theirs (exclusive labels), else of known labels on their side of .5.

    As MedMNIST's benchmark defines ACC (Yang et al. 2023): its multi-label ACC is the mean over all labels too.
    """
    if exclusive:
        known = ~np.isnan(y).any(axis=1)
        return float(np.mean(y[known].argmax(axis=1) == p[known].argmax(axis=1)))
    known = ~np.isnan(y)
    return float(np.mean((y[known] > 0.5) == (p[known] > 0.5)))


def decisions(tp: float, fp: float, fn: float, tn: float) -> dict[str, float]:
    """What follows from the counts of a two-class decision; NaN where a class does not occur.

    MCC and kappa are 0 when all rows are called alike (as in scikit-learn), precision is NaN when none is called.
    """
    positives, negatives, called, total = tp + fn, fp + tn, tp + fp, tp + fp + fn + tn
    both = positives > 0 and negatives > 0
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    product = float(positives) * negatives * called * (total - called)
    chance = _ratio(called * positives + (total - called) * negatives, float(total) ** 2)
    agreement = _ratio(tp + tn, total)
    return {
        "accuracy": agreement,
        "balanced_accuracy": (recall + specificity) / 2,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn) if both else float("nan"),
        "precision": _ratio(tp, called) if both else float("nan"),
        "recall": recall,
        "specificity": specificity,
        "mcc": ((tp * tn - fp * fn) / np.sqrt(product) if product else 0.0) if both else float("nan"),
        "kappa": _ratio(agreement - chance, 1 - chance) if both else float("nan"),
    }


def report(y: np.ndarray, p: np.ndarray, exclusive: bool, labels: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Every metric: `labels` (each label, or class against the rest), and `average` (macro, weighted, micro).

    Decisions are made at .5, or for the likeliest class. `macro` is the mean over the labels where a metric is defined,
    `weighted` weighs them by their positives, `micro` takes all rows of all labels as one. Of exclusive labels
    (classes) there is `classes` too: what takes all of them together.
    """
    chosen = _one_hot(p) if exclusive else p > 0.5
    each = {label: _of_label(y[:, n], p[:, n], chosen[:, n]) for n, label in enumerate(labels)}
    values = pd.DataFrame(each).T
    average = {
        "macro": _averaged(values, pd.Series(1.0, values.index)),
        "weighted": _averaged(values, values["positives"]),
        "micro": _of_label(y.ravel(), p.ravel(), chosen.ravel()),
    }
    together = {"classes": {"all": _of_classes(y, p)}} if exclusive else {}
    return {"labels": each, "average": average, **together}


def _averaged(values: pd.DataFrame, weights: pd.Series) -> dict[str, float]:
    """The mean of each column over the labels where it is defined; rows and positives are sums."""
    means = {
        str(name): _ratio(float((column * weights).sum()), float(weights[column.notna()].sum()))
        for name, column in values.items()
    }
    return {**means, "rows": float(values["rows"].sum()), "positives": float(values["positives"].sum())}


def _of_label(y: np.ndarray, p: np.ndarray, called: np.ndarray) -> dict[str, float]:
    known = ~np.isnan(y)
    positive, score, called = y[known] > 0.5, p[known], called[known]
    both = positive.any() and not positive.all()
    tp, fp = int((called & positive).sum()), int((called & ~positive).sum())
    fn, tn = int(positive.sum()) - tp, int((~positive).sum()) - fp
    return {
        "rows": len(positive),
        "positives": int(positive.sum()),
        "roc_auc": float(sk.roc_auc_score(positive, score)) if both else float("nan"),
        "average_precision": float(sk.average_precision_score(positive, score)) if both else float("nan"),
        "log_loss": log_loss(y[known], score),
        "brier": brier(y[known], score),
        **decisions(tp, fp, fn, tn),
    }


def _of_classes(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Of one class out of several: the quadratic kappa takes the classes as ordered (Cohen 1968)."""
    known = ~np.isnan(y).any(axis=1)
    truth, called = y[known].argmax(axis=1), p[known].argmax(axis=1)
    if len(np.unique(truth)) < 2:
        names = ("log_loss", "accuracy", "balanced_accuracy", "mcc", "kappa", "quadratic_kappa")
        return dict.fromkeys(names, float("nan"))
    right = np.clip(p[known][np.arange(len(truth)), truth].astype(np.float64), 1e-7, 1)
    occurring = np.unique(truth)
    classes = list(range(y.shape[1]))
    return {
        "log_loss": float(-np.log(right).mean()),
        "accuracy": float((truth == called).mean()),
        "balanced_accuracy": float(np.mean([(called[truth == c] == c).mean() for c in occurring])),
        "mcc": float(sk.matthews_corrcoef(truth, called)),
        "kappa": float(sk.cohen_kappa_score(truth, called, labels=classes)),
        "quadratic_kappa": float(sk.cohen_kappa_score(truth, called, labels=classes, weights="quadratic")),
    }


def _mean_of_known(values: np.ndarray) -> float:
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")


def _one_hot(p: np.ndarray) -> np.ndarray:
    return np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean_over_labels(metric: Callable[..., float], y: np.ndarray, p: np.ndarray) -> float:
    values = []
    for truth, score in zip(y.T, p.T, strict=True):
        known = ~np.isnan(truth)
        if len(np.unique(truth[known])) == 2:
            values.append(float(metric(truth[known], score[known])))
    return float(np.mean(values)) if values else float("nan")

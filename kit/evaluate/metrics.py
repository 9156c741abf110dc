"""Metrics of probabilities against labels; arrays [rows, labels], unknown labels (NaN) left out.

Those of boxes are in kit.evaluate.boxes.metrics and have their names here, as have those that are defined by how they
are resampled (kit.evaluate.ranking, kit.evaluate.sums). An undefined value (a label of which only one class occurs) is
NaN, never 0. scikit-learn's functions are used where they take arrays; what follows from counts is computed from
counts, since scikit-learn would pass over all rows again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from kit import extensions
from kit.competition import SENT_AS_DECISIONS, Target
from kit.config import EvaluateSettings
from kit.errors import ConfigError, nearest
from kit.evaluate import ranking, sums
from kit.evaluate.boxes import metrics as box_metrics
from kit.evaluate.columns import Columns, Statistic
from kit.evaluate.metric_options import check_options
from kit.evaluate.sums import class_losses, log_losses, squared_errors
from kit.lazy import lazy

sk = lazy("sklearn.metrics")


@dataclass(frozen=True)
class Metric:
    """What predictions are scored by; calling it with truth and prediction gives the value.

    `needs` is the part of a prediction that it scores: `probabilities` [rows, labels], or `boxes` (kit.boxes.Boxes).
    Without a `function`, it is `resampled` with every row once: truth, prediction, the group of each row (int [rows]),
    `columns` and options -> `Statistic`. Without `resampled`, the bootstrap calls `function` on the rows drawn.

    `monitor` names the metric by which the best epoch is chosen, where it is another one: RSNA's depends on a cut that
    is chosen only when all folds are trained, AP50 needs none. A metric of `decisions` is computed of 0 and 1, as they
    are sent for it; `rule` is the threshold rule that serves it. One that `ranks`, or cuts, sees the order of
    predictions alone, not their scale. `options` are those it takes, with their
    defaults, those in `settings` from `evaluate`.
    """

    name: str
    function: Callable[..., float] | None = None
    larger_is_better: bool = True
    needs: Literal["probabilities", "boxes"] = "probabilities"
    monitor: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    settings: tuple[str, ...] = ()
    resampled: Callable[..., Statistic] | None = None
    rule: str = "f1"
    decisions: bool = False
    ranks: bool = False
    columns: Columns = field(default_factory=Columns)

    def __call__(self, y: Any, p: Any) -> float:
        """The value; NaN where it is undefined."""
        if self.function is not None:
            return self.function(y, p, **self.options)
        if not len(y):
            return float("nan")
        return float(self.statistic(y, p, np.arange(len(y)))(np.ones(len(y)))[0])

    def statistic(self, y: np.ndarray, p: np.ndarray, group_of: np.ndarray) -> Statistic:
        """The metric of probabilities as a function of how often each group is drawn."""
        if self.resampled is not None:
            return self.resampled(y, p, group_of, self.columns, **self.options)
        return self._of_drawn_rows(y, p, group_of)

    def only(self, places: Sequence[int]) -> "Metric":
        """The metric of some of the columns."""
        return replace(self, columns=self.columns.only(places))

    def gain(self, value: Any, reference: Any) -> Any:
        """How much better `value` is than `reference` (numbers or arrays): positive when better."""
        return value - reference if self.larger_is_better else reference - value

    def _of_drawn_rows(self, y: np.ndarray, p: np.ndarray, group_of: np.ndarray) -> Statistic:
        places = range(y.shape[1])

        def value(times: np.ndarray) -> np.ndarray:
            rows = np.repeat(np.arange(len(y)), times[group_of].astype(int))
            if not len(rows):
                return np.full(1 + len(places), np.nan)
            each = [self.only([n])(y[rows][:, [n]], p[rows][:, [n]]) for n in places]
            return np.array([self(y[rows], p[rows]), *each])

        return value


def roc_auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve, the mean over the labels where it is defined (both classes occur); NaN if none."""
    return _mean_over_labels(sk.roc_auc_score, y, p)


def average_precision(y: np.ndarray, p: np.ndarray) -> float:
    """Average precision (scikit-learn's), the mean over the labels for which it is defined."""
    return _mean_over_labels(sk.average_precision_score, y, p)


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """Binary cross-entropy in nats, the mean over all known labels; probabilities clipped to [1e-7, 1 - 1e-7]."""
    return _mean_of_defined(log_losses(y, p))


def multiclass_log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """-log of the true class's probability in nats, the mean over the rows: what Kaggle calls log loss of classes."""
    return _mean_of_defined(class_losses(y, p)) * y.shape[1]


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Brier score: the mean squared error over all known labels (Brier 1950; of classes, his sum divided by K)."""
    return _mean_of_defined(squared_errors(y, p))


def _metric(
    name: str, function: Callable[..., float] | None, resampled: Callable[..., Statistic], **more: Any
) -> Metric:
    decisions = name in SENT_AS_DECISIONS
    return Metric(name, function, resampled=resampled, decisions=decisions, ranks=decisions or name in _RANKS, **more)


_RANKS = ("roc_auc", "average_precision", "partial_auc", "weighted_auc", "c_index")


# The metrics that a competition may be scored by.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric("roc_auc", roc_auc, ranking.roc_auc_of),
        _metric("average_precision", average_precision, ranking.average_precision_of),
        _metric("log_loss", log_loss, sums.log_loss_of, larger_is_better=False),
        _metric("multiclass_log_loss", multiclass_log_loss, sums.class_log_loss_of, larger_is_better=False),
        _metric("brier", brier, sums.brier_of, larger_is_better=False),
        _metric("partial_auc", None, ranking.partial_auc_of, options={"above": 0.8}),
        _metric("weighted_auc", None, ranking.roc_auc_of, options={"weights": {}}),
        _metric("c_index", None, ranking.c_index_of),
        _metric("weighted_log_loss", None, sums.log_loss_of, larger_is_better=False, options={"weights": {}}),
        _metric(
            "grouped_log_loss",
            None,
            sums.grouped_log_loss_of,
            larger_is_better=False,
            options={"groups": {}, "weights": {}, "any_weight": 6.0},
        ),
        _metric("pfbeta", None, sums.pfbeta_of, options={"beta": 1.0}),
        _metric("macro_f1", None, sums.macro_f1_of, monitor="average_precision"),
        _metric("balanced_accuracy", None, sums.balanced_accuracy_of, monitor="roc_auc", rule="balanced_accuracy"),
        _metric("quadratic_kappa", None, sums.quadratic_kappa_of, rule="kappa"),
        Metric(
            "rsna_mean_average_precision",
            box_metrics.rsna_mean_average_precision,
            needs="boxes",
            monitor="box_ap50",
            options={"empty_images": "left_out"},
            settings=("empty_images",),
        ),
        Metric("box_ap50", box_metrics.box_ap50, needs="boxes"),
        Metric("box_ap", box_metrics.box_ap, needs="boxes"),
    )
}


def find_metric(name: str, settings: EvaluateSettings | None = None) -> Metric:
    """The metric of that name, as the settings have it; ConfigError, with the nearest names, for an unknown one.

    It may be FILE.py@DIGEST:NAME, or one that a package registers (kit.extensions): a function of labels and
    probabilities, or a `Metric` of one.
    """
    metric = _own(name)
    if metric is None and name not in METRICS:
        raise ConfigError(f"unknown metric {name!r}{nearest(name, {*METRICS, *extensions.installed('metric')})}")
    metric = metric or METRICS[name]
    if settings is None:
        return metric
    return replace(metric, options={**metric.options, **{key: getattr(settings, key) for key in metric.settings}})


def _own(name: str) -> Metric | None:
    """A metric from outside kit, by the name of its function; None where it is not one."""
    if code := extensions.parse(name):
        value, short = extensions.load(name), code.name
    else:
        value, short = extensions.from_package("metric", name, METRICS), name
    if value is None:
        return None
    known = f"{code.file}:{short}" if code and short in METRICS else short  # in reports, beside kit's own of that name
    metric = replace(value, name=known) if isinstance(value, Metric) else Metric(known, value)
    if metric.needs != "probabilities":
        raise ConfigError(f"{name}: a metric of your own takes labels and probabilities, not {metric.needs}")
    if metric.function is None:  # a `Metric` that is defined by how it is resampled
        return metric
    extensions.require_call(metric.function, name, f"def {short}(y, p)", np.zeros((1, 1)), np.zeros((1, 1)))
    return replace(metric, function=_number(name, metric.function))


def _number(name: str, function: Callable[..., Any]) -> Callable[..., float]:
    """The function, whose exceptions and values other than numbers become a ConfigError."""
    call = extensions.guarded(function, name) if extensions.is_code(name) else function

    def value(y: np.ndarray, p: np.ndarray, **options: Any) -> float:
        result = call(y, p, **options)
        if np.ndim(result) or not np.issubdtype(np.asarray(result).dtype, np.number):
            kind = f"an array {np.shape(result)}" if np.ndim(result) else type(result).__name__
            raise ConfigError(f"{name} returned {kind}: expected one number")
        return float(result)

    return value


def metric_of(
    target: Target, settings: EvaluateSettings | None = None, labels: Sequence[str] = (), exclusive: bool = False
) -> Metric:
    """The metric of a target with its options, of these labels (unknown: none), which may be `exclusive` classes.

    Raises ConfigError for an unknown metric, and options that it does not take.
    """
    metric = find_metric(target.metric, settings)
    check_options(metric.name, target.metric_options, {*metric.options} - {*metric.settings}, labels)
    options, sent = {**metric.options, **target.metric_options}, settings.send if settings else "auto"
    decisions = metric.decisions if sent == "auto" else sent == "decisions"
    rule = f"fbeta:{options['beta']:g}" if "beta" in options else metric.rule
    if settings and settings.threshold != "metric":
        rule = settings.threshold
    columns = Columns(tuple(labels), exclusive and len(labels) > 1)
    return replace(metric, options=options, decisions=decisions, rule=rule, columns=columns)


def monitor_of(metric: Metric) -> Metric:
    """The metric that epochs are chosen by: the metric itself, or another where it needs a decision first."""
    return replace(find_metric(metric.monitor), columns=metric.columns) if metric.monitor else metric


def accuracy(y: np.ndarray, p: np.ndarray, exclusive: bool) -> float:
    """Of exclusive labels, the share of rows whose likeliest class is the true one; else of known labels, cut at .5.

    As MedMNIST's benchmark defines ACC (Yang et al. 2023), whose multi-label ACC is the mean over all labels too.
    """
    if exclusive:
        labelled = ~np.isnan(y).any(axis=1)
        return float(np.mean(y[labelled].argmax(axis=1) == p[labelled].argmax(axis=1)))
    labelled = ~np.isnan(y)
    return float(np.mean((y[labelled] > 0.5) == (p[labelled] > 0.5)))


def decisions(tp: float, fp: float, fn: float, tn: float) -> dict[str, float]:
    """Metrics of a two-class decision from its counts; NaN where a class does not occur.

    MCC and kappa are 0 when all rows are predicted alike (as in scikit-learn); precision is NaN when no row is
    predicted positive.
    """
    positives, negatives, predicted, total = tp + fn, fp + tn, tp + fp, tp + fp + fn + tn
    both = positives > 0 and negatives > 0
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    product = float(positives) * negatives * predicted * (total - predicted)
    chance = _ratio(predicted * positives + (total - predicted) * negatives, float(total) ** 2)
    agreement = _ratio(tp + tn, total)
    return {
        "accuracy": agreement,
        "balanced_accuracy": (recall + specificity) / 2,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn) if both else float("nan"),
        "precision": _ratio(tp, predicted) if both else float("nan"),
        "recall": recall,
        "specificity": specificity,
        "mcc": ((tp * tn - fp * fn) / np.sqrt(product) if product else 0.0) if both else float("nan"),
        "kappa": _ratio(agreement - chance, 1 - chance) if both else float("nan"),
    }


def report(y: np.ndarray, p: np.ndarray, exclusive: bool, labels: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Every metric: `labels` (each label, or class against the rest), and `average` (macro, weighted, micro).

    Decisions are made at .5, or for the likeliest class. `macro` is the mean over the labels where a metric is defined,
    `weighted` weighs them by their positives, `micro` pools the rows of all labels. Exclusive labels (classes) also
    have `classes`: the metrics of one decision among all classes.
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


def _of_label(y: np.ndarray, p: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    labelled = ~np.isnan(y)
    positive, score, predicted = y[labelled] > 0.5, p[labelled], predicted[labelled]
    both = positive.any() and not positive.all()
    tp, fp = int((predicted & positive).sum()), int((predicted & ~positive).sum())
    fn, tn = int(positive.sum()) - tp, int((~positive).sum()) - fp
    return {
        "rows": len(positive),
        "positives": int(positive.sum()),
        "roc_auc": float(sk.roc_auc_score(positive, score)) if both else float("nan"),
        "average_precision": float(sk.average_precision_score(positive, score)) if both else float("nan"),
        "log_loss": log_loss(y[labelled], score),
        "brier": brier(y[labelled], score),
        **decisions(tp, fp, fn, tn),
    }


def _of_classes(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Metrics of choosing one class out of several; the quadratic kappa takes the classes as ordered (Cohen 1968)."""
    labelled = ~np.isnan(y).any(axis=1)
    truth, predicted = y[labelled].argmax(axis=1), p[labelled].argmax(axis=1)
    if len(np.unique(truth)) < 2:
        names = ("log_loss", "accuracy", "balanced_accuracy", "mcc", "kappa", "quadratic_kappa")
        return dict.fromkeys(names, float("nan"))
    right = np.clip(p[labelled][np.arange(len(truth)), truth].astype(np.float64), 1e-7, 1)
    occurring = np.unique(truth)
    classes = list(range(y.shape[1]))
    return {
        "log_loss": float(-np.log(right).mean()),
        "accuracy": float((truth == predicted).mean()),
        "balanced_accuracy": float(np.mean([(predicted[truth == c] == c).mean() for c in occurring])),
        "mcc": float(sk.matthews_corrcoef(truth, predicted)),
        "kappa": float(sk.cohen_kappa_score(truth, predicted, labels=classes)),
        "quadratic_kappa": float(sk.cohen_kappa_score(truth, predicted, labels=classes, weights="quadratic")),
    }


def _mean_of_defined(values: np.ndarray) -> float:
    defined = ~np.isnan(values)
    return float(values[defined].mean()) if defined.any() else float("nan")


def _one_hot(p: np.ndarray) -> np.ndarray:
    return np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean_over_labels(metric: Callable[..., float], y: np.ndarray, p: np.ndarray) -> float:
    values = []
    for truth, score in zip(y.T, p.T, strict=True):
        labelled = ~np.isnan(truth)
        if len(np.unique(truth[labelled])) == 2:
            values.append(float(metric(truth[labelled], score[labelled])))
    return float(np.mean(values)) if values else float("nan")

"""From raw probabilities to what is sent and decided: calibration, the change of prior and thresholds, as data.

Everything is chosen on out-of-fold predictions. Thresholds cut the probabilities that are sent, so their nested value
refits calibrator and threshold on the other folds.
"""

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.decisions import Calibration, CaseRule, ClassFactors, Decision, Prior, Threshold
from kit.errors import ConfigError, counted, some
from kit.evaluate import calibration
from kit.evaluate.metrics import Metric
from kit.evaluate.thresholds import (
    HeldOut,
    all_cuts,
    best_threshold,
    class_weights,
    cross_validated,
    cross_validated_classes,
    decided,
    nested_positives,
)
from kit.schemas import Number
from kit.tables import DECISION, predicted_labels, probabilities, probability_columns, truth, with_truth


def decide(
    oof: pd.DataFrame,
    examples: pd.DataFrame,
    task: str,
    exclusive: bool,
    settings: EvaluateSettings,
    views: str = "none",
    balanced: bool = False,
    metric: Metric | None = None,
) -> Decision:
    """The decision that out-of-fold predictions (id, fold, `p_*`) and settings lead to.

    The `metric` says what is sent, and the rule of thresholds (None: probabilities, F1). `balanced`: training showed
    the model another prevalence than the data has. Raises ConfigError for a test prevalence that is not one number per
    label, or that balancing makes impossible to correct to.
    """
    labels = predicted_labels(oof)
    check_prevalence(settings, labels, balanced)
    rows = with_truth(oof, examples, labels)
    y, p, fold = truth(rows).astype(np.float64), probabilities(rows).astype(np.float64), rows["fold"].to_numpy()

    def fitted(on: np.ndarray) -> tuple[Calibration, Prior | None]:
        """Calibrator and prior of some rows (bool)."""
        prior = None
        if settings.test_prevalence is not None:
            prior = Prior(trained=tuple(_prevalence(y[on]).tolist()), test=settings.test_prevalence)
        return calibration.fit(settings.calibration, y[on], p[on], exclusive), prior

    calibrator, prior = fitted(np.ones(len(p), bool))
    q, folds = send(calibrator, prior, p), np.unique(fold)
    held_out = [(fold == k, send(*fitted(fold != k), p)) for k in folds] if len(folds) > 1 else []
    return Decision(
        task=task,
        labels=tuple(labels),
        views=views,
        calibration=calibrator,
        prior=prior,
        thresholds=_thresholds(labels, y, q, held_out, _rule(settings, metric)),
        classes=_class_factors(labels, y, q, held_out) if exclusive else None,
        **({"sends": "decisions"} if metric is not None and metric.decisions else {}),
    )


def of_cases(decision: Decision, nested: Decision, rule: CaseRule) -> Decision:
    """The decision on cases that `rule` makes of images, what is honest of it from that on the nested predictions."""
    thresholds = {
        label: each.model_copy(update={"cross_validated": nested.thresholds[label].cross_validated})
        for label, each in decision.thresholds.items()
    }
    classes = decision.classes
    if classes is not None and nested.classes is not None:
        value, applied = nested.classes.balanced_accuracy_cross_validated, nested.classes.applied
        honest = {"balanced_accuracy_cross_validated": value, "applied": applied and classes.factors is not None}
        classes = classes.model_copy(update=honest)
    return decision.model_copy(update={"thresholds": thresholds, "classes": classes, "cases": rule})


def as_scored(metric: Metric, y: np.ndarray, p: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What the metric is to be computed of, [rows, labels]: the probabilities or, where decisions are sent, these.

    Then a fold is decided as the other folds choose; of a single fold from .5 on, or the likeliest class.
    """
    if not metric.decisions:
        return p
    y, p = y.astype(np.float64), p.astype(np.float64)
    held_out = [(fold == k, p) for k in np.unique(fold)]
    if metric.columns.exclusive:
        return _nested_classes(y, p, held_out)
    each = []
    for label, score in zip(y.T, p.T, strict=True):
        positive = nested_positives(label, [(inside, score) for inside, _ in held_out], metric.rule)
        each.append(score >= 0.5 if positive is None else positive)
    return np.column_stack(each).astype(np.float64)


def _nested_classes(y: np.ndarray, p: np.ndarray, held_out: HeldOut) -> np.ndarray:
    """The classes decided on, float64 one-hot [rows, K]: with factors where these are surely better than none."""
    classes, labelled = p.argmax(axis=1), ~np.isnan(y).any(axis=1)
    if len(held_out) > 1 and _have_all_classes(y, held_out):
        nested, true = cross_validated_classes(y, held_out), y.argmax(axis=1)
        if _is_surely_better(true[labelled], classes[labelled], nested[labelled]):
            classes = nested
    return (np.arange(p.shape[1]) == classes[:, None]).astype(np.float64)


def _have_all_classes(y: np.ndarray, held_out: HeldOut) -> bool:
    """Whether every class occurs in all the other folds of each, as factors need."""
    labelled, true = ~np.isnan(y).any(axis=1), y.argmax(axis=1)
    return all(len(np.unique(true[labelled & ~inside])) == y.shape[1] for inside, _ in held_out)


def send(calibrator: Calibration, prior: Prior | None, p: np.ndarray) -> np.ndarray:
    """Raw probabilities [rows, labels] calibrated, and shifted to the prior of the test set."""
    q = calibration.apply(calibrator, p)
    if prior is None:
        return q
    return calibration.shift_prior(q, np.array(prior.trained), np.array(prior.test), calibrator.exclusive)


def sent_probabilities(decision: Decision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the probabilities that are sent: float64, or untouched where nothing changes them."""
    if decision.calibration.kind == "none" and decision.prior is None:
        return predictions
    p = send(decision.calibration, decision.prior, probabilities(predictions, decision.labels).astype(np.float64))
    return predictions.assign(**dict(zip(probability_columns(decision.labels), p.T, strict=True)))


def submitted_probabilities(decision: Decision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions as they are submitted: the probabilities that are sent or, where decisions are, 0 and 1."""
    table = sent_probabilities(decision, predictions)
    if decision.sends == "probabilities":
        return table
    p = decisions_of(decision, probabilities(table, decision.labels))
    return table.assign(**dict(zip(probability_columns(decision.labels), p.T, strict=True)))


def decisions_of(decision: Decision, p: np.ndarray) -> np.ndarray:
    """What is decided on, float64 [rows, labels] of 0 and 1, from the probabilities that are sent."""
    if decision.classes is not None:
        return (np.arange(p.shape[1]) == (p * class_factors(decision)).argmax(axis=1)[:, None]).astype(np.float64)
    return (p >= label_cuts(decision)).astype(np.float64)


def with_label_decisions(decision: Decision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Sent predictions with a further column, `decision`: the label or labels decided on.

    Exclusive classes: the likeliest. A single label: it or `not LABEL`. Several: those at or above their threshold,
    joined by `|`, or `none`. A label without a threshold (only one class of it occurs) is cut at .5.
    """
    p, labels = probabilities(predictions, decision.labels), decision.labels
    if decision.classes is not None:
        best = (p * class_factors(decision)).argmax(axis=1)
        return predictions.assign(**{DECISION: [labels[n] for n in best]})
    positive = p >= label_cuts(decision)
    if len(labels) == 1:
        return predictions.assign(**{DECISION: np.where(positive[:, 0], labels[0], f"not {labels[0]}")})
    names = ["|".join(label for label, yes in zip(labels, row, strict=True) if yes) or "none" for row in positive]
    return predictions.assign(**{DECISION: names})


def class_factors(decision: Decision) -> np.ndarray:
    """What the classes' probabilities are multiplied by before the largest is taken, float64 [classes]."""
    factors = (decision.classes and decision.classes.applied and decision.classes.factors) or {}
    return np.array([factors.get(label, 1.0) for label in decision.labels])


def label_cuts(decision: Decision) -> np.ndarray:
    """From which probability on each label is decided on, float64 [labels]; .5 where no threshold is known."""
    cuts = [decision.thresholds[name].threshold if name in decision.thresholds else None for name in decision.labels]
    return np.array([0.5 if cut is None else cut for cut in cuts])


def check_prevalence(settings: EvaluateSettings, labels: list[str], balanced: bool) -> None:
    """Raise ConfigError for a test prevalence that is not one number per label, or that cannot be corrected to."""
    if settings.test_prevalence is None:
        return
    if len(settings.test_prevalence) != len(labels):
        raise ConfigError(f"evaluate.test_prevalence: give {counted(len(labels), 'number')}, for {some(labels, 15)}")
    if balanced and settings.calibration == "none":
        raise ConfigError(
            "evaluate.test_prevalence corrects from the prevalence in training, which balancing (input.balance, "
            "train.loss.weights) hid from the model: set evaluate.calibration too, such as platt"
        )


def _rule(settings: EvaluateSettings, metric: Metric | None) -> str:
    """The rule of thresholds: that of the metric, which has it from the settings."""
    if metric is not None:
        return metric.rule
    return "f1" if settings.threshold == "metric" else settings.threshold


def _prevalence(y: np.ndarray) -> np.ndarray:
    """The share of positives among each label's known rows [labels]; 0, which is not shifted, where there are none."""
    rows = (~np.isnan(y)).sum(axis=0)
    return np.divide(np.nansum(y, axis=0), rows, out=np.zeros(y.shape[1]), where=rows > 0)


def _thresholds(labels: list[str], y: np.ndarray, p: np.ndarray, held_out: HeldOut, rule: str) -> dict[str, Threshold]:
    """For each label: the rule's threshold on all rows, its value there (optimistic), and cross-validated."""
    thresholds = {}
    for n, label in enumerate(labels):
        labelled = ~np.isnan(y[:, n])
        if not labelled.any():
            continue
        positive, score = y[labelled, n] > 0.5, p[labelled, n]
        both = positive.any() and not positive.all()
        cut = best_threshold(all_cuts(positive, score), rule) if both else float("nan")
        columns = {id(q): q[:, n] for _, q in held_out}  # one array where the folds share one
        nested = cross_validated(y[:, n], [(inside, columns[id(q)]) for inside, q in held_out], rule)
        thresholds[label] = Threshold(
            rule=rule,
            threshold=_number(cut),
            on_the_rows_that_chose_it=_numbers(decided(positive, score >= cut)),
            cross_validated=nested and _numbers(nested),
        )
    return thresholds


def _class_factors(labels: list[str], y: np.ndarray, p: np.ndarray, held_out: HeldOut) -> ClassFactors:
    labelled = ~np.isnan(y).any(axis=1)
    truth = y.argmax(axis=1)

    def balanced_accuracy(classes: np.ndarray) -> float:
        right = classes[labelled] == truth[labelled]
        return float(np.mean([right[truth[labelled] == c].mean() for c in np.unique(truth[labelled])]))

    argmax = balanced_accuracy(p.argmax(axis=1))
    if not (held_out and _have_all_classes(y, held_out)):
        return ClassFactors(balanced_accuracy_of_argmax=argmax)
    factors = class_weights(y[labelled], p[labelled])
    nested = cross_validated_classes(y, held_out)
    return ClassFactors(
        factors=dict(zip(labels, map(float, factors), strict=True)),
        balanced_accuracy_of_argmax=argmax,
        balanced_accuracy_on_the_rows_that_chose_them=balanced_accuracy((p * factors).argmax(axis=1)),
        balanced_accuracy_cross_validated=balanced_accuracy(nested),
        applied=_is_surely_better(truth[labelled], p.argmax(axis=1)[labelled], nested[labelled]),
    )


def _is_surely_better(truth: np.ndarray, plain: np.ndarray, weighed: np.ndarray) -> bool:
    """Whether balanced accuracy gains by more than two standard errors; of int [rows], paired."""
    counts = np.bincount(truth)
    worth = 1.0 / (counts[truth] * (counts > 0).sum())  # what a row that is right adds
    gains = worth * ((weighed == truth).astype(int) - (plain == truth).astype(int))
    return bool(gains.sum() > 2 * np.sqrt(np.square(gains).sum()))


def _number(value: float) -> Number:
    return None if np.isnan(value) else value


def _numbers(values: dict[str, float]) -> dict[str, Number]:
    return {name: _number(float(value)) for name, value in values.items()}

"""From raw probabilities to what is sent and decided: calibration, the change of prior, thresholds; as data.

Everything is chosen on out-of-fold predictions. Thresholds cut the probabilities that are sent, so their nested value
fits calibrator and threshold anew on the other folds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from kit.config import EvaluateSettings
from kit.errors import ConfigError, some
from kit.evaluate import calibration
from kit.evaluate.thresholds import (
    HeldOut,
    all_cuts,
    best_threshold,
    class_weights,
    cross_validated,
    cross_validated_classes,
    decided,
)
from kit.schemas import Calibration, ClassFactors, Decision, Prior, Threshold
from kit.tables import DECISION, predicted_labels, probabilities, truth, with_truth

Send = Callable[[np.ndarray], np.ndarray]  # raw probabilities [rows, labels] -> those that are sent


def decide(
    oof: pd.DataFrame,
    examples: pd.DataFrame,
    task: str,
    exclusive: bool,
    settings: EvaluateSettings,
    views: str = "none",
    balanced: bool = False,
) -> Decision:
    """The decision that out-of-fold predictions (id, fold, `p_*`) and settings lead to.

    `balanced`: training showed another prevalence than the data has. Raises ConfigError for a test prevalence that is
    not one number per label, or that could not be corrected to.
    """
    labels = predicted_labels(oof)
    rows = with_truth(oof, examples, labels)
    y, p, fold = truth(rows).astype(np.float64), probabilities(rows).astype(np.float64), rows["fold"].to_numpy()
    _check_prevalence(settings, labels, balanced)

    def fitted(rows: np.ndarray) -> tuple[Calibration, Prior | None]:
        """What rows (bool) teach."""
        prior = None
        if settings.test_prevalence is not None:
            trained = np.nan_to_num(np.nanmean(y[rows], axis=0))
            prior = Prior(trained=tuple(trained.tolist()), test=settings.test_prevalence)
        return calibration.fit(settings.calibration, y[rows], p[rows], exclusive), prior

    everywhere = np.ones(len(p), bool)
    fit = fitted(everywhere)
    sent = send(*fit, p)
    nested = [(fold == k, send(*fitted(fold != k), p)) for k in np.unique(fold)] if len(np.unique(fold)) > 1 else []
    chosen: dict[str, Any] = {
        "task": task,
        "labels": tuple(labels),
        "views": views,
        "calibration": fit[0],
        "thresholds": _thresholds(labels, y, sent, nested, settings.threshold),
    }
    if fit[1] is not None:
        chosen["prior"] = fit[1]
    if exclusive:
        chosen["classes"] = _class_factors(labels, y, sent, nested)
    return Decision.model_validate(chosen)


def send(fitted: Calibration, prior: Prior | None, p: np.ndarray) -> np.ndarray:
    """Raw probabilities [rows, labels] calibrated, and shifted to the prior of the test set."""
    q = calibration.apply(fitted, p)
    if prior is None:
        return q
    return calibration.shift_prior(q, np.array(prior.trained), np.array(prior.test), fitted.exclusive)


def sent(decision: Decision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the probabilities that are sent, float64 where anything changes them."""
    raw = probabilities(predictions, decision.labels)
    p = send(decision.calibration, decision.prior, raw.astype(np.float64))
    if decision.calibration.kind == "none" and decision.prior is None:
        return predictions
    return predictions.assign(**{f"p_{label}": p[:, n] for n, label in enumerate(decision.labels)})


def with_decisions(decision: Decision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions that are sent with a further column, `decision`: the label or labels that the thresholds decide on.

    Of exclusive classes the likeliest; of one label it or `not LABEL`; of several those at or above their threshold,
    joined by `|`, or `none`. A label without a threshold (only one class of it occurs) is cut at .5.
    """
    p, labels = probabilities(predictions, decision.labels), decision.labels
    if decision.classes is not None:
        factors = decision.classes.factors if decision.classes.applied and decision.classes.factors else {}
        best = (p * [factors.get(label, 1.0) for label in labels]).argmax(axis=1)
        return predictions.assign(**{DECISION: [labels[n] for n in best]})
    cuts = [decision.thresholds[label].threshold if label in decision.thresholds else None for label in labels]
    positive = p >= [0.5 if cut is None else cut for cut in cuts]
    if len(labels) == 1:
        return predictions.assign(**{DECISION: np.where(positive[:, 0], labels[0], f"not {labels[0]}")})
    names = ["|".join(label for label, yes in zip(labels, row, strict=True) if yes) or "none" for row in positive]
    return predictions.assign(**{DECISION: names})


def _check_prevalence(settings: EvaluateSettings, labels: list[str], balanced: bool) -> None:
    if settings.test_prevalence is None:
        return
    if len(settings.test_prevalence) != len(labels):
        raise ConfigError(f"evaluate.test_prevalence: give {len(labels)} numbers, for {some(labels, 15)}")
    if balanced and settings.calibration == "none":
        raise ConfigError(
            "evaluate.test_prevalence corrects from the prevalence in training, which balancing (input.balance, "
            "train.loss.weights) hid from the model: set evaluate.calibration too, such as platt"
        )


def _thresholds(labels: list[str], y: np.ndarray, sent: np.ndarray, nested: HeldOut, rule: str) -> dict[str, Threshold]:
    """For every label: the rule's threshold on all rows, what it is worth there (optimistic), and cross-validated."""
    chosen = {}
    for n, label in enumerate(labels):
        known = ~np.isnan(y[:, n])
        if not known.any():
            continue
        positive, score = y[known, n] > 0.5, sent[known, n]
        both = positive.any() and not positive.all()
        cut = best_threshold(all_cuts(positive, score), rule) if both else float("nan")
        honest = cross_validated(y[:, n], [(inside, p[:, n]) for inside, p in nested], rule)
        chosen[label] = Threshold(
            rule=rule,
            threshold=_number(cut),
            on_the_rows_that_chose_it=_numbers(decided(positive, score >= cut)),
            cross_validated=honest and _numbers(honest),
        )
    return chosen


def _class_factors(labels: list[str], y: np.ndarray, sent: np.ndarray, nested: HeldOut) -> ClassFactors:
    known = ~np.isnan(y).any(axis=1)
    truth = y.argmax(axis=1)

    def balanced(classes: np.ndarray) -> float:
        right = classes[known] == truth[known]
        return float(np.mean([right[truth[known] == c].mean() for c in np.unique(truth[known])]))

    plain = balanced(sent.argmax(axis=1))
    complete = [len(np.unique(truth[known & ~inside])) == len(labels) for inside, _ in nested]
    if not (complete and all(complete)):
        return ClassFactors(balanced_accuracy_of_argmax=plain)  # a class is missing somewhere: nothing to weigh
    factors = class_weights(y[known], sent[known])
    honest = balanced(cross_validated_classes(y, nested))
    return ClassFactors(
        factors=dict(zip(labels, map(float, factors), strict=True)),
        balanced_accuracy_of_argmax=plain,
        balanced_accuracy_on_the_rows_that_chose_them=balanced((sent * factors).argmax(axis=1)),
        balanced_accuracy_cross_validated=honest,
        applied=honest > plain,
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: _number(float(value)) for name, value in values.items()}

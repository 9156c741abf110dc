"""Where to cut a probability, by a rule, exactly; and what the cut is worth on rows that did not choose it.

A rule is a name with maybe a number: `f1`, `fbeta:2`, `youden`, `mcc`, `kappa`, `balanced_accuracy`,
`sensitivity_at_specificity:0.95` (the most sensitive cut that is at least so specific),
`specificity_at_sensitivity:0.95`, `cost:1,5` (a false positive costs 1, a false negative 5) and `prevalence` (as many
called positive as are; `prevalence:0.1`: a tenth).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kit.config import parse_rule
from kit.evaluate.metrics import decisions

# True and false positives at each cut (float64 [cuts]), positives, negatives -> the value to maximise at each cut.
Objective = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]
# For each fold: which rows it holds (bool [rows]), and the scores of all rows as the other folds calibrate them.
HeldOut = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Cuts:
    """All ways to cut some scores, `p >= threshold`: from no row positive to all rows positive.

    `thresholds` float64 [cuts], falling · `tp`, `fp` float64 [cuts] · `positives`, `negatives` the rows of each class.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    positives: float
    negatives: float


def all_cuts(y: np.ndarray, p: np.ndarray) -> Cuts:
    """Every cut that separates two scores; `y` bool [rows], `p` [rows], at least one row."""
    order = np.argsort(-p, kind="stable")
    return _cuts_of_sorted(y[order], p[order])


def best_threshold(cuts: Cuts, rule: str) -> float:
    """The threshold at which the rule's objective is largest; of several, the largest.

    "No row is positive" is a cut too: its threshold is just above the largest score.
    """
    values = objective_of(rule)(cuts.tp, cuts.fp, cuts.positives, cuts.negatives)
    best = np.flatnonzero(values >= values.max() - 1e-12)[0]  # equal values by different roundings are a tie
    return float(cuts.thresholds[best])


def cross_validated(y: np.ndarray, held_out: HeldOut, rule: str) -> dict[str, float] | None:
    """`decisions` on all rows, each fold cut at the threshold that the other folds choose: an honest estimate.

    `y` float [rows], NaN where the label is unknown. None when a single fold has known labels: no other can choose.
    """
    labelled = ~np.isnan(y)
    positive = nested_positives(y, held_out, rule)
    return None if positive is None else decided(y[labelled] > 0.5, positive[labelled])


def nested_positives(y: np.ndarray, held_out: HeldOut, rule: str) -> np.ndarray | None:
    """Which rows are positive, bool [rows], each fold cut at the threshold that the other folds choose.

    None when a single fold has known labels. Rows of unknown labels are not positive. Folds that share one array of
    scores, as uncalibrated ones do, sort it once.
    """
    labelled = ~np.isnan(y)
    folds = [(labelled & inside, p) for inside, p in held_out if (labelled & inside).any()]
    if len(folds) < 2:
        return None
    positive, order_of = np.zeros(len(y), bool), dict[int, np.ndarray]()
    for inside, p in folds:
        if id(p) not in order_of:
            order_of[id(p)] = np.argsort(-p, kind="stable")
        order = order_of[id(p)]
        others = order[(labelled & ~inside)[order]]
        cuts = _cuts_of_sorted(y[others] > 0.5, p[others])
        positive[inside] = p[inside] >= best_threshold(cuts, rule)
    return positive


def decided(y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """`decisions` of predictions, bool [rows], against the truth, bool [rows]."""
    tp, fp = int((predicted & y).sum()), int((predicted & ~y).sum())
    return decisions(tp, fp, int(y.sum()) - tp, int((~y).sum()) - fp)


def objective_of(rule: str) -> Objective:
    """The objective of a rule; raises ConfigError for one that `kit.config.parse_rule` refuses."""
    name, numbers = parse_rule(rule)
    return _OBJECTIVES[name](*numbers)


def class_weights(y: np.ndarray, p: np.ndarray, sweeps: int = 10) -> np.ndarray:
    """Factors for the probabilities of K classes that maximise argmax's balanced accuracy: float64 [K], mean 1.

    `y` one-hot [rows, K], `p` [rows, K]. Factors are optimised one after another, each exactly (over all ratios at
    which a row changes its class), until none helps: a local optimum, never worse than plain argmax.
    """
    truth, classes = y.argmax(axis=1), y.shape[1]
    counts = np.bincount(truth, minlength=classes)
    worth = 1.0 / counts[truth]  # what a correct row adds
    weights = np.ones(classes)
    best = _worth(truth, p, weights, worth)
    for _ in range(sweeps):
        before = best
        for c in range(classes):
            others = np.delete(p * weights, c, axis=1).max(axis=1)
            rival = np.delete(np.arange(classes), c)[np.delete(p * weights, c, axis=1).argmax(axis=1)]
            ratio = others / np.maximum(p[:, c], 1e-300)  # the factor above which the row becomes c
            gain = np.where(truth == c, worth, np.where(truth == rival, -worth, 0.0))
            order = np.argsort(ratio, kind="stable")
            ratio, total = ratio[order], np.cumsum(gain[order])
            last = np.append(np.diff(ratio) > 0, True)  # rows of one ratio change together
            n = int(np.argmax(np.where(last, total, -np.inf)))
            candidate = weights.copy()
            if total[n] < 0:  # best where no row is c
                candidate[c] = ratio[0] / 2
            else:
                candidate[c] = np.sqrt(ratio[n] * ratio[n + 1]) if n + 1 < len(ratio) else ratio[n] * 2
            value = _worth(truth, p, candidate, worth)
            if np.isfinite(candidate[c]) and candidate[c] > 0 and value > best + 1e-12:
                weights, best = candidate, value
        if best <= before + 1e-12:
            break
    return weights / weights.mean()


def cross_validated_classes(y: np.ndarray, held_out: HeldOut) -> np.ndarray:
    """Each row's class (int [rows]), every fold weighted by `class_weights` of the other folds' labelled rows."""
    labelled = ~np.isnan(y).any(axis=1)
    classes = np.empty(len(y), int)
    for inside, p in held_out:
        others = labelled & ~inside
        classes[inside] = (p[inside] * class_weights(y[others], p[others])).argmax(axis=1)
    return classes


def _cuts_of_sorted(y: np.ndarray, p: np.ndarray) -> Cuts:
    last = np.flatnonzero(np.append(p[1:] < p[:-1], True))  # rows of one score go together
    tp = np.cumsum(y)[last].astype(np.float64)
    none = np.nextafter(p[0], np.inf, dtype=p.dtype)
    return Cuts(
        np.concatenate([[none], p[last]]).astype(np.float64),
        np.concatenate([[0.0], tp]),
        np.concatenate([[0.0], last + 1.0 - tp]),
        float(y.sum()),
        float(len(y) - y.sum()),
    )


def _worth(truth: np.ndarray, p: np.ndarray, weights: np.ndarray, worth: np.ndarray) -> float:
    return float(worth[(p * weights).argmax(axis=1) == truth].sum())


def _fbeta(beta: float) -> Objective:
    def objective(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
        return _share((1 + beta**2) * tp, tp + fp + beta**2 * positives)

    return objective


def _youden(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
    return _share(tp, positives) - _share(fp, negatives)


def _mcc(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
    predicted = tp + fp
    product = positives * negatives * predicted * (positives + negatives - predicted)
    return _share(tp * negatives - fp * positives, np.sqrt(product))


def _kappa(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
    total, predicted = positives + negatives, tp + fp
    agreement = (tp + negatives - fp) / total
    chance = (predicted * positives + (total - predicted) * negatives) / total**2
    return _share(agreement - chance, 1 - chance)


def _at_least(floor: float, of_sensitivity: bool) -> Objective:
    def objective(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
        sensitivity, specificity = _share(tp, positives), 1 - _share(fp, negatives)
        bounded, value = (sensitivity, specificity) if of_sensitivity else (specificity, sensitivity)
        return np.where(bounded >= floor - 1e-12, value, -1.0)

    return objective


def _cost(false_positive: float, false_negative: float) -> Objective:
    def objective(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
        return -(false_positive * fp + false_negative * (positives - tp)) / (positives + negatives)

    return objective


def _prevalence(share: float | None = None) -> Objective:
    def objective(tp: np.ndarray, fp: np.ndarray, positives: float, negatives: float) -> np.ndarray:
        expected = positives if share is None else share * (positives + negatives)
        return -np.abs(tp + fp - expected)

    return objective


def _share(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=np.asarray(whole) > 0)


_OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "f1": lambda: _fbeta(1.0),
    "fbeta": _fbeta,
    "youden": lambda: _youden,
    "balanced_accuracy": lambda: _youden,  # the same cut: (Youden's J + 1) / 2
    "mcc": lambda: _mcc,
    "kappa": lambda: _kappa,
    "sensitivity_at_specificity": lambda floor: _at_least(floor, of_sensitivity=False),
    "specificity_at_sensitivity": lambda floor: _at_least(floor, of_sensitivity=True),
    "cost": _cost,
    "prevalence": _prevalence,
}

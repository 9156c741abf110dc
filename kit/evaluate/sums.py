"""Metrics that follow from sums over rows, as functions of how often each group is drawn (`Statistic`).

Each group's sums are computed once. An unknown label (NaN) is left out.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kit.evaluate.columns import Columns, Statistic, group_sums, ratio, weighted_mean, weights_of, with_mean

_EPS = 1e-7


def log_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of every row and label; NaN where the label is unknown."""
    clipped = np.clip(p.astype(np.float64), _EPS, 1 - _EPS)
    return np.where(np.isnan(y), np.nan, -np.where(y > 0.5, np.log(clipped), np.log1p(-clipped)))


def class_losses(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What each row and class adds to `multiclass_log_loss`; NaN where the label is unknown."""
    return np.where(np.isnan(y), np.nan, np.where(y > 0.5, -np.log(np.clip(p.astype(np.float64), _EPS, 1)), 0))


def squared_errors(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Squared error of every row and label; NaN where the label is unknown."""
    return np.square(p.astype(np.float64) - y)


def log_loss_of(
    y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns, weights: Mapping[str, float] | None = None
) -> Statistic:
    """Binary cross-entropy, the mean over all known labels, which may be weighed.

    RSNA's Intracranial Hemorrhage Detection (2019) weighs its label `any` 2, the others 1.
    """
    return _mean_of(log_losses(y, p), group_of, weights_of(columns, y.shape[1], weights or {}))


def class_log_loss_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """-log of the true class's probability, the mean over the rows."""
    mean = _mean_of(class_losses(y, p), group_of, np.ones(y.shape[1]))
    return lambda times: mean(times) * np.append(y.shape[1], np.ones(y.shape[1]))


def brier_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """The mean squared error over all known labels."""
    return _mean_of(squared_errors(y, p), group_of, np.ones(y.shape[1]))


def grouped_log_loss_of(
    y: np.ndarray,
    p: np.ndarray,
    group_of: np.ndarray,
    columns: Columns,
    groups: Mapping[str, Sequence[str]] | None = None,
    weights: Mapping[str, float] | None = None,
    any_weight: float = 6.0,
) -> Statistic:
    """The metric of RSNA's Abdominal Trauma Detection (2023): mean log loss of groups of classes, and of any injury.

    Each of `groups` has classes that exclude each other, the first of them healthy; their probabilities are scaled to
    sum to 1. A row weighs as its true class does in `weights`. "Any injury" is the largest share that is not healthy,
    a row with one weighs `any_weight`. Of a label alone: its binary log loss, positives weighing as in `weights`.
    """
    weight, names = weights_of(columns, y.shape[1], weights or {}), columns.labels
    places = [[names.index(name) for name in group] for group in (groups or {}).values() if {*group} <= {*names}]
    parts, healthy = [], []
    for columns_of in places:
        truth, share = y[:, columns_of], np.clip(p[:, columns_of].astype(np.float64), _EPS, 1)
        share = share / share.sum(axis=1, keepdims=True)
        healthy.append((truth[:, 0], share[:, 0]))
        true = np.where(truth > 0.5, 1.0, 0.0)
        known = ~np.isnan(truth).any(axis=1)
        parts.append(_weighed(-(true * np.log(share)).sum(axis=1), true @ weight[columns_of], known, group_of))
    if len(places) > 1:
        truth, share = (1 - np.min([side[n] for side in healthy], axis=0) for n in range(2))
        true = np.where(np.isnan(truth), 0.0, truth)
        parts.append(
            _weighed(log_losses(true, share), np.where(true > 0.5, any_weight, 1.0), ~np.isnan(truth), group_of)
        )
    rows = np.where(y > 0.5, weight, 1.0)
    each = [_weighed(*label, group_of) for label in zip(log_losses(y, p).T, rows.T, ~np.isnan(y).T, strict=True)]

    def value(times: np.ndarray) -> np.ndarray:
        alone = np.array([float(ratio(*(times @ sums).T)) for sums in each])
        whole = np.array([float(ratio(*(times @ sums).T)) for sums in parts]) if parts else alone
        return np.append(weighted_mean(whole), alone)

    return value


def pfbeta_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns, beta: float = 1.0) -> Statistic:
    """Probabilistic F-beta (Yacouby & Axman 2020): counts of hits and false alarms are sums of probabilities.

    The metric of RSNA's Screening Mammography (2022), with beta 1; the mean over the labels that occur.
    """
    positive, negative, score = y > 0.5, y < 0.5, np.clip(p.astype(np.float64), 0, 1)
    sums = group_sums(np.stack([positive, positive * score, negative * score], axis=2), group_of)

    def value(times: np.ndarray) -> np.ndarray:
        positives, hits, false = np.tensordot(times, sums, 1).T
        f = ratio((1 + beta**2) * hits, beta**2 * positives + hits + false)
        return with_mean(np.where(positives > 0, np.where(hits > 0, f, 0.0), np.nan))

    return value


def macro_f1_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """F1 of what is decided on, the mean over the labels or classes that are there or decided on."""
    counts = _counts(y, p, group_of, columns)

    def value(times: np.ndarray) -> np.ndarray:
        tp, fp, fn, _ = np.tensordot(times, counts, 1).T
        return with_mean(ratio(2 * tp, 2 * tp + fp + fn))

    return value


def balanced_accuracy_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """The mean of sensitivity and specificity, over the labels; of classes: the mean of the classes' sensitivities."""
    counts = _counts(y, p, group_of, columns)

    def value(times: np.ndarray) -> np.ndarray:
        tp, fp, fn, tn = np.tensordot(times, counts, 1).T
        sensitivity = ratio(tp, tp + fn)
        each = (sensitivity + ratio(tn, fp + tn)) / 2
        return np.append(weighted_mean(sensitivity if columns.exclusive else each), each)

    return value


def quadratic_kappa_of(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> Statistic:
    """Cohen's kappa with quadratic weights (1968) of classes in their order; of labels, the mean of their kappas."""
    counts = _counts(y, p, group_of, columns)
    known = ~np.isnan(y).any(axis=1)
    pairs = np.einsum("nt,np->ntp", np.where(known[:, None], y > 0.5, 0), _decided(p, columns)) * 1.0
    confusion = group_sums(pairs, group_of) if columns.exclusive else None

    def value(times: np.ndarray) -> np.ndarray:
        tp, fp, fn, tn = np.tensordot(times, counts, 1).T
        each = np.array([_kappa(np.array([[d, b], [c, a]])) for a, b, c, d in zip(tp, fp, fn, tn, strict=True)])
        whole = weighted_mean(each) if confusion is None else _kappa(np.tensordot(times, confusion, 1))
        return np.append(whole, each)

    return value


def _kappa(confusion: np.ndarray) -> float:
    """Quadratic kappa from counts [true, decided]; NaN where all are of one class and decided to be."""
    classes = np.arange(len(confusion))
    distance = np.square(classes[:, None] - classes[None])
    total = confusion.sum()
    by_chance = np.outer(confusion.sum(axis=1), confusion.sum(axis=0)) / total if total else confusion
    expected = float((distance * by_chance).sum())
    return 1 - float((distance * confusion).sum()) / expected if expected else float("nan")


def _decided(p: np.ndarray, columns: Columns) -> np.ndarray:
    """What is decided on, bool [rows, labels]: from .5 on, or the likeliest class."""
    if columns.exclusive:
        return np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
    return p >= 0.5


def _counts(y: np.ndarray, p: np.ndarray, group_of: np.ndarray, columns: Columns) -> np.ndarray:
    """Of each group and label the true and false positives, false and true negatives: float64 [groups, labels, 4]."""
    positive, negative, decided = y > 0.5, y < 0.5, _decided(p, columns)
    cells = [positive & decided, negative & decided, positive & ~decided, negative & ~decided]
    return group_sums(np.stack(cells, axis=2).astype(np.float64), group_of)


def _weighed(losses: np.ndarray, weights: np.ndarray, known: np.ndarray, group_of: np.ndarray) -> np.ndarray:
    """Each group's sums of weighted losses and of weights, over the known rows: float64 [groups, 2]."""
    weights = np.where(known, weights, 0.0)
    return group_sums(np.stack([np.where(known, losses, 0.0) * weights, weights], axis=1), group_of)


def _mean_of(losses: np.ndarray, group_of: np.ndarray, weights: np.ndarray) -> Statistic:
    """A mean of losses [rows, labels], over all labels weighted."""
    defined = ~np.isnan(losses)
    sums = group_sums(np.where(defined, losses, 0.0), group_of)
    counts = group_sums(defined.astype(np.float64), group_of)

    def value(times: np.ndarray) -> np.ndarray:
        total, count = times @ sums, times @ counts
        return np.append(ratio(np.array(total @ weights), np.array(count @ weights)), ratio(total, count))

    return value

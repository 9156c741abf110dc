"""Blends: one prediction from several, fitted on some rows and applied to others.

Members are float [members, rows, labels], a blend of them is [rows, labels]. An unknown label is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kit.errors import ConfigError, nearest
from kit.evaluate.calibration import logit, normalised, sigmoid
from kit.evaluate.metrics import Metric, monitor_of
from kit.lazy import lazy

optimize, stats = lazy("scipy.optimize"), lazy("scipy.stats")
sklearn_ensemble, linear_model = lazy("sklearn.ensemble"), lazy("sklearn.linear_model")
_EPS = 1e-7
_BAGS, _STEPS = 5, 20  # of greedy selection


@dataclass(frozen=True)
class Rows:
    """What a blend is fitted on: members [M, N, L], their truth `y` [N, L], and the metric to improve.

    Rows of `exclusive` labels (classes) sum to 1. `metadata` has N rows, and may have no columns.
    """

    members: np.ndarray
    y: np.ndarray
    metric: Metric
    exclusive: bool
    metadata: pd.DataFrame

    def where(self, chosen: np.ndarray) -> "Rows":
        """The rows where `chosen` (bool [N]) is true."""
        metadata = self.metadata[chosen].reset_index(drop=True)
        return Rows(self.members[:, chosen], self.y[chosen], self.metric, self.exclusive, metadata)

    def goodness(self) -> Callable[[np.ndarray], float]:
        """The metric as a function of predictions [N, L], negated where smaller values are better.

        Where it needs decisions, that by which epochs are chosen.
        """
        metric = monitor_of(self.metric)
        value = value_of(metric, self.y)
        return lambda p: metric.gain(value(p), 0.0)


@dataclass(frozen=True)
class Blend:
    """`apply` turns members [M, N, L] and their metadata into [N, L]; `weights` [M] where each member has a weight."""

    apply: Callable[[np.ndarray, pd.DataFrame], np.ndarray]
    weights: np.ndarray | None = None


def fit(name: str, rows: Rows) -> Blend:
    """The blend of that name (`BLENDS`, or `weighted:2,1,...`) fitted on these rows.

    Raises ConfigError for an unknown name, and for weights that are not one number per member.
    """
    if name.startswith("weighted:"):
        return _linear(parse_weights(name, len(rows.members)))
    if name not in BLENDS:
        raise ConfigError(f"unknown blend {name!r}{nearest(name, BLENDS)}")
    return BLENDS[name](rows)


def parse_weights(name: str, members: int) -> np.ndarray:
    """The weights in `weighted:2,1`, scaled to sum to 1: float64 [members]; ConfigError unless there are as many."""
    try:
        weights = np.array([float(number) for number in name.partition(":")[2].split(",")])
    except ValueError:
        weights = np.empty(0)
    if len(weights) != members or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ConfigError(f"{name}: give {members} numbers of 0 or more, one per run, such as weighted:2,1")
    return weights / weights.sum()


def value_of(metric: Metric, y: np.ndarray) -> Callable[[np.ndarray], float]:
    """The metric as a function of predictions [rows, labels], for repeated calls with the same truth.

    ROC AUC sorts each float32 score and its label as one integer: several times as fast as scikit-learn's, and equal
    to it.
    """
    if metric.name != "roc_auc":
        return lambda p: metric(y, p)
    labelled = [~np.isnan(truth) for truth in y.T]
    labels = [(truth[rows] > 0.5).astype(np.uint64) for truth, rows in zip(y.T, labelled, strict=True)]
    defined = [n for n, truth in enumerate(labels) if 0 < truth.sum() < len(truth)]

    def value(p: np.ndarray) -> float:
        return float(np.mean([_roc_auc(labels[n], p[labelled[n], n]) for n in defined])) if defined else float("nan")

    return value


def _roc_auc(positive: np.ndarray, p: np.ndarray) -> float:
    """`positive` uint64 [rows] of 0 and 1, `p` [rows] not negative, so that its bits sort as it does."""
    bits = p.astype(np.float32, copy=False).view(np.uint32).astype(np.uint64)
    keys = np.sort((bits << np.uint64(1)) | positive)
    hits, scores = (keys & np.uint64(1)).astype(np.float64), keys >> np.uint64(1)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    upto = np.cumsum(hits)[last]
    misses = last + 1 - upto
    of_ties, between = np.diff(upto, prepend=0.0), np.diff(misses, prepend=0.0)
    # A sum, not a dot product: BLAS would start threads for it, ten times as slow where the cores are busy.
    return float((of_ties * (misses - between / 2)).sum() / (upto[-1] * misses[-1]))


def greedy_weights(rows: Rows, bags: int = _BAGS, steps: int = _STEPS, seed: int = 0) -> np.ndarray:
    """Ensemble selection (Caruana et al. 2004): weights [M] that sum to 1.

    Starting from the best member, the one that improves the mean most is added, repeatedly and with replacement; the
    best mean on that path is kept. Each bag does so with a random half of the members, and the weights are averaged
    over the bags.
    """
    rng, members = np.random.default_rng(seed), rows.members
    goodness, count = rows.goodness(), len(rows.members)
    alone = np.array([goodness(member) for member in members])
    weights = np.zeros(count)
    for _ in range(bags):
        half = np.arange(count) if bags == 1 else rng.permutation(count)[: max(2, -(-count // 2))]
        weights += _selected(members, half, alone, goodness, steps)
    return weights / weights.sum()


def _selected(
    members: np.ndarray, bag: np.ndarray, alone: np.ndarray, value: Callable[[np.ndarray], float], steps: int
) -> np.ndarray:
    """Each member's share [M] in the best mean on one path."""
    taken = [int(bag[np.argmax(alone[bag])])]
    total, best, at = members[taken[0]].astype(np.float64), float(alone[taken[0]]), 1
    while len(taken) < steps:
        values = [value((total + members[m]) / (len(taken) + 1)) for m in bag]
        taken.append(int(bag[int(np.argmax(values))]))
        total += members[taken[-1]]
        if max(values) > best:
            best, at = max(values), len(taken)
        elif len(taken) - at >= 5:  # a longer path seldom gains more
            break
    return np.bincount(taken[:at], minlength=len(members)) / at


def convex_weights(rows: Rows) -> np.ndarray:
    """The weights [M], none negative, sum 1, of the mean with the least log loss: a convex problem, solved by SLSQP."""
    x, y = _flattened(rows)
    count = len(x)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        p = np.clip(weights @ x, _EPS, 1 - _EPS)
        slope = np.where(y > 0.5, -1 / p, 1 / (1 - p))
        return float(-np.where(y > 0.5, np.log(p), np.log1p(-p)).mean()), x @ slope / len(y)

    solution = optimize.minimize(
        loss,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(count)},
    )
    weights = np.maximum(solution.x, 0)
    return weights / weights.sum()


def nnls_weights(rows: Rows) -> np.ndarray:
    """Non-negative least squares, weights [M] scaled to sum to 1; from the M x M normal equations."""
    x, y = _flattened(rows)
    gram, correlation = x @ x.T, x @ y
    factor = np.linalg.cholesky(gram + 1e-10 * np.trace(gram) * np.eye(len(x)))
    weights, _ = optimize.nnls(factor.T, np.linalg.solve(factor, correlation))
    return weights / weights.sum() if weights.sum() > 0 else np.full(len(x), 1 / len(x))


def ranks(p: np.ndarray) -> np.ndarray:
    """Each label's ranks among these rows (second axis from the end), scaled to (0, 1); ties share their mean rank."""
    return (stats.rankdata(p, axis=-2) - 0.5) / p.shape[-2]


def _flattened(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Members float64 [M, n] and labels [n] of all known labels, flattened."""
    labelled = ~np.isnan(rows.y)
    return rows.members[:, labelled].astype(np.float64), rows.y[labelled].astype(np.float64)


def _linear(weights: np.ndarray) -> Blend:
    return Blend(lambda members, metadata: np.tensordot(weights, members, 1), weights)


def _mean(rows: Rows) -> Blend:
    return _linear(np.full(len(rows.members), 1 / len(rows.members)))


def _best_single(rows: Rows) -> Blend:
    goodness = rows.goodness()
    return _linear(np.eye(len(rows.members))[np.argmax([goodness(member) for member in rows.members])])


def _geometric(rows: Rows) -> Blend:
    def apply(members: np.ndarray, metadata: pd.DataFrame) -> np.ndarray:
        return normalised(np.exp(np.log(np.maximum(members.astype(np.float64), _EPS)).mean(axis=0)), rows.exclusive)

    return Blend(apply)


def _logit(rows: Rows) -> Blend:
    def apply(members: np.ndarray, metadata: pd.DataFrame) -> np.ndarray:
        return normalised(sigmoid(logit(members).mean(axis=0)), rows.exclusive)

    return Blend(apply)


def _rank(rows: Rows) -> Blend:
    """The mean of each member's rank among the rows that were fitted on, not among those it is applied to.

    Ranking each fold by itself would bring all folds to one scale, which the folds' models do not share on a test set.
    """
    reference = np.sort(rows.members, axis=1)

    def apply(members: np.ndarray, metadata: pd.DataFrame) -> np.ndarray:
        placed = np.empty(members.shape)
        for m, n in np.ndindex(members.shape[0], members.shape[2]):
            below, upto = (np.searchsorted(reference[m, :, n], members[m, :, n], side) for side in ("left", "right"))
            placed[m, :, n] = (below + upto) / 2 / reference.shape[1]
        return normalised(placed.mean(axis=0), rows.exclusive)

    return Blend(apply)


def _stacked(rows: Rows, model: Callable[[], Any]) -> Blend:
    """A model of the members' logits and the metadata for each label, or one for all classes."""
    varying = [column for column in rows.metadata if rows.metadata[column].nunique() > 1]

    def features(members: np.ndarray, metadata: pd.DataFrame, label: int | None) -> np.ndarray:
        chosen = members if label is None else members[:, :, [label]]
        flat = logit(chosen).transpose(1, 0, 2).reshape(members.shape[1], -1)
        return np.column_stack([flat, metadata[varying].to_numpy(np.float64)])

    if rows.exclusive:
        labelled = ~np.isnan(rows.y).any(axis=1)
        x = features(rows.members[:, labelled], rows.metadata[labelled], None)
        fitted = model().fit(x, rows.y[labelled].argmax(axis=1))

        def classes(members: np.ndarray, metadata: pd.DataFrame) -> np.ndarray:
            p = np.zeros(members.shape[1:])
            p[:, fitted.classes_] = fitted.predict_proba(features(members, metadata, None))
            return p

        return Blend(classes)
    each = []
    for n, truth in enumerate(rows.y.T):
        labelled = ~np.isnan(truth)
        both = len(np.unique(truth[labelled] > 0.5)) == 2
        x = features(rows.members[:, labelled], rows.metadata[labelled], n)
        each.append(model().fit(x, truth[labelled] > 0.5) if both else None)

    def labels(members: np.ndarray, metadata: pd.DataFrame) -> np.ndarray:
        columns = [
            members[:, :, n].mean(axis=0) if one is None else one.predict_proba(features(members, metadata, n))[:, 1]
            for n, one in enumerate(each)
        ]
        return np.column_stack(columns)

    return Blend(labels)


def _stack(rows: Rows) -> Blend:
    """Logistic regression on the members alone: metadata is left to trees, which need no scaling."""
    bare = pd.DataFrame(index=rows.metadata.index)
    fitted = _stacked(Rows(**{**vars(rows), "metadata": bare}), lambda: linear_model.LogisticRegression(max_iter=1000))
    return Blend(lambda members, metadata: fitted.apply(members, metadata[[]]))


def _boost(rows: Rows) -> Blend:
    return _stacked(
        rows,
        lambda: sklearn_ensemble.HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=20, early_stopping=False, random_state=0
        ),
    )


BLENDS: dict[str, Callable[[Rows], Blend]] = {
    "mean": _mean,
    "best_single": _best_single,
    "geometric": _geometric,
    "logit": _logit,
    "rank": _rank,
    "convex": lambda rows: _linear(convex_weights(rows)),
    "nnls": lambda rows: _linear(nnls_weights(rows)),
    "greedy": lambda rows: _linear(greedy_weights(rows)),
    "stack": _stack,
    "boost": _boost,
}

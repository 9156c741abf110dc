"""Gradient boosting (LightGBM) on an image head's out-of-fold probabilities and metadata.

The trees correct the head's logits, so no tree at all means the head itself. With the backbone's features among their
inputs, as they are or as principal components, trees did worse on every set of images tried: the linear head has
already taken from them what a few thousand images can tell.
"""

import math
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd

from kit.errors import ConfigError
from kit.models.boosted import Boosted, Tree, inputs, logits
from kit.models.metadata import fit_metadata
from kit.train.linear import log_losses

_ROUNDS, _PATIENCE = 1000, 50  # at most, and without a better one
_LEAF = 20  # rows of a leaf, of 400 or more
_FEWEST = 30  # rows of all but the commonest value: a gain on fewer is luck, as seen on NIH's rare findings
_ROWS_PER_THREAD = 20_000  # threads of fewer wait for each other longer than they work
_SETTINGS = {
    "learning_rate": 0.03,
    "num_leaves": 4,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def import_lightgbm() -> Any:
    """LightGBM; raises ConfigError where it is not installed."""
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: without the system's OpenMP
        reason = "" if isinstance(error, ModuleNotFoundError) else f" ({error})"
        raise ConfigError(f"model.arguments.head = gbdt needs LightGBM{reason}: pip install lightgbm") from error
    return lightgbm


def fit(
    base: np.ndarray,
    table: pd.DataFrame,
    labels: np.ndarray,
    inner: np.ndarray,
    *,
    exclusive: bool,
    names: Sequence[str] = (),
    per_group: bool = False,
    seed: int = 0,
) -> Boosted:
    """Trees that correct an image head's probabilities, from training rows.

    `base` float [n, labels] are the head's probabilities for rows that it was not fitted on; `table` the rows of the
    example table, with their groups whole; `labels` float [n, labels], NaN where unknown, of `exclusive` classes the
    largest counts; `inner` int [n] the fold of each row, with no group in two, by which the number of trees is chosen.
    A label gets none where the rows held out do not show a gain of more than its standard error, or it is rare. `names`
    are columns of metadata; with `per_group`, how far out an image is in its group (patient) is an input, too.
    """
    metadata = fit_metadata(table, names, per_group)
    groups = table["group"].to_numpy()
    scores, matrix = logits(base, exclusive), metadata.matrix(table)
    trees: list[tuple[Tree, ...]] = []
    count = labels.shape[1]
    for label in range(1 if exclusive else count):
        y = labels if exclusive else labels[:, [label]]
        x = inputs(scores, label, matrix, groups if per_group else None, exclusive)
        rows = ~np.isnan(y).any(axis=1)
        offset = scores if exclusive else scores[:, [label]]
        fitted = _fit(x[rows], y[rows], offset[rows], groups[rows], inner[rows], seed + label)
        trees += [fitted[n :: y.shape[1]] for n in range(y.shape[1])]
    return Boosted(exclusive=exclusive, metadata=metadata, trees=tuple(trees))


def _fit(
    x: np.ndarray, y: np.ndarray, offset: np.ndarray, groups: np.ndarray, inner: np.ndarray, seed: int
) -> tuple[Tree, ...]:
    """The trees of one label [n, 1], or of exclusive classes in turn [n, classes]; none where they gain nothing."""
    classes = y.shape[1]
    target = y.argmax(axis=1).astype(np.float64) if classes > 1 else y[:, 0]
    folds = [(np.flatnonzero(inner != k), np.flatnonzero(inner == k)) for k in np.unique(inner)]
    if len(x) - np.bincount((target > 0.5 if classes == 1 else target).astype(int)).max(initial=0) < _FEWEST:
        return ()
    if len(folds) < 2 or any(len(np.unique(target[held_in] > 0.5)) < 2 for held_in, _ in folds):
        return ()  # nothing to learn from, or nothing to choose by
    lightgbm = import_lightgbm()
    objective = {"objective": "multiclass", "num_class": classes} if classes > 1 else {"objective": "cross_entropy"}
    settings = {
        **_SETTINGS,
        **objective,
        "seed": seed,
        "num_threads": min(joblib.cpu_count(), 1 + len(x) // _ROWS_PER_THREAD),
        "min_data_in_leaf": min(_LEAF, max(3, len(x) // 20)),
    }

    def data() -> Any:
        return lightgbm.Dataset(x, target, init_score=offset.ravel(order="F"), free_raw_data=False)

    stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
    chosen = lightgbm.cv(settings, data(), _ROUNDS, folds=folds, callbacks=[stop], return_cvbooster=True)["cvbooster"]
    rounds = chosen.best_iteration
    gain = np.zeros(len(x))
    for booster, (_, held_out) in zip(chosen.boosters, folds, strict=True):
        raw = booster.predict(x[held_out], raw_score=True, num_iteration=rounds).reshape(len(held_out), -1)
        before, after = (log_losses(scores, y[held_out]) for scores in (offset[held_out], offset[held_out] + raw))
        gain[held_out] = before - after
    if not _is_clear(gain, groups):
        return ()
    dump = lightgbm.train(settings, data(), rounds).dump_model()["tree_info"]
    return tuple(_tree(each["tree_structure"]) for each in dump)


def _is_clear(gain: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the mean gain of rows is larger than its standard error, rows of a group counting as one observation."""
    codes = pd.factorize(groups)[0]
    mean = gain.mean()
    deviations = np.bincount(codes, gain - mean)
    return bool(mean > math.sqrt((deviations**2).sum()) / len(gain))


def _tree(root: dict[str, Any]) -> Tree:
    """A tree of LightGBM's dump, of numeric splits alone."""
    splits, leaves = _nodes(root, "split_index"), _nodes(root, "leaf_index")
    # LightGBM has its own numbers of splits: children have larger ones than their parents.
    return Tree(
        feature=tuple(node["split_feature"] for node in splits),
        threshold=tuple(node["threshold"] for node in splits),
        missing=tuple(_missing_goes_left(node) for node in splits),
        left=tuple(_number(node["left_child"]) for node in splits),
        right=tuple(_number(node["right_child"]) for node in splits),
        value=tuple(node["leaf_value"] for node in leaves),
    )


def _nodes(node: dict[str, Any], number: str) -> list[dict[str, Any]]:
    """The nodes below that have such a number (splits or leaves), in its order."""
    nodes, waiting = [], [node]
    while waiting:
        node = waiting.pop()
        waiting += [node[child] for child in ("left_child", "right_child") if child in node]
        if (number in node) or (number == "leaf_index" and "split_index" not in node):  # a stump has no number
            nodes.append(node)
    return sorted(nodes, key=lambda each: each.get(number, 0))


def _number(node: dict[str, Any]) -> int:
    return int(node["split_index"]) if "split_index" in node else -1 - int(node["leaf_index"])


def _missing_goes_left(node: dict[str, Any]) -> bool:
    """As LightGBM does: by the direction learnt, or like a 0 where training rows lacked no value."""
    return bool(node["default_left"]) if node["missing_type"] == "NaN" else node["threshold"] >= 0

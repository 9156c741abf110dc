"""Boosted trees on another head's probabilities and metadata: what they are, and what they predict.

They are kept as arrays in JSON and evaluated here, so a run with them is read without LightGBM (whose reader of models
ends the process over a damaged file), and nothing of the file is trusted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from kit.errors import ConfigError
from kit.models.metadata import Metadata, z_scores

if TYPE_CHECKING:
    import keras

_TINY = 1e-7  # the least probability that a logit is taken of


class Tree(BaseModel):
    """A regression tree of n splits: of features `feature`, value ≤ `threshold` goes left, a missing one by `missing`.

    Children of split i are splits, whose numbers are larger than i, or leaf k as -1 - k; `value` are the n + 1 leaves'.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature: tuple[Annotated[int, Field(ge=0)], ...]
    threshold: tuple[FiniteFloat, ...]
    missing: tuple[bool, ...]  # whether a missing value goes left
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _is_tree(self) -> "Tree":
        splits = len(self.feature)
        lengths = [len(each) for each in (self.threshold, self.missing, self.left, self.right)]
        if lengths != [splits] * 4 or len(self.value) != splits + 1:
            raise ValueError("a tree's arrays do not fit together")
        children = [*self.left, *self.right]
        if sorted(children) != [*range(-1 - splits, 0), *range(1, splits)][: 2 * splits]:
            raise ValueError("a tree does not reach each split and leaf once")
        if any(0 <= child <= n for n, pair in enumerate(zip(self.left, self.right, strict=True)) for child in pair):
            raise ValueError("a tree goes round in a circle")
        return self

    def predict(self, values: np.ndarray) -> np.ndarray:
        """The value of each row's leaf, float64 [n], for features [n, d], NaN where missing."""
        leaves = np.array(self.value)
        if not self.feature:
            return np.full(len(values), leaves[0])
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        missing, children = np.array(self.missing), np.stack([self.right, self.left])
        node, rows = np.zeros(len(values), np.int64), np.arange(len(values))
        while len(rows):
            at = node[rows]
            x = values[rows, feature[at]]
            goes_left = np.where(np.isnan(x), missing[at], x <= threshold[at])
            node[rows] = children[goes_left.astype(np.int64), at]
            rows = rows[node[rows] >= 0]
        return leaves[-1 - node]


class Boosted(BaseModel):
    """Trees for each of the labels, whose values are added to the logits of another head.

    Their inputs are those logits (of `exclusive` classes all, else the label's own), where `metadata` says so also how
    far out they are in the row's group, and the metadata.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exclusive: bool
    metadata: Metadata
    trees: tuple[tuple[Tree, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> "Boosted":
        scores = len(self.trees) if self.exclusive else 1
        width = scores * (1 + self.metadata.per_group) + len(self.metadata.features)
        if any(feature >= width for trees in self.trees for tree in trees for feature in tree.feature):
            raise ValueError(f"a tree splits by a feature of more than {width}")
        return self

    def probabilities(self, base: np.ndarray, table: pd.DataFrame | None = None) -> np.ndarray:
        """Probabilities, float32 [n, labels], from another head's [n, labels] and the rows of the example table.

        The rows must hold their groups whole; there need be none if no tree asks for what they say (`needs_table`).
        Raises ConfigError where there are none but need be, DataError for metadata that are not there.
        """
        base = np.asarray(base, np.float64)
        if not any(self.trees):
            return base.astype(np.float32)
        if table is None:
            self.require_no_table("images alone")
            return self.probabilities(base, self.metadata.blank(len(base)))
        before, metadata = logits(base, self.exclusive), self.metadata.matrix(table)
        groups, scores = table["group"].to_numpy() if self.metadata.per_group else None, before.copy()
        for label, trees in enumerate(self.trees):
            if trees:
                values = inputs(before, label, metadata, groups, self.exclusive)
                scores[:, label] += sum(tree.predict(values) for tree in trees)
        if self.exclusive:
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return (1 / (1 + np.exp(-scores))).astype(np.float32)

    @property
    def needs_table(self) -> bool:
        """Whether images alone are not enough: a tree asks for metadata, or how far out an image is in its group."""
        own = len(self.trees) if self.exclusive else 1
        return any(feature >= own for trees in self.trees for tree in trees for feature in tree.feature)

    def require_no_table(self, what: str) -> None:
        """Raise ConfigError where `what`, which is to be predicted, has no example table but needs it."""
        if self.needs_table:
            names = ["the group", *(column.name for column in self.metadata.columns)]
            raise ConfigError(
                f"the model (head gbdt) needs {', '.join(names)} of each image, which {what} do not have: predict "
                "images of records, without views (predict.tta=none), or train a run with head=linear"
            )


class BoostedModel:
    """A network with boosted trees after it, for prediction alone."""

    def __init__(self, network: "keras.Model", trees: Boosted) -> None:
        self.network, self.trees = network, trees

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [B, labels]; raises ConfigError where images alone are not enough."""
        return self.trees.probabilities(self.network.predict_on_batch(images))


def logits(p: np.ndarray, exclusive: bool) -> np.ndarray:
    """Logits of probabilities [n, labels], float64; of `exclusive` classes their logarithms."""
    p = np.clip(np.asarray(p, np.float64), _TINY, 1 - _TINY)
    return np.log(p) if exclusive else np.log(p) - np.log1p(-p)


def inputs(
    scores: np.ndarray, label: int, metadata: np.ndarray, groups: np.ndarray | None, exclusive: bool
) -> np.ndarray:
    """What the trees of a label take, float64 [n, d]: logits, their z-scores within `groups` if given, metadata."""
    own = scores if exclusive else scores[:, [label]]
    parts: Sequence[np.ndarray] = [own, metadata] if groups is None else [own, z_scores(own, groups), metadata]
    return np.column_stack(parts)

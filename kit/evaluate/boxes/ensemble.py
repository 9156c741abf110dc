"""Which way to bring the boxes of several runs together is best, estimated as kit.evaluate.ensemble does.

Weights and cuts are chosen on all folds but one and judged on that one; the same two biases remain.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kit.boxes import Boxes, joined
from kit.config import BoxSettings, EvaluateSettings
from kit.errors import ConfigError, DataError, nearest
from kit.evaluate.boxes.decision import Judged, best_cut, compared, surely_best, value_of
from kit.evaluate.boxes.merging import fuse
from kit.schemas import BlendScore

BEST, PLAIN = "best_single", "wbf"
# Name -> how boxes are merged, and whether runs count by their values.
_FUSIONS = {
    "wbf": ("wbf", False),
    "wbf_weighted": ("wbf", True),
    "nms": ("nms", False),
    "nms_weighted": ("nms", True),
    "soft_nms": ("soft_nms", False),
    "soft_nms_weighted": ("soft_nms", True),
}
BOX_BLENDS = (BEST, *_FUSIONS)


@dataclass(frozen=True)
class BoxBlend:
    """A way to make one set of boxes of several: fused with `weights`, which sum to 1, or that of one run alone."""

    name: str
    weights: tuple[float, ...]
    merge: BoxSettings

    def apply(self, members: list[Boxes]) -> Boxes:
        """The boxes of the members, predictions of the same images, as one set."""
        if self.name == BEST:
            return members[int(np.argmax(self.weights))]
        return fuse(members, self.merge, self.weights)


@dataclass(frozen=True)
class BoxEnsemble:
    """The chosen blend, fitted to all folds; its nested out-of-fold boxes; and the worth of all that were compared.

    `scores` also has each single run, as `only NAME`; gains are over `base`, the better of the best single run and
    plain fusion.
    """

    blend: BoxBlend
    nested: Boxes
    scores: dict[str, BlendScore]
    base: str


def ensemble(
    members: Mapping[str, Boxes], judged: Judged, merge: BoxSettings, settings: EvaluateSettings, how: str = "auto"
) -> BoxEnsemble:
    """The best blend of the runs' merged out-of-fold boxes, or the one named by `how`, compared with the others.

    `auto` takes the best single run or plain fusion, whichever has the larger nested value, unless another blend is
    surely better. Raises ConfigError for an unknown name and DataError for a single fold.
    """
    if how != "auto" and how not in BOX_BLENDS:
        raise ConfigError(f"unknown blend of boxes {how!r}{nearest(how, BOX_BLENDS)}")
    folds = np.unique(judged.fold)
    if len(folds) < 2:
        raise DataError("an ensemble needs at least two folds: one to fit on and one to score")
    boxes = list(members.values())
    ways = {f"only {name}": _of_one(judged, member) for name, member in members.items()}
    values = np.array([[way.value, *way.others] for way in ways.values()])  # [members, 1 + folds]
    ways |= {name: _of_blend(name, boxes, values, judged, merge) for name in BOX_BLENDS}
    nested = {name: way.nested for name, way in ways.items()}
    base = max((PLAIN, BEST), key=lambda name: np.nan_to_num(value_of(nested[name]), nan=-np.inf))
    optimistic = {name: way.value for name, way in ways.items()}
    scores = compared(nested, optimistic, base, judged.group, settings, len(BOX_BLENDS) - 2)
    rivals = {name: scores[name] for name in BOX_BLENDS if name not in (PLAIN, BEST)}
    chosen = surely_best(rivals, base) if how == "auto" else how
    return BoxEnsemble(_fit(chosen, values[:, 0], merge), ways[chosen].boxes, scores, base)


@dataclass(frozen=True)
class _Way:
    """Boxes, and the values (as `Cut`, of all labels together) that they have at their best cuts."""

    boxes: Boxes
    value: float
    others: np.ndarray  # [folds]
    nested: np.ndarray  # [images, labels]


def _of_one(judged: Judged, boxes: Boxes) -> _Way:
    cuts = [best_cut(judged.of_label(n), boxes.of_label(n)) for n in range(judged.labels)]
    value, *others = (
        value_of(np.array([values])) for values in zip(*([c.value, *c.others] for c in cuts), strict=True)
    )
    return _Way(boxes, value, np.array(others), np.column_stack([cut.nested for cut in cuts]))


def _of_blend(name: str, members: list[Boxes], values: np.ndarray, judged: Judged, merge: BoxSettings) -> _Way:
    """The blend, for each fold fitted to the others; `value` is that of the one that is fitted to all."""
    fitted = [_fit(name, column, merge) for column in values.T]
    way_of = {blend: _of_one(judged, blend.apply(members)) for blend in dict.fromkeys(fitted)}
    number = np.unique(judged.fold, return_inverse=True)[1]
    nested = np.empty((judged.truth.images, judged.labels))
    parts = []
    for k, blend in enumerate(fitted[1:]):
        way = way_of[blend]
        nested[number == k] = way.nested[number == k]
        parts.append(way.boxes.where(number[way.boxes.image] == k))
    whole = way_of[fitted[0]]
    return _Way(joined(parts), whole.value, whole.others, nested)


def _fit(name: str, values: np.ndarray, merge: BoxSettings) -> BoxBlend:
    """The blend of that name, given the value of each member on the images that it is fitted to."""
    count = len(values)
    if name == BEST:
        return BoxBlend(name, tuple(np.eye(count)[np.argmax(values)].tolist()), merge)
    how, weighted = _FUSIONS[name]
    shares = values if weighted and np.all(values > 0) else np.ones(count)
    return BoxBlend(name, tuple((shares / shares.sum()).tolist()), merge.model_copy(update={"merge": how}))

"""Boxes [x, y, width, height] from an image's upper left corner, as arrays, and the columns of tables that hold them.

In tables they are in pixels of the source image: `boxes` (lists of four numbers), `box_labels` (their labels; absent
where there is a single one) and, of predictions, `box_scores`. Everything here but `scaled` works in any unit, as long
as all boxes of an image share it: intersection over union does not change when an axis is stretched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kit.errors import some

BOXES, SCORES, LABELS = "boxes", "box_scores", "box_labels"


@dataclass(frozen=True)
class Boxes:
    """The boxes of `images` images, n of them, one after the other.

    `image` int64 [n], ascending: the number of each box's image · `xywh` float64 [n, 4] · `label` int64 [n]: the number
    of its label · `score` float64 [n], 0 to 1: 1 for the truth. Within an image, boxes are in any order.
    """

    images: int
    image: np.ndarray
    xywh: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def where(self, keep: np.ndarray) -> Boxes:
        """The boxes for which `keep` (bool [n]) is true, or in the order of it (int), of the same images."""
        return replace(
            self, image=self.image[keep], xywh=self.xywh[keep], label=self.label[keep], score=self.score[keep]
        )

    def of_images(self, images: np.ndarray) -> Boxes:
        """The boxes of these images (int [m], each once), which get the numbers 0 to m - 1 in this order."""
        place = np.full(self.images, -1)
        place[images] = np.arange(len(images))
        number = place[self.image]
        order = np.argsort(number, kind="stable")
        order = order[number[order] >= 0]
        return replace(self.where(order), images=len(images), image=number[order])

    def of_label(self, label: int) -> Boxes:
        """The boxes of one label, of the same images; there it has the number 0."""
        own = self.where(self.label == label)
        return replace(own, label=np.zeros_like(own.label))

    def scaled(self, factors: np.ndarray) -> Boxes:
        """The boxes with x and width, y and height multiplied by `factors` (float [images, 2]) of their image."""
        return replace(self, xywh=self.xywh * np.tile(factors[self.image], 2))

    def clipped(self, width: float, height: float) -> Boxes:
        """The parts of the boxes inside images of that size; those that lie outside are left out."""
        size = np.array([width, height])
        start = np.clip(self.xywh[:, :2], 0, size)
        sides = np.clip(self.xywh[:, :2] + self.xywh[:, 2:], 0, size) - start
        return replace(self, xywh=np.hstack([start, sides])).where((sides > 0).all(axis=1))

    def best(self, labels: int) -> np.ndarray:
        """The largest score of each image and label, float64 [images, labels]; 0 where there is no box."""
        best = np.zeros((self.images, labels))
        np.maximum.at(best, (self.image, self.label), self.score)
        return best


def joined(parts: Sequence[Boxes]) -> Boxes:
    """The boxes of several sets of predictions of the same images (not of sets of images: see `stacked`)."""
    image = np.concatenate([part.image for part in parts])
    order = np.argsort(image, kind="stable")
    values = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("xywh", "label", "score"))
    return Boxes(parts[0].images, image[order], *values)


def stacked(parts: Sequence[Boxes]) -> Boxes:
    """The boxes of several sets of images, one set after the other."""
    starts = np.cumsum([0, *(part.images for part in parts)])
    moved = [replace(p, images=int(starts[-1]), image=p.image + s) for p, s in zip(parts, starts, strict=False)]
    return joined(moved) if moved else nothing(0)


def nothing(images: int) -> Boxes:
    """No box in any of so many images."""
    none = np.empty(0, np.int64)
    return Boxes(images, none, np.empty((0, 4)), none, np.empty(0))


def boxes_of(table: pd.DataFrame, labels: Sequence[str]) -> Boxes:
    """The boxes of a table's rows, the truth or predictions; of a table without `box_labels`, of the first label.

    A cell that is no list (missing) holds no box.
    """
    cells = [_numbers(cell, 4) for cell in table[BOXES]]
    counts = np.array([len(cell) for cell in cells], np.int64)
    image = np.repeat(np.arange(len(table)), counts)
    label = np.zeros(len(image), np.int64)
    if LABELS in table.columns:
        number_of = {name: n for n, name in enumerate(labels)}
        names = [name for cell in table[LABELS] if not _is_missing(cell) for name in cell]
        label = np.array([number_of[name] for name in names], np.int64)
    score = np.ones(len(image))
    if SCORES in table.columns:
        score = np.concatenate([np.empty(0), *(_numbers(cell, 1)[:, 0] for cell in table[SCORES])])
    return Boxes(len(table), image, np.concatenate([np.empty((0, 4)), *cells]), label, score)


def with_boxes(table: pd.DataFrame, boxes: Boxes, labels: Sequence[str]) -> pd.DataFrame:
    """The table, a row for each image, with predicted boxes as columns `boxes`, `box_scores` and `box_labels`.

    The best box of an image comes first; numbers are rounded to float32.
    """
    order = np.lexsort((-boxes.score, boxes.image))
    ordered = boxes.where(order)
    ends = np.cumsum(np.bincount(ordered.image, minlength=boxes.images))

    def lists(values: Iterable[object]) -> list[list[object]]:
        return [part.tolist() for part in np.split(np.asarray(values), ends)[:-1]]

    names = np.array([*labels], object)[ordered.label]
    columns = {BOXES: ordered.xywh.astype(np.float32), SCORES: ordered.score.astype(np.float32), LABELS: names}
    return table.assign(**{name: pd.Series(lists(values), table.index) for name, values in columns.items()})


def one_row_each(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each predicted box: the other columns, then label, score, x, y, width and height; an image without any
    has one row, in which these are empty."""
    others = table.drop(columns=[BOXES, SCORES, LABELS])
    rows = []
    for n, (boxes, scores, names) in enumerate(zip(table[BOXES], table[SCORES], table[LABELS], strict=True)):
        each = [(name, score, *box) for name, score, box in zip(names, scores, boxes, strict=True)]
        rows += [(n, *row) for row in each or [(None, *[None] * 5)]]
    columns = pd.DataFrame(rows, columns=["row", "label", "score", "x", "y", "width", "height"])
    return pd.concat([others.iloc[columns.pop("row")].reset_index(drop=True), columns], axis=1)


def fault_of_boxes(table: pd.DataFrame, labels: Sequence[str]) -> str | None:
    """What makes predicted boxes of a table with ids none of these labels, in words; None where nothing does.

    They lie where they may: those at an edge can reach beyond it.
    """
    if absent := [name for name in (BOXES, SCORES, LABELS) if name not in table.columns]:
        return f"it has no column {some(absent)}"
    for name, boxes, scores, names in zip(*(table[column] for column in ("id", BOXES, SCORES, LABELS)), strict=True):
        if fault := _fault_of_cells(boxes, scores, names, labels):
            return f"{fault}, such as those of {name}"
    return None


def _fault_of_cells(boxes: object, scores: object, names: object, labels: Sequence[str]) -> str | None:
    try:
        xywh, p = _numbers(boxes, 4), _numbers(scores, 1)
        names = [] if _is_missing(names) else [*names]  # type: ignore[misc]
    except (TypeError, ValueError):
        return "there are boxes that are not four numbers each"
    if not len(xywh) == len(p) == len(names):
        return "there are not as many boxes as scores and labels"
    if not (np.isfinite(xywh).all() and (xywh[:, 2:] > 0).all()):
        return "there are boxes without an extent"
    if not ((p >= 0) & (p <= 1 + 1e-5)).all():
        return "there are scores that are not from 0 to 1"
    if unknown := {*names} - {*labels}:
        return f"there are boxes of other labels ({some(unknown)})"
    return None


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair: float64 [n, m] of boxes [n, 4] and [m, 4]; 0 where both are empty."""
    return paired_iou(a[:, None], b[None])


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [..., 4] with those at the same place of the other array: float64 [...]."""
    corner = np.maximum(a[..., :2], b[..., :2])
    other = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    sides = np.clip(other - corner, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _numbers(cell: object, width: int) -> np.ndarray:
    """A cell's numbers, float64 [n, width]."""
    if _is_missing(cell):
        return np.empty((0, width))
    return np.array([*cell], np.float64).reshape(-1, width) if len(cell) else np.empty((0, width))  # type: ignore


def _is_missing(cell: object) -> bool:
    return cell is None or isinstance(cell, float)

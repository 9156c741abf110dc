"""Boxes of one object -> one box: non-maximum suppression, soft or hard, and weighted boxes fusion.

Boxes of different images or labels never meet. All images are computed at once: the boxes of an image and label are a
row, the best first, of arrays [rows, columns]. Boxes without area are dropped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kit.boxes import Boxes, joined
from kit.config import BoxSettings

_CELLS = 2**20  # of the arrays that are computed with at a time
_TINY = 1e-12  # weight of a box with score 0

Decay = Callable[[np.ndarray], np.ndarray]  # intersection over union with a better box -> factor for the score


def merge(candidates: Boxes, settings: BoxSettings) -> Boxes:
    """One network's candidates in one view of each image, merged; in each image, the best comes first.

    Fusion takes boxes that are not doubled: before `wbf` they go through `nms`.
    """
    return _MERGES["nms" if settings.merge == "wbf" else settings.merge]([candidates], settings, np.ones(1))


def fuse(parts: Sequence[Boxes], settings: BoxSettings, weights: Sequence[float] | None = None) -> Boxes:
    """Several predictions of the same images (of views, folds, runs), each merged, as one; the best comes first.

    `weights`, one per part, say how much its scores count; None: equally. A single part is returned as it is.
    """
    if len(parts) == 1:
        return parts[0]
    shares = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    return _MERGES[settings.merge](parts, settings, shares)


def nms(boxes: Boxes, iou: float, at_most: int) -> Boxes:
    """Non-maximum suppression: without boxes that overlap a better one by more than `iou`; at most so many an image."""
    return _picked(boxes, lambda overlap: overlap <= iou, at_most)


def soft_nms(boxes: Boxes, iou: float, at_most: int, sigma: float | None = None, min_score: float = 0.0) -> Boxes:
    """Soft-NMS (Bodla et al. 2017): scores of boxes that overlap a better one fall, to `min_score` at least.

    By the factor exp(-overlap² / sigma) or, without a sigma, by 1 - overlap where that is more than `iou`.
    """
    if sigma is None:
        return _picked(boxes, lambda overlap: np.where(overlap > iou, 1 - overlap, 1), at_most, min_score)
    return _picked(boxes, lambda overlap: np.exp(-np.square(overlap) / sigma), at_most, min_score)


def wbf(parts: Sequence[Boxes], iou: float, weights: Sequence[float] | np.ndarray | None = None) -> Boxes:
    """Weighted boxes fusion (Solovyev et al. 2021, arXiv:1910.13302) of the predictions of several models.

    From the best box on, each joins the fused box that it overlaps most, and by more than `iou`, or begins one. A
    fused box is the mean of its boxes, weighted by score; its score is their mean times min(models, boxes) / models.
    """
    shares = np.ones(len(parts)) if weights is None else np.asarray(weights, np.float64)
    model = np.concatenate([np.full(len(part), n) for n, part in enumerate(parts)])
    model = model[np.argsort(np.concatenate([part.image for part in parts]), kind="stable")]  # as `joined` sorts
    boxes = joined(parts)
    boxes = replace(boxes, score=boxes.score * shares[model])
    fused = [_fused(boxes, rows, iou) for rows in _rows(boxes)]
    image, label, xywh, score, count = (np.concatenate(column) for column in zip(_NO_BOX, *fused, strict=True))
    score = np.minimum(score * np.minimum(len(parts), count) / shares.sum(), 1)
    return _best_first(Boxes(boxes.images, image, xywh, label, score))


def _nms(parts: Sequence[Boxes], settings: BoxSettings, weights: np.ndarray) -> Boxes:
    return nms(_weighted(parts, settings, weights), settings.iou, settings.at_most)


def _soft_nms(parts: Sequence[Boxes], settings: BoxSettings, weights: np.ndarray) -> Boxes:
    boxes = _weighted(parts, settings, weights)
    return soft_nms(boxes, settings.iou, settings.at_most, settings.sigma, settings.min_score)


def _wbf(parts: Sequence[Boxes], settings: BoxSettings, weights: np.ndarray) -> Boxes:
    fused = wbf([part.where(part.score >= settings.min_score) for part in parts], settings.iou, weights)
    return _first(fused.where(fused.score >= settings.min_score), settings.at_most)


_MERGES = {"nms": _nms, "soft_nms": _soft_nms, "wbf": _wbf}


def _weighted(parts: Sequence[Boxes], settings: BoxSettings, weights: np.ndarray) -> Boxes:
    """The parts' boxes that are good enough, their scores multiplied by the weights, of which the largest is 1."""
    shares = weights / weights.max()
    scaled = [replace(part, score=part.score * share) for part, share in zip(parts, shares, strict=True)]
    boxes = joined(scaled)
    return boxes.where(boxes.score >= settings.min_score)


def _picked(boxes: Boxes, decay: Decay, at_most: int, min_score: float = 0.0) -> Boxes:
    """The best box of each row, then the best of the others with their scores as it leaves them, and so on."""
    places, scores = [np.empty(0, np.int64)], [np.empty(0)]
    for rows in _rows(boxes):
        corners = _corners(boxes.xywh[np.maximum(rows, 0)])
        score = np.where(rows >= 0, boxes.score[np.maximum(rows, 0)], -1)
        for _ in range(min(at_most, rows.shape[1])):
            best = score.argmax(axis=1)
            each = np.arange(len(rows))
            top = score[each, best]
            left = (top >= min_score) & (top > 0)
            if not left.any():
                break
            if not left.all():
                rows, corners, score, best, top = rows[left], corners[:, left], score[left], best[left], top[left]
                each = np.arange(len(rows))
            places.append(rows[each, best])
            scores.append(top)
            score = score * decay(_overlap(corners[:, each, best], corners))
            score[each, best] = -1
    place = np.concatenate(places)
    order = np.argsort(place)
    kept = replace(boxes.where(place[order]), score=np.concatenate(scores)[order])
    return _first(_best_first(kept), at_most)


def _fused(boxes: Boxes, rows: np.ndarray, iou: float) -> tuple[np.ndarray, ...]:
    """The fused boxes of some rows: image, label, xywh, mean score and how many boxes each is of."""
    height, width = rows.shape
    length = (rows >= 0).sum(axis=1)  # descending
    corners = _corners(boxes.xywh[np.maximum(rows, 0)])
    score = boxes.score[np.maximum(rows, 0)]
    mean, total = np.zeros((4, height, width)), np.zeros((4, height, width))
    weight, sums, count = np.zeros((height, width)), np.zeros((height, width)), np.zeros((height, width), np.int64)
    used = np.zeros(height, np.int64)
    for n in range(width):
        live = int(np.searchsorted(-length, -n, "left"))  # rows that have a box n
        each, most = np.arange(live), max(1, int(used[:live].max()))
        box, own = corners[:, :live, n], score[:live, n]
        overlap = _overlap(box, mean[:, :live, :most])
        best = overlap.argmax(axis=1)
        at = np.where(overlap[each, best] > iou, best, used[:live])
        used[:live] = np.maximum(used[:live], at + 1)
        share = np.maximum(own, _TINY)
        weight[each, at] += share
        sums[each, at] += own
        count[each, at] += 1
        total[:, each, at] += box * share
        mean[:, each, at] = total[:, each, at] / weight[each, at]
    row, column = np.nonzero(count)
    first, (left, top, right, bottom) = rows[row, 0], mean[:, row, column]
    xywh = np.stack([left, top, right - left, bottom - top], axis=1)
    of = count[row, column]
    return boxes.image[first], boxes.label[first], xywh, sums[row, column] / of, of


_NO_BOX = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4)), np.empty(0), np.empty(0, np.int64))


def _rows(boxes: Boxes) -> Iterator[np.ndarray]:
    """The places of boxes, a row for each image and label, the best first, padded with -1: int [rows, columns].

    Longer rows come first; boxes with equal scores are in the order of their coordinates, whatever theirs was.
    """
    order = np.lexsort((*boxes.xywh.T, -boxes.score, boxes.label, boxes.image))
    order = order[(boxes.xywh[order, 2:] > 0).all(axis=1)]
    if not len(order):
        return
    image, label = boxes.image[order], boxes.label[order]
    starts = np.flatnonzero(np.append(True, (np.diff(image) != 0) | (np.diff(label) != 0)))
    lengths = np.diff(np.append(starts, len(order)))
    longest = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[longest], lengths[longest]
    begin = 0
    while begin < len(starts):
        width = int(lengths[begin])
        alike = int(np.searchsorted(-lengths, -(width // 2), "left"))  # rows at least half as long: little padding
        end = min(begin + max(1, _CELLS // width), alike)
        column = np.arange(width)
        inside = column < lengths[begin:end, None]
        yield np.where(inside, order[np.minimum(starts[begin:end, None] + column, len(order) - 1)], -1)
        begin = end


def _corners(xywh: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] as left, top, right and bottom: [4, ...]."""
    x, y, width, height = np.moveaxis(xywh, -1, 0)
    return np.stack([x, y, x + width, y + height])


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union [rows, columns] of each row's box [4, rows] with boxes [4, rows, columns]."""
    left, top, right, bottom = box[..., None]
    shared = np.clip(np.minimum(right, others[2]) - np.maximum(left, others[0]), 0, None)
    shared *= np.clip(np.minimum(bottom, others[3]) - np.maximum(top, others[1]), 0, None)
    area = (others[2] - others[0]) * (others[3] - others[1])
    return shared / ((right - left) * (bottom - top) + area - shared)


def _best_first(boxes: Boxes) -> Boxes:
    return boxes.where(np.lexsort((*boxes.xywh.T, boxes.label, -boxes.score, boxes.image)))


def _first(boxes: Boxes, at_most: int) -> Boxes:
    """The first so many boxes of each image."""
    rank = np.arange(len(boxes)) - np.searchsorted(boxes.image, boxes.image, "left")
    return boxes.where(rank < at_most)

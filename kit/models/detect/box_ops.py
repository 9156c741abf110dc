"""Boxes inside a network (keras.ops, float32), and out of it (numpy).

Boxes are [x, y, width, height]; corners are [left, top, right, bottom]. Both are in pixels, from the upper left corner
of an image.
"""

from typing import Any

import numpy as np
from keras import ops

from kit.boxes import Boxes

_TINY = 1e-7  # square pixels; keeps areas that are divided by away from 0


def corners_of(boxes: Any) -> Any:
    """Corners [..., 4] of boxes [..., 4]."""
    return ops.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def boxes_of(corners: Any) -> Any:
    """Boxes [..., 4] of corners [..., 4]."""
    return ops.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)


def clip_corners(corners: Any, height: float, width: float) -> Any:
    """Corners [..., 4], those outside an image moved onto its border."""
    return ops.clip(corners, 0.0, np.array([width, height, width, height], "float32"))


def area(corners: Any) -> Any:
    """The area [...] of corners [..., 4]; 0 where the right is left of the left, or the bottom above the top."""
    sides = ops.maximum(corners[..., 2:] - corners[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Any, b: Any) -> Any:
    """Intersection over union [...] of corners [..., 4] that broadcast to one shape; 0 of two empty ones."""
    shared = area(_shared(a, b))
    return shared / ops.maximum(area(a) + area(b) - shared, _TINY)


def pairwise_iou(a: Any, b: Any) -> Any:
    """Intersection over union [..., n, m] of each of the corners [..., n, 4] with each of [..., m, 4]."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: Any, b: Any) -> Any:
    """Generalised intersection over union [...] in -1..1 of corners of equal shapes (Rezatofighi et al. 2019, eq. 3).

    Intersection over union less the share of the smallest enclosing box that neither covers, which says how far apart
    boxes are that do not meet.
    """
    shared = area(_shared(a, b))
    union = area(a) + area(b) - shared
    around = ops.concatenate([ops.minimum(a[..., :2], b[..., :2]), ops.maximum(a[..., 2:], b[..., 2:])], axis=-1)
    enclosing = area(around)
    return shared / ops.maximum(union, _TINY) - (enclosing - union) / ops.maximum(enclosing, _TINY)


def focal_loss(targets: Any, logits: Any, alpha: float = 0.25, gamma: float = 2.0) -> Any:
    """The focal loss of each element, targets 0 or 1 (or between) and logits of equal shapes (Lin et al. 2017, eq. 5).

    `alpha` weighs positives, 1 - alpha negatives; `gamma` is how much less those count that are right already.
    """
    p = ops.sigmoid(logits)
    wrong = p + targets - 2 * p * targets  # 1 - p_t
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * ops.power(wrong, gamma) * ops.binary_crossentropy(targets, logits, from_logits=True)


def best_boxes(corners: np.ndarray, scores: np.ndarray, at_most: int, size: tuple[int, int]) -> Boxes:
    """The boxes with the highest scores, at most so many of each image and label, inside images of (height, width).

    `scores` float [B, M, L] in 0..1; `corners` float [B, M, 4], or [B, M, L, 4] where each label has its own. Boxes
    that are empty once they are clipped are left out.
    """
    images, places, _ = scores.shape
    keep = min(at_most, places)
    best = np.argpartition(-scores, keep - 1, axis=1)[:, :keep]  # [B, keep, L]
    image, _, label = (each.ravel() for each in np.indices(best.shape))
    place = best.ravel()
    chosen = corners[image, place] if corners.ndim == 3 else corners[image, place, label]
    height, width = size
    chosen = np.clip(chosen.astype(np.float64), 0, [width, height, width, height])
    xywh = np.concatenate([chosen[:, :2], chosen[:, 2:] - chosen[:, :2]], axis=1)
    boxes = Boxes(images, image, xywh, label, scores[image, place, label].astype(np.float64))
    return boxes.where(xywh[:, 2:].min(axis=1) > 0)


def _shared(a: Any, b: Any) -> Any:
    """The corners of the intersection; right before left, or bottom before top, where there is none."""
    return ops.concatenate([ops.maximum(a[..., :2], b[..., :2]), ops.minimum(a[..., 2:], b[..., 2:])], axis=-1)

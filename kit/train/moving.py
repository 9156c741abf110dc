"""Where the pixels of an image go: one affine matrix for each, which moves images, masks and boxes alike.

A pixel in column i and row j covers i to i + 1 and j to j + 1; boxes and their edges are counted so. The matrices, as
`ops.image.affine_transform` takes them, count from the centres of pixels: half a pixel less.
"""

import math
from collections.abc import Mapping
from typing import Any

from keras import ops

from kit.config import AugmentSettings

_ROUNDING = 1e-4  # of float32, as a share of a box's area


def affine(draw: Any, settings: AugmentSettings, height: int, width: int) -> Any:
    """The 8 values [B, 8] of `ops.image.affine_transform`, which map output pixels to input pixels.

    `draw` float32 [B, 7 or 8], uniform in [-1, 1]: horizontal flip, vertical flip, rotation, zoom, shift x, shift y,
    shear, and for a zoom of two numbers that of y. Around the image's centre c, an output pixel p comes from
    c + R·S·F·(p - c) / zoom - shift.
    """
    flip_x = ops.where(draw[:, 0] < 0, -1.0, 1.0) if settings.horizontal_flip else 1.0
    flip_y = ops.where(draw[:, 1] < 0, -1.0, 1.0) if settings.vertical_flip else 1.0
    angle = draw[:, 2] * (settings.rotation * math.pi / 180)
    slant = ops.tan(draw[:, 6] * (settings.shear * math.pi / 180))
    (zoom_x, zoom_y), (shift_x, shift_y) = settings.zoom_xy, settings.shift_xy
    scale_x = flip_x / (1 + draw[:, 3] * zoom_x)
    scale_y = flip_y / (1 + draw[:, 7 if isinstance(settings.zoom, tuple) else 3] * zoom_y)
    cos, sin = ops.cos(angle), ops.sin(angle)
    a0, a1 = cos * scale_x, (cos * slant - sin) * scale_y
    b0, b1 = sin * scale_x, (sin * slant + cos) * scale_y
    cx, cy = (width - 1) / 2, (height - 1) / 2
    a2 = cx - a0 * cx - a1 * cy - draw[:, 4] * (shift_x * width)
    b2 = cy - b0 * cx - b1 * cy - draw[:, 5] * (shift_y * height)
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def warp(x: Any, matrices: Any, fill_mode: str, fill_value: float = 0.0, interpolation: str = "bilinear") -> Any:
    """Images float32 [B, H, W, C], each transformed by its matrix [B, 8]; use interpolation="nearest" for labels."""
    return ops.image.affine_transform(x, matrices, interpolation, fill_mode, fill_value, data_format="channels_last")


def move_boxes(boxes: Any, matrices: Any, height: int, width: int, min_visible: float = 0.0, frames: Any = None) -> Any:
    """Boxes float32 [B, N, 4] (x, y, w, h in pixels) where `warp` puts them, cut to the image, and to `frames`
    [B, 4] (left, top, right, bottom in pixels) where there are some.

    A moved box encloses the moved ellipse that the box encloses (Kalra et al. 2021, "Towards rotation invariance in
    object detection", arXiv:2109.13488): findings are round, and what encloses the four moved corners would be half as
    large again after 10 degrees. A is the linear part of the move, a its first row: the ellipse's points are
    (w/2·u, h/2·v) with u² + v² = 1, so A moves them by at most |(a₁·w/2, a₂·h/2)| along x (Cauchy and Schwarz), and
    that is attained. Without rotation and shear it is the moved rectangle itself.

    A box of which less than `min_visible` of the area is in the image, or nothing, becomes zeros, and so does padding.
    """
    # (not matrices[:, 0, None]: TensorFlow's graph optimiser takes that slice of a stack and loses the new axis)
    a0, a1, a2, b0, b1, b2, *_ = ops.split(matrices, 8, axis=1)
    x, y, w, h = (boxes[..., n] for n in range(4))
    # The matrix takes output pixels to input pixels: boxes go the other way.
    determinant = a0 * b1 - a1 * b0
    from_x, from_y = x + w / 2 - 0.5 - a2, y + h / 2 - 0.5 - b2
    centre_x = (b1 * from_x - a1 * from_y) / determinant + 0.5
    centre_y = (a0 * from_y - b0 * from_x) / determinant + 0.5
    half_x = ops.sqrt(ops.square(b1 * w) + ops.square(a1 * h)) / (2 * ops.abs(determinant))
    half_y = ops.sqrt(ops.square(b0 * w) + ops.square(a0 * h)) / (2 * ops.abs(determinant))
    low_x, low_y, high_x, high_y = (0, 0, width, height) if frames is None else _cut(frames, height, width)
    left, right = (ops.clip(centre_x + side * half_x, low_x, high_x) for side in (-1, 1))
    top, bottom = (ops.clip(centre_y + side * half_y, low_y, high_y) for side in (-1, 1))
    moved = ops.stack([left, top, right - left, bottom - top], axis=-1)
    return _without(moved, 4 * half_x * half_y, _area(moved), min_visible)


def drop_hidden(boxes: Any, hidden: Any, min_visible: float) -> Any:
    """Boxes [B, N, 4], zeros where the rectangle `hidden` [B, 4] (left, top, right, bottom) of their image leaves less
    than `min_visible` of the area."""
    x, y, w, h = (boxes[..., n] for n in range(4))
    left, top, right, bottom = ops.split(hidden, 4, axis=1)
    wide = ops.maximum(ops.minimum(x + w, right) - ops.maximum(x, left), 0)
    high = ops.maximum(ops.minimum(y + h, bottom) - ops.maximum(y, top), 0)
    return _without(boxes, w * h, w * h - wide * high, min_visible)


def without_dropped(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with `box_mask` false and `box_labels` 0 where `boxes` are zeros, as padding is."""
    there = ops.any(batch["boxes"][..., 2:] > 0, axis=-1)
    changed = {**batch}
    if "box_mask" in batch:
        changed["box_mask"] = ops.logical_and(batch["box_mask"], there)
    if "box_labels" in batch:
        changed["box_labels"] = ops.where(there, batch["box_labels"], ops.zeros_like(batch["box_labels"]))
    return changed


def _cut(frames: Any, height: int, width: int) -> list[Any]:
    """Left, top, right and bottom [B, 1] of the frames, cut to the image."""
    limits = ops.convert_to_tensor([width, height, width, height], dtype="float32")
    return list(ops.split(ops.clip(frames, 0, limits), 4, axis=1))


def _without(boxes: Any, area: Any, visible: Any, min_visible: float) -> Any:
    """The boxes, or zeros where less than a share of `area` (both [B, N]) is `visible`, or nothing."""
    keep = ops.logical_and(visible > 0, visible >= (min_visible - _ROUNDING) * area)
    return ops.where(keep[..., None], boxes, ops.zeros_like(boxes))


def _area(boxes: Any) -> Any:
    return boxes[..., 2] * boxes[..., 3]

"""Where boxes are in the image that records hold: `image.steps` and the final size move them as they move pixels.

A pixel in column i and row j covers i to i + 1 and j to j + 1. Every image that is resized keeps its edges, so that a
share of a side stays that share; only crops change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kit.config import ImageSettings
from kit.data.pixels.steps import crop_starts
from kit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kit.boxes import Boxes

MIN_VISIBLE = 0.3  # the share of a box's area that has to be in the stored image, or it is dropped
_DIGITS = 9  # of shares of areas, which rounding would move past a bound


def to_shares(
    boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings, names: Sequence[str] = ()
) -> Boxes:
    """Boxes in pixels of the source images as shares of the width and height of the stored ones, 0 to 1.

    `heights` and `widths` (int [images]) are those of the source images, upright; `names` are for messages. Boxes that
    a crop cuts are cut; those of which it leaves less than `MIN_VISIBLE` of the area are dropped. (Where a JPEG is
    decoded at a fraction of its size, which has to be whole pixels, the last of them may reach beyond the image, by
    less than half a stored pixel.)

    Raises ConfigError for a crop of an image whose size is known only to a super-resolution model, and DataError for
    an image that is smaller than a crop.
    """
    inside = _shares(boxes, heights, widths, settings, names)
    return replace(boxes, xywh=inside.xywh).where(inside.visible >= MIN_VISIBLE)


def to_source(boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings) -> Boxes:
    """Boxes as shares of the stored images in pixels of the source images: the inverse of `to_shares`, but for cuts."""
    corner, size = _parts(boxes, heights, widths, settings)
    return replace(boxes, xywh=np.concatenate([boxes.xywh[:, :2] * size + corner, boxes.xywh[:, 2:] * size], axis=1))


def count_cut(
    boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings, names: Sequence[str] = ()
) -> tuple[int, int]:
    """How many of the boxes `to_shares` cuts, and how many it drops. Raises what it raises."""
    visible = _shares(boxes, heights, widths, settings, names).visible
    dropped = visible < MIN_VISIBLE
    return int(((visible < 1) & ~dropped).sum()), int(dropped.sum())


class _Shares(NamedTuple):
    """Boxes [n, 4] as shares of the stored images, cut to them, and the share [n] of their area that is in them."""

    xywh: np.ndarray
    visible: np.ndarray


def _shares(
    boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings, names: Sequence[str]
) -> _Shares:
    corner, size = _parts(boxes, heights, widths, settings, names)
    left_top, sides = (boxes.xywh[:, :2] - corner) / size, boxes.xywh[:, 2:] / size
    start, end = np.clip(left_top, 0, 1), np.clip(left_top + sides, 0, 1)
    visible = np.prod(end - start, axis=1) / np.prod(sides, axis=1)
    return _Shares(np.concatenate([start, end - start], axis=1), visible.round(_DIGITS))


def _parts(
    boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings, names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """For each box, the part of its source image that is stored: upper left corner and size (x, y), float64 [n, 2]."""
    source = np.stack([widths, heights], axis=1)
    corner, part = np.zeros(source.shape), source.astype(np.float64)
    sides: np.ndarray | None = source  # of the images in pixels, after the steps so far; None: unknown
    for step in settings.steps:
        if step.name == "center_crop":
            if sides is None:
                raise ConfigError(
                    "image.steps: after super_resolution kit does not know what center_crop leaves of boxes: "
                    "crop first, or resize between the two"
                )
            if len(sides) and sides.min() < step.size:
                n = int(sides.min(axis=1).argmin())
                image = names[n] if names else "an image"
                raise DataError(
                    f"center_crop to {step.size} pixels, but {image} has only {sides[n, 0]:.0f}x{sides[n, 1]:.0f}: "
                    "make the crop smaller"
                )
            corner, part = corner + crop_starts(sides, step.size) * part / sides, step.size * part / sides
            sides = np.full_like(sides, step.size)
        elif step.name == "resize":
            sides = np.full_like(source, step.size)
        elif step.name == "super_resolution":
            sides = None
    return corner[boxes.image], part[boxes.image]

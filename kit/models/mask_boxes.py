"""The boxes around what a mask shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from kit.boxes import Boxes

_FINEST = 2  # pixels of the image: a coarser mask is interpolated to this before it is cut


def boxes_of_masks(
    masks: np.ndarray, stride: int, size: tuple[int, int], thresholds: Sequence[float], min_area: float, at_most: int
) -> Boxes:
    """The boxes around the connected areas of probability masks, float32 [B, h, w, L], in pixels of the images.

    A cell of a mask is `stride` pixels wide and high; `size` is height and width of the images. Each threshold gives
    boxes of its own; areas smaller than `min_area`, a share of the image, give none. Of each image and label the
    `at_most` with the best scores are kept.
    """
    rows: list[tuple[int, int, np.ndarray]] = []
    for image, label in np.argwhere(masks.max(axis=(1, 2)) >= min(thresholds)):
        boxes = [*_boxes(masks[image, :, :, label], stride, size, thresholds, min_area)]
        if boxes:
            rows.append((image, label, np.array(sorted(boxes, key=lambda row: -row[4])[:at_most])))
    counts = [len(boxes) for _, _, boxes in rows]
    values = np.concatenate([np.empty((0, 5)), *(boxes for _, _, boxes in rows)])
    image, label = (np.repeat(np.array([row[n] for row in rows], np.int64), counts) for n in range(2))
    return Boxes(len(masks), image, values[:, :4], label, values[:, 4])


def _boxes(
    mask: np.ndarray, stride: int, size: tuple[int, int], thresholds: Sequence[float], min_area: float
) -> Iterator[tuple[float, ...]]:
    """x, y, width, height and score of each area of one mask."""
    factor = max(1, stride // _FINEST)
    cell = stride / factor
    rows, columns = -(-size[0] * factor // stride), -(-size[1] * factor // stride)
    if factor > 1:
        mask = cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    mask = np.ascontiguousarray(mask[:rows, :columns])
    for threshold in thresholds:
        count, areas, stats, _ = cv2.connectedComponentsWithStats((mask >= threshold).astype(np.uint8), connectivity=4)
        for n in range(1, count):
            x, y, w, h, area = stats[n]
            if area * cell**2 < min_area * size[0] * size[1]:
                continue
            inside = mask[y : y + h, x : x + w][areas[y : y + h, x : x + w] == n]
            left, top = x * cell, y * cell
            yield left, top, min(w * cell, size[1] - left), min(h * cell, size[0] - top), float(inside.mean())

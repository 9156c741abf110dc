"""The boxes around what a mask shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from kit.boxes import Boxes
from kit.errors import ConfigError

_FINER = 8  # a mask is interpolated to so many places in a row of each cell, but to no less than a pixel
_EDGE, _CORE = 0.5, 0.9  # shares of the peak of an area: where its edge is, and where it may fall into parts


@dataclass(frozen=True)
class Areas:
    """Which areas of a mask become boxes.

    An area is connected, its peak is at least `threshold`, and it ends at half of its peak, so that faint areas have
    an edge too. Where nine tenths of the peak leave several parts of it, as in two opacities that touch, each part
    gets a box as well: that of the pixels nearest to it. What is smaller than `min_area`, a share of the image, gets
    no box.
    """

    threshold: float
    min_area: float

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ConfigError(f"model.arguments.threshold = {self.threshold}: a probability between 0 and 1 is needed")
        if not 0 <= self.min_area < 1:
            raise ConfigError(f"model.arguments.min_area = {self.min_area}: a share of the image is 0 or more, below 1")

    def boxes(self, masks: np.ndarray, stride: int, size: tuple[int, int], at_most: int) -> Boxes:
        """The boxes of probability masks, float32 [B, h, w, L], in pixels of the images, in float.

        A cell of a mask is `stride` pixels wide and high; `size` is height and width of the images. The score of a box
        is the mean probability in it. Of each image and label the `at_most` with the best scores are kept.
        """
        image, label = np.nonzero(masks.max(axis=(1, 2)) >= self.threshold)
        rows = [self._best(masks[i, :, :, k], stride, size, at_most) for i, k in zip(image, label, strict=True)]
        counts = [len(row) for row in rows]
        values = np.concatenate([np.empty((0, 5)), *rows])
        return Boxes(len(masks), np.repeat(image, counts), values[:, :4], np.repeat(label, counts), values[:, 4])

    def _best(self, mask: np.ndarray, stride: int, size: tuple[int, int], at_most: int) -> np.ndarray:
        """x, y, width, height and score of the boxes of one mask, float64 [n, 5], the best first."""
        factor = min(_FINER, stride)
        cell = stride / factor
        mask = _interpolated(np.asarray(mask, np.float32), factor)
        mask = mask[: -int(-size[0] // cell), : -int(-size[1] // cell)]
        regions = self._regions(mask, self.min_area * size[0] * size[1] / cell**2)
        boxes = np.array([(x, y, x + w, y + h, mask[y : y + h, x : x + w].mean()) for x, y, w, h in regions])
        boxes = boxes.reshape(-1, 5)[np.argsort(-boxes.reshape(-1, 5)[:, 4], kind="stable")[:at_most]]
        corners = np.minimum(boxes[:, :4] * cell, [size[1], size[0]] * 2)  # the last cell may reach beyond the image
        return np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], boxes[:, 4]])

    def _regions(self, mask: np.ndarray, smallest: float) -> Iterator[tuple[int, int, int, int]]:
        """x, y, width and height of the boxes of one mask, in its cells."""
        for x, y, around in _connected(mask, self.threshold * _EDGE, smallest):
            peak = around.max()
            if peak < self.threshold:
                continue
            for left, top, area in _connected(around, peak * _EDGE, smallest):
                height, width = area.shape
                yield x + left, y + top, width, height
                for part in _parts(area, peak * _CORE, smallest):
                    yield x + left + part[0], y + top + part[1], part[2], part[3]


def _interpolated(mask: np.ndarray, factor: int) -> np.ndarray:
    """The mask with `factor` times as many rows and columns. Beyond the image it is 0: a box may end at its border."""
    if factor == 1:
        return mask
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return cv2.resize(padded, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)[
        factor:-factor, factor:-factor
    ]


def _connected(mask: np.ndarray, threshold: float, smallest: float) -> Iterator[tuple[int, int, np.ndarray]]:
    """The connected areas of at least `smallest` cells: x, y, and the mask within their extent, 0 outside of them."""
    count, numbers, extents, _ = cv2.connectedComponentsWithStats((mask >= threshold).view(np.uint8), connectivity=8)
    for number in range(1, count):
        x, y, width, height, cells = extents[number]
        if cells >= smallest:
            there = np.s_[y : y + height, x : x + width]
            yield x, y, np.where(numbers[there] == number, mask[there], 0)


def _parts(area: np.ndarray, threshold: float, smallest: float) -> Iterator[tuple[int, int, int, int]]:
    """x, y, width and height of the parts of an area: the cells nearest to each of its cores, if there are several."""
    cores = [*_connected(area, threshold, smallest)]
    if len(cores) < 2:
        return
    others = np.ones(area.shape, np.uint8)
    for x, y, core in cores:
        others[y : y + core.shape[0], x : x + core.shape[1]][core > 0] = 0
    _, nearest = cv2.distanceTransformWithLabels(others, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    for x, y, core in cores:
        number = nearest[y, x + core[0].argmax()]  # in the first row of its extent, a core has its largest value > 0
        yield cv2.boundingRect(((nearest == number) & (area > 0)).view(np.uint8))

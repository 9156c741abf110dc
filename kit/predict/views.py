"""Test-time augmentation: the views of an image over which predictions are averaged, and the way back from them.

A pixel in column i and row j covers i to i + 1 and j to j + 1. OpenCV resizes so: an image's edges stay its edges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from kit.boxes import Boxes

_CROP, _SCALES = 0.875, (0.9, 1.1)  # side of a crop (as 224 of 256), and enlargements, relative to the image
_INSIDE = 0.5  # the share of a box that has to be in the image: others are around what a view mirrors at the edges


@dataclass(frozen=True)
class View(ABC):
    """A view of images: uint8 [B, H, W, C] -> the same dtype and, if they are square, the same shape."""

    @abstractmethod
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The images as they are seen in this view."""

    @abstractmethod
    def matrix(self, height: int, width: int) -> np.ndarray:
        """Float64 [2, 3]: from a place (x, y, 1) in an image of this size to the place (x, y) in its view, in pixels.

        Sides stay upright: either x depends on x alone and y on y, or x on y and y on x.
        """

    def boxes_back(self, xywh: np.ndarray, height: int, width: int) -> np.ndarray:
        """Boxes [n, 4] (x, y, width, height in pixels of the view) in pixels of the image of that size, float64.

        They may reach beyond the image.
        """
        back = np.linalg.inv(np.vstack([self.matrix(height, width), [0, 0, 1]]))[:2]
        one, other = (corners @ back[:, :2].T + back[:, 2] for corners in (xywh[:, :2], xywh[:, :2] + xywh[:, 2:]))
        return np.concatenate([np.minimum(one, other), np.abs(other - one)], axis=1)

    def back(self, boxes: Boxes, height: int, width: int) -> Boxes:
        """Boxes in pixels of the view as boxes in pixels of the images, all of that size, cut to them.

        Boxes that have half of their area outside are dropped: they are around what a view mirrors at the edges.
        """
        xywh = self.boxes_back(boxes.xywh, height, width)
        start, end = (np.clip(place, 0, (width, height)) for place in (xywh[:, :2], xywh[:, :2] + xywh[:, 2:]))
        keep = np.prod(end - start, axis=1) > _INSIDE * np.prod(xywh[:, 2:], axis=1)
        return replace(boxes, xywh=np.concatenate([start, end - start], axis=1)).where(keep)


@dataclass(frozen=True)
class Turned(View):
    """The image, mirrored (left to right) or not, after so many quarter turns."""

    quarters: int
    mirrored: bool

    def __call__(self, images: np.ndarray) -> np.ndarray:
        images = images[:, :, ::-1] if self.mirrored else images
        return np.ascontiguousarray(np.rot90(images, self.quarters, axes=(1, 2)))

    def matrix(self, height: int, width: int) -> np.ndarray:
        matrix = np.array([[-1.0, 0, width] if self.mirrored else [1, 0, 0], [0, 1, 0]])
        for _ in range(self.quarters):
            matrix = np.array([matrix[1], [0, 0, width] - matrix[0]])  # (x, y) -> (y, width - x)
            height, width = width, height
        return matrix


@dataclass(frozen=True)
class Cropped(View):
    """A crop enlarged to the image's size; top 0 and left 0 is the upper left corner, .5 and .5 the centre."""

    top: float
    left: float

    def __call__(self, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        (y, rows), (x, columns) = self._part(height, self.top), self._part(width, self.left)
        return _resized(images[:, y : y + rows, x : x + columns], height, width)

    def matrix(self, height: int, width: int) -> np.ndarray:
        (y, rows), (x, columns) = self._part(height, self.top), self._part(width, self.left)
        return np.array([[width / columns, 0, -x * width / columns], [0, height / rows, -y * height / rows]])

    @staticmethod
    def _part(side: int, start: float) -> tuple[int, int]:
        """The first pixel of the crop along a side, and its number of pixels."""
        length = round(side * _CROP)
        return round((side - length) * start), length


@dataclass(frozen=True)
class Scaled(View):
    """The image enlarged about its centre; where it becomes smaller, mirrored at its edges."""

    factor: float

    def __call__(self, images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        large = _resized(images, round(height * self.factor), round(width * self.factor))
        if self.factor < 1:
            y, x = height - large.shape[1], width - large.shape[2]
            return np.pad(large, ((0, 0), (y // 2, y - y // 2), (x // 2, x - x // 2), (0, 0)), mode="symmetric")
        y, x = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
        return np.ascontiguousarray(large[:, y : y + height, x : x + width])

    def matrix(self, height: int, width: int) -> np.ndarray:
        factors, starts = zip(*(self._part(side) for side in (width, height)), strict=True)
        return np.column_stack([np.diag(factors), starts])

    def _part(self, side: int) -> tuple[float, int]:
        """The factor along a side, which ends in whole pixels, and the pixel where the image begins."""
        length = round(side * self.factor)
        return length / side, (side - length) // 2 if self.factor < 1 else -((length - side) // 2)


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images]
    return np.stack(resized).reshape(len(images), height, width, images.shape[3])  # OpenCV drops a single channel


# A patch of tissue has no up or down, so all 8 views are as likely.
_AS_IT_IS = Turned(0, False)
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_AS_IT_IS,),
    "mirror": (_AS_IT_IS, Turned(0, True)),
    "flips": (_AS_IT_IS, Turned(0, True), Turned(2, False), Turned(2, True)),
    "dihedral": tuple(Turned(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)),
    "crops": (_AS_IT_IS, *(Cropped(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)))),
    "scales": (_AS_IT_IS, *map(Scaled, _SCALES)),
}

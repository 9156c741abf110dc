"""Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2).

A patch of the image is covered, at one place after the other, and what the model says is compared with what it says of
the whole image. Nothing of the network is used, so it works for every model; it takes as many predictions as places.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kit.explain.scores import network_of, read
from kit.models.boosted import BoostedModel
from kit.runtime.functions import compiled


@dataclass(frozen=True)
class Patch:
    """What covers the image: the side of a square and its steps as shares of the image's shorter side, and its colour.

    `fill` is a grey value 0..255 or the image's mean colour. `change`: whether a map shows by how much the score drops,
    or by how much it changes (`absolute`). `Patch(20 / 224, 10 / 224, 128, "absolute")` is a common choice, too.
    """

    side: float = 1 / 8
    step: float = 1 / 16
    fill: float | Literal["mean"] = "mean"
    change: Literal["drop", "absolute"] = "drop"

    def places(self, height: int, width: int) -> tuple[np.ndarray, int]:
        """The upper left corners (y, x), int32 [n, 2], and the patch's side in pixels; the whole image is covered."""
        side, step = (max(1, round(share * min(height, width))) for share in (self.side, self.step))
        rows, columns = (np.unique([*range(0, length - side, step), length - side]) for length in (height, width))
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2).astype(np.int32), side


def occlusion(
    model: keras.Model | BoostedModel,
    images: np.ndarray,
    labels: Sequence[int] | None = None,
    patch: Patch | None = None,
    batch_size: int = 32,
    after: Callable[[], Any] = lambda: None,
) -> np.ndarray:
    """By how much the score of labels (numbers) drops where the image is covered: float32 [B, len(labels), H, W].

    `images` are uint8 [B, H, W, C]. Each pixel has the mean over the patches that cover it. Scores are probabilities;
    of a network that finds boxes, that of the best box. `after` is called after each image.
    """
    occluder, maps = Occluder(model, labels, patch, batch_size), []
    for image in images:
        maps.append(occluder(image))
        after()
    return np.stack(maps)


class Occluder:
    """A function: image uint8 [H, W, C] -> its map, float32 [labels, H, W]; see `occlusion`.

    Covered copies are made on the device, at most `batch_size` at a time, in the same compiled call as the network.
    """

    def __init__(
        self,
        model: keras.Model | BoostedModel,
        labels: Sequence[int] | None = None,
        patch: Patch | None = None,
        batch_size: int = 32,
    ) -> None:
        self._network, self._labels, self._patch = network_of(model), labels, patch or Patch()
        height, width = self._network.input_shape[1:3]
        self._places, self._side = self._patch.places(height, width)
        copies = len(self._places) + 1  # the whole image is one of them
        self._size = -(-copies // -(-copies // batch_size))  # equal batches: what fills up the last one is wasted
        self._run = compiled(self._network, lambda image, fill, at: _covered(image, fill, at, self._side))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        fill = image.mean(axis=(0, 1)) if self._patch.fill == "mean" else np.full(image.shape[2], self._patch.fill)
        fill, nowhere = np.round(fill).astype(np.uint8), np.full((1, 2), max(image.shape[:2]), np.int32)
        corners = np.concatenate([nowhere, self._places])
        parts = []
        for start in range(0, len(corners), self._size):
            chunk = corners[start : start + self._size]
            full = np.concatenate([chunk, np.repeat(nowhere, self._size - len(chunk), axis=0)])
            parts.append(read(self._network, self._run(image, fill, full), self._labels)[: len(chunk)])
        whole, *covered = np.concatenate(parts)
        drops = whole - np.stack(covered)
        drops = np.abs(drops) if self._patch.change == "absolute" else drops
        return spread(drops, self._places, self._side, image.shape[:2])


def _covered(image: Any, fill: Any, corners: Any, side: int) -> Any:
    """The image [H, W, C] with a patch of colour `fill` [C] at each corner [n, 2] (y, x): [n, H, W, C]."""
    height, width = image.shape[:2]
    rows = ops.arange(height, dtype="int32")[None] - corners[:, :1]
    columns = ops.arange(width, dtype="int32")[None] - corners[:, 1:]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
    return ops.where(inside[..., None], fill, image[None])


def spread(changes: np.ndarray, places: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """For each pixel the mean change [n, L] of the patches that cover it: float32 [L, H, W]."""
    total, count = np.zeros((changes.shape[1], *size)), np.zeros(size)
    for (y, x), change in zip(places, changes, strict=True):
        total[:, y : y + side, x : x + side] += change[:, None, None]
        count[y : y + side, x : x + side] += 1
    return (total / count).astype(np.float32)

"""ROIAlign (He et al. 2017, arXiv:1703.06870): the features of regions, at a common size."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

_SAMPLES = 2  # in each cell and along each axis


class RegionAlign(keras.layers.Layer):
    """Regions (corners [B, R, 4] in pixels) and the maps of a pyramid [B, h, w, C] -> features [B · R, side, side, C].

    A region is cut into `side`² cells; a cell's feature is the mean of 2 × 2 points in it, each interpolated bilinearly
    between the centres of the map's places, of which the outermost are continued. Each region takes one of `levels`
    (2: stride 4, and so on): one whose area is `canonical`² pixels takes level 4, one of twice the side the next (Lin
    et al. 2017, equation 1).

    Interpolation along rows and along columns are two matrix products for all regions at once, on every level: no
    gathering, nor scattering of gradients, which devices do slowly and in any order.
    """

    def __init__(self, levels: Sequence[int], image: tuple[int, int], side: int, canonical: float, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)  # corners stay float32
        self.levels, self.image, self.side, self.canonical = tuple(levels), image, side, canonical

    def call(self, regions: Any, maps: Sequence[Any]) -> Any:
        chosen = level_of(regions, self.levels, self.canonical)
        total = 0.0
        for level, features in zip(self.levels, maps, strict=True):
            here = ops.cast(chosen == level, "float32")[..., None, None]
            across, down = (self._weights(regions, axis, features.shape[2 - axis], 2**level) for axis in (0, 1))
            down = ops.cast(down * here, features.dtype)
            lines = ops.einsum("brih,bhwc->briwc", down, features)
            total = total + ops.einsum("brjw,briwc->brijc", ops.cast(across, features.dtype), lines)
        return ops.reshape(total, (-1, self.side, self.side, maps[0].shape[-1]))

    def _weights(self, regions: Any, axis: int, places: int, stride: int) -> Any:
        """What each place along an axis (0: x) counts in each cell: float32 [B, R, side, places], each sum is 1."""
        margin = max(0, self.image[1 - axis] - places * stride) / 2  # as in `fpn.centres`
        start, end = regions[..., axis, None], regions[..., axis + 2, None]
        points = (np.arange(self.side * _SAMPLES, dtype="float32") + 0.5) / (self.side * _SAMPLES)
        at = (start + points * (end - start) - margin) / stride - 0.5  # in places, whose centres are 0, 1, ...
        at = ops.clip(at, 0.0, float(places - 1))[..., None]
        near = ops.maximum(1 - ops.abs(at - np.arange(places, dtype="float32")), 0.0)
        cells = (-1, regions.shape[1], self.side, _SAMPLES, places)
        return ops.mean(ops.reshape(near, cells), axis=3)


def level_of(regions: Any, levels: Sequence[int], canonical: float) -> Any:
    """The level int32 [B, R] of each region, corners [B, R, 4]: floor(4 + log2(side / canonical)), among `levels`."""
    sides = ops.maximum(regions[..., 2:] - regions[..., :2], 1e-3)
    level = 4 + (ops.log(sides[..., 0]) + ops.log(sides[..., 1]) - 2 * math.log(canonical)) / (2 * math.log(2))
    level = ops.floor(level + 1e-5)  # 224 is level 4 however it is rounded
    return ops.cast(ops.clip(level, min(levels), max(levels)), "int32")

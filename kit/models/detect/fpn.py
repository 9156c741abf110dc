"""Feature pyramids: maps of equal width, each of which knows what the coarser ones have seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import layers


def pyramid(levels: Mapping[str, Any], finest: int = 3, coarsest: int = 6, channels: int = 256) -> dict[str, Any]:
    """{"P3": [B, h, w, channels], ...}, finest first, stride 2^3 and so on (Lin et al. 2017, arXiv:1612.03144).

    `levels` are a backbone's own (`kit.models.detect.neck.levels_of`). There is no finer map than theirs; coarser ones
    are made by convolutions of stride 2, each from the one before, as in RetinaNet.
    """
    own = {number: x for name, x in levels.items() if (number := int(name[1:])) >= finest}
    own = own or {number: levels[f"P{number}"] for number in [max(int(name[1:]) for name in levels)]}
    maps: dict[int, Any] = {}
    x = None
    for number in sorted(own, reverse=True):
        lateral = layers.Conv2D(channels, 1, name=f"P{number}_lateral")(own[number])
        x = lateral if x is None else layers.Add(name=f"P{number}_sum")([lateral, _twice(x, lateral.shape, number)])
        maps[number] = layers.Conv2D(channels, 3, padding="same", name=f"P{number}_map")(x)
    for number in range(max(own) + 1, coarsest + 1):
        x = maps[number - 1]
        x = layers.ReLU(name=f"P{number - 1}_relu")(x) if number - 1 not in own else x
        maps[number] = layers.Conv2D(channels, 3, strides=2, padding="same", name=f"P{number}_map")(x)
    return {f"P{number}": maps[number] for number in sorted(maps) if finest <= number <= coarsest or len(maps) == 1}


def centres(shape: tuple[int, int], stride: int, image: tuple[int, int]) -> np.ndarray:
    """What the places of a map of (rows, columns) look at: the centres x, y, float32 [rows · columns, 2], in pixels.

    Row by row. A map that is smaller than the image divided by its stride, since convolutions were not padded, has lost
    as much on either side.
    """
    y, x = (
        (np.arange(places) + 0.5) * stride + max(0, side - places * stride) / 2
        for places, side in zip(shape, image, strict=True)
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype("float32")


def _twice(x: Any, shape: tuple[int, ...], number: int) -> Any:
    """A map at twice its size, cut (right and below) or padded (on all sides) to the rows and columns of `shape`."""
    x = layers.UpSampling2D(name=f"P{number}_up")(x)
    extra = [have - need for have, need in zip(x.shape[1:3], shape[1:3], strict=True)]
    if any(each > 0 for each in extra):
        x = layers.Cropping2D([(0, max(0, each)) for each in extra], name=f"P{number}_cut")(x)
    if any(each < 0 for each in extra):
        margins = [(max(0, -each) // 2, max(0, -each) - max(0, -each) // 2) for each in extra]
        x = layers.ZeroPadding2D(margins, name=f"P{number}_pad")(x)
    return x

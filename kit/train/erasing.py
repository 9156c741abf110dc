"""Erasing: noise in a rectangle of some images (Zhong et al. 2020), and where it is, for boxes that it hides."""

from typing import Any

import keras
from keras import ops

_SQUARES = (0.02, 0.33)  # between which the square of a rectangle's share of a side is drawn


class Erasing(keras.layers.Layer):
    """Images float32 [B, H, W, C] in 0..255 -> the images, and the rectangles that were erased.

    A `share` of the images loses a rectangle to normal noise, drawn as Keras's RandomErasing draws it (which does not
    tell where): the square of a rectangle's share of each side is uniform, and it lies anywhere inside the image.
    Rectangles are float32 [B, 4] (left, top, right, bottom, in whole pixels); zeros where nothing was erased.
    """

    def __init__(self, share: float, seed: int) -> None:
        super().__init__(dtype="float32")
        self.share, self.seed_generator = share, keras.random.SeedGenerator(seed)

    def build(self, shape: Any) -> None:
        pass

    def call(self, images: Any) -> tuple[Any, Any]:
        count, height, width, _ = ops.shape(images)
        draw = keras.random.uniform((count, 5), dtype="float32", seed=self.seed_generator)
        sides = ops.sqrt(_SQUARES[0] + (_SQUARES[1] - _SQUARES[0]) * draw[:, :2])
        starts = draw[:, 2:4] * (1 - sides)
        size = ops.convert_to_tensor([width, height], dtype="float32")
        rectangles = ops.ceil(ops.concatenate([starts, starts + sides], axis=1) * ops.tile(size, 2))
        rectangles = ops.where(draw[:, 4:] < self.share, rectangles, ops.zeros_like(rectangles))
        noise = ops.clip(
            255 * keras.random.normal(ops.shape(images), dtype="float32", seed=self.seed_generator), 0, 255
        )
        return ops.where(inside(rectangles, height, width), noise, images), rectangles


def inside(rectangles: Any, height: int, width: int) -> Any:
    """Which pixels are in the rectangle of their image: bool [B, H, W, 1] of rectangles [B, 4] in whole pixels."""
    left, top, right, bottom = ops.split(rectangles, 4, axis=1)
    x, y = ops.arange(width, dtype="float32"), ops.arange(height, dtype="float32")
    columns, rows = ops.logical_and(x >= left, x < right), ops.logical_and(y >= top, y < bottom)
    return ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])

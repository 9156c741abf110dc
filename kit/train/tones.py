"""Random grey levels: contrast, a rising curve and gamma, as between scanners and the windows they are shown in."""

from typing import Any

import keras
from keras import ops

_PIECES = 4  # of the curve
_DARK = 1e-6  # share of white that stands for black in logarithms


class Tones(keras.layers.Layer):
    """Images float32 [B, H, W, C] in 0..255 -> the same, all channels of an image changed alike.

    Each strength s draws uniformly for every image: `contrast` multiplies differences from the image's mean by 1 - s to
    1 + s; `histogram` is a curve of four straight pieces whose slopes are drawn from 1 - s to 1 + s and then scaled so
    that black and white stay; `gamma` is a power from 1 - s to 1 + s of the grey levels as shares of white. They
    follow one another in this order; 0 switches one off.
    """

    def __init__(self, contrast: float, gamma: float, histogram: float, seed: int) -> None:
        super().__init__(dtype="float32")
        self.contrast, self.gamma, self.histogram = contrast, gamma, histogram
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, shape: Any) -> None:
        pass

    def call(self, images: Any, training: bool = True) -> Any:
        shape = (ops.shape(images)[0], 2 + _PIECES)
        draw = keras.random.uniform(shape, -1.0, 1.0, dtype="float32", seed=self.seed_generator)
        x = images / 255
        if self.contrast:
            mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
            x = ops.clip(mean + (x - mean) * (1 + self.contrast * draw[:, 0, None, None, None]), 0, 1)
        if self.histogram:
            x = curved(x, 1 + self.histogram * draw[:, 2:])
        if self.gamma:
            powers = 1 + self.gamma * draw[:, 1, None, None, None]
            # by a logarithm: TensorFlow's power is four times slower on a CPU
            x = ops.where(x > 0, ops.exp(powers * ops.log(ops.maximum(x, _DARK))), 0.0)
        return 255 * x


def curved(x: Any, slopes: Any) -> Any:
    """Values [B, H, W, C] in 0..1 through curves of equally wide pieces with slopes [B, N], scaled to end at 1."""
    pieces = slopes.shape[1]
    slopes = slopes / ops.mean(slopes, axis=1, keepdims=True)
    return sum(slopes[:, n, None, None, None] * ops.clip(x - n / pieces, 0, 1 / pieces) for n in range(pieces))

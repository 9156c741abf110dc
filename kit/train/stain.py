"""Random stains: haematoxylin, eosin and a residual, each stronger or weaker, as between laboratories and scanners."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Optical densities (red, green, blue) of haematoxylin, eosin and DAB: Ruifrok and Johnston 2001, "Quantification of
# histochemical staining by color deconvolution".
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_OFFSET = 2.0  # added to colours in 0..1 before the logarithm, as by scikit-image when the paper was written


class Stain(keras.layers.Layer):
    """Images float32 [B, H, W, 3] in 0..255 -> the same, each with its own stains (Tellez et al. 2019).

    "Quantifying the effects of data augmentation and stain color normalization in convolutional neural networks for
    computational pathology", arXiv:1902.06543: an image is separated into three stains, each of which is multiplied by
    1 + a and shifted by b, both uniform in -strength..strength. As in the authors' code, the logarithm is that of 2 +
    the colours, so that strengths mean what they mean there: 0.05 is their HED-light, 0.2 HED-strong.
    """

    def __init__(self, strength: float, seed: int) -> None:
        super().__init__(dtype="float32")
        self.strength, self.seed_generator = strength, keras.random.SeedGenerator(seed)

    def build(self, shape: Any) -> None:
        pass

    def call(self, images: Any, training: bool = True) -> Any:
        draw = keras.random.uniform((ops.shape(images)[0], 6), -1.0, 1.0, dtype="float32", seed=self.seed_generator)
        return stained(images, 1 + self.strength * draw[:, :3], self.strength * draw[:, 3:])


def stained(images: Any, factors: Any, shifts: Any) -> Any:
    """Images float32 [B, H, W, 3] in 0..255 with their three stains times `factors` plus `shifts`, both [B, 3]."""
    # Separation, factor and mixing are one matrix [3, 3] for each image.
    mixing = ops.convert_to_tensor(STAINS, dtype="float32")
    separation = ops.convert_to_tensor(np.linalg.inv(STAINS), dtype="float32")
    matrices = ops.matmul(separation * factors[:, None, :], mixing)
    offsets = ops.matmul(shifts, mixing)[:, None, :]
    _, height, width, _ = ops.shape(images)
    colours = ops.log(ops.reshape(images, (-1, height * width, 3)) / 255 + _OFFSET)
    changed = ops.exp(ops.matmul(colours, matrices) - offsets) - _OFFSET
    return ops.reshape(ops.clip(255 * changed, 0, 255), (-1, height, width, 3))

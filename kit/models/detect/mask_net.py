"""The residual mask network of a public RSNA pneumonia project."""

from typing import Any

from keras import layers

from kit.errors import ConfigError
from kit.models import heads
from kit.models.detect.mask_boxes import Areas
from kit.models.detect.mask_detector import MaskDetector, painted


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    width: int = 32,
    depth: int = 4,
    blocks: int = 2,
    threshold: float = 0.1,
    min_area: float = 0.0005,
) -> MaskDetector:
    """A 3x3 convolution, `depth` times a halving and `blocks` pre-activation residual blocks, and a mask of the rest.

    `width` channels are doubled with each halving. The system whose network this is enlarges its mask to the image by
    repeating each cell; its loss is the same for cells and the mean of the target in each. Raises ConfigError for a
    `depth` that is no count, and what Areas refuses.
    """
    if depth < 0:
        raise ConfigError(f"model.arguments.depth = {depth}: the number of halvings cannot be negative")
    inputs = heads.image_input(shape)
    x = layers.Rescaling(1 / 255, name="preprocess")(heads.as_rgb(inputs, shape))
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    for level in range(1, depth + 1):
        x = layers.Conv2D(width * 2**level, 1, use_bias=False)(_activated(x))
        x = layers.MaxPooling2D(padding="same")(x)  # same: cells start at the image's upper left corner
        for _ in range(blocks):
            y = x
            for _ in range(2):
                y = layers.Conv2D(width * 2**level, 3, padding="same", use_bias=False)(_activated(y))
            x = layers.Add()([x, y])
    return painted("mask_net", inputs, _activated(x), outputs, 2**depth, Areas(threshold, min_area))


def _activated(x: Any) -> Any:
    # Keras's momentum of .99 lags by hundreds of steps: see kit.models.classic
    return layers.LeakyReLU(0.1)(layers.BatchNormalization(momentum=0.9)(x))

"""A U-Net on the feature maps of any registered model (Ronneberger et al. 2015, arXiv:1505.04597)."""

import math
from collections.abc import Mapping
from typing import Any

from keras import layers

from kit.models.detect.mask_boxes import Areas
from kit.models.detect.mask_detector import MaskDetector, painted
from kit.models.detect.neck import levels_of


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    backbone: str = "resnet50",
    backbone_arguments: Mapping[str, Any] | None = None,
    width: int = 64,
    threshold: float = 0.1,
    min_area: float = 0.0005,
) -> MaskDetector:
    """A decoder over the feature maps P2 to P5 of the backbone, of those that there are.

    The cells of its mask are those of the finest map, usually of 4 pixels. `width` is the number of channels there,
    doubled with each coarser map. Raises ConfigError for a backbone without feature maps, and what Areas refuses.
    """
    inputs, levels = levels_of(backbone, shape, backbone_arguments or {})
    x, stride = None, 0
    for name in sorted(levels, reverse=True):
        coarser, stride = stride, 2 ** int(name[1:])
        size = -(-shape[0] // stride), -(-shape[1] // stride)
        skip = _fitted(levels[name], size)
        x = skip if x is None else layers.Concatenate()([_enlarged(x, coarser // stride, size), skip])
        for _ in range(2):
            filters = width * stride // 4
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.GroupNormalization(math.gcd(filters, 8))(x))
    return painted("unet", inputs, x, outputs, stride, Areas(threshold, min_area))


def _fitted(x: Any, size: tuple[int, int]) -> Any:
    """A feature map with as many rows and columns as the image has cells.

    Maps of unpadded convolutions lack cells at all borders; those of a vision transformer may have other cells.
    """
    height, width = size[0] - x.shape[1], size[1] - x.shape[2]
    if height < 0 or width < 0:
        return layers.Resizing(*size)(x)
    borders = ((height // 2, height - height // 2), (width // 2, width - width // 2))
    return layers.ZeroPadding2D(borders)(x) if height or width else x


def _enlarged(x: Any, factor: int, size: tuple[int, int]) -> Any:
    """A map that is finer by `factor`, without the cells that are beyond the image."""
    x = layers.UpSampling2D(factor, interpolation="bilinear")(x)
    return layers.Cropping2D(((0, x.shape[1] - size[0]), (0, x.shape[2] - size[1])))(x)

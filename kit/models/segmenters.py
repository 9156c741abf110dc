"""Networks that find boxes by painting a mask: the residual network of one system, and a U-Net on any backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kit.lazy import lazy
from kit.models import heads
from kit.models.cards import ModelCard
from kit.models.registry import register

if TYPE_CHECKING:
    import keras

    from kit.models.mask_detector import MaskDetector
else:
    keras = lazy("keras")
layers = lazy("keras.layers")

_PRIOR = 0.1  # probability that an untrained network gives each cell


def mask_net(
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
    repeating each cell; its loss is the same for cells and the mean of the target in each.
    """
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
    return _painted("mask_net", inputs, _activated(x), outputs, 2**depth, threshold, min_area)


def unet(
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
    """A decoder over the feature maps of any registered model (U-Net, Ronneberger et al. 2015, arXiv:1505.04597).

    The mask is as fine as the finest map, usually 4 pixels; `width` is the decoder's channels at 4 pixels, doubled
    with each coarser map.
    """
    from kit.models.neck import levels_of  # here: it needs Keras, and listing the models does not

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
    return _painted("unet", inputs, x, outputs, stride, threshold, min_area)


def _painted(
    name: str, inputs: Any, x: Any, outputs: int, stride: int, threshold: float, min_area: float
) -> MaskDetector:
    """The network with its last layers: logits and mask, in float32 at any precision."""
    from kit.models.mask_boxes import Areas
    from kit.models.mask_detector import MASK, MaskDetector  # here: it needs Keras, and listing the models does not

    bias = keras.initializers.Constant(math.log(_PRIOR / (1 - _PRIOR)))
    logits = layers.Conv2D(outputs, 1, bias_initializer=bias, name="logits", dtype="float32")(x)
    mask = layers.Activation("sigmoid", name=MASK, dtype="float32")(logits)
    return MaskDetector(inputs, {MASK: mask}, name=name, stride=stride, areas=Areas(threshold, min_area))


def _activated(x: Any) -> Any:
    return layers.LeakyReLU(0.1)(layers.BatchNormalization(momentum=0.9)(x))


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


_CARDS = (
    ModelCard(
        "mask_net",
        mask_net,
        224,
        parameters=(12_728_545, 12_718_881),
        source="a public RSNA pneumonia project (mask network)",
        prediction="boxes",
    ),
    ModelCard("unet", unet, 224, parameters=(1, 1), source="arXiv:1505.04597", prediction="boxes", backbone="resnet50"),
)
for _card in _CARDS:
    register(_card)

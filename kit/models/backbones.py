"""Backbones missing from keras.applications: SqueezeNet 1.1, ResNet-18, and VGG-16 with the head of one system."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kit.lazy import lazy
from kit.models.applications import preprocess
from kit.models.cards import Published
from kit.models.registry import model_card, register, register_backbone

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")
layers = lazy("keras.layers")


def _squeezenet(shape: tuple[int, int, int]) -> keras.Model:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv:1602.07360) through its last fire module."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(inputs)
    for n, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        expand = 4 * squeeze
        if n in (2, 4, 6):
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{n - 1}")(x)
        x = layers.Conv2D(squeeze, 1, activation="relu", name=f"fire{n}_squeeze1x1")(x)
        left = layers.Conv2D(expand, 1, activation="relu", name=f"fire{n}_expand1x1")(x)
        right = layers.Conv2D(expand, 3, padding="same", activation="relu", name=f"fire{n}_expand3x3")(x)
        x = layers.Concatenate(name=f"fire{n}_concat")([left, right])
    return keras.Model(inputs, x)


def _resnet18(shape: tuple[int, int, int]) -> keras.Model:
    """ResNet-18 (He et al. 2015, arXiv:1512.03385, table 1) as in torchvision: no biases, padding on both sides."""

    def convolution(x: Any, filters: int, kernel: int, strides: int, name: str) -> Any:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x) if kernel > 1 else x
        x = layers.Conv2D(filters, kernel, strides=strides, use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)

    inputs = keras.Input(shape)
    x = layers.ReLU(name="stem_relu")(convolution(inputs, 64, 7, 2, "stem"))
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(layers.ZeroPadding2D(1, name="stem_pool_pad")(x))
    for stage, filters in enumerate((64, 128, 256, 512), 1):
        for block in (1, 2):
            name, strides = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            y = layers.ReLU(name=f"{name}_relu1")(convolution(x, filters, 3, strides, f"{name}_1"))
            y = convolution(y, filters, 3, 1, f"{name}_2")
            shortcut = convolution(x, filters, 1, strides, f"{name}_shortcut") if strides > 1 else x
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([y, shortcut]))
    return keras.Model(inputs, x)


register_backbone(
    "squeezenet",
    _squeezenet,
    lambda x: preprocess(x, "caffe"),
    size=227,
    weights="imagenet",
    parameters=(1_248_833, 1_248_833),
    licence="MIT",
    source="arXiv:1602.07360, weights of github DeepCognition/keras-squeezenet",
    published=Published(
        "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa38da",
        megabytes=3,
    ),
)
register_backbone(
    "resnet18",
    _resnet18,
    lambda x: preprocess(x, "torch"),
    size=224,
    parameters=(11_712_449, 11_702_849),
    source="arXiv:1512.03385; for ImageNet weights use hub/resnet_18_imagenet",
)


register(
    replace(
        model_card("vgg16"),
        name="vgg16_flat64",
        builder=partial(model_card("vgg16").builder, pool="flatten", units=64, l2=0.01),
        parameters=(16_320_449, 16_320_449),
        source="a public RSNA pneumonia project: vgg16, flattened, 64 units with L2 .01",
    )
)

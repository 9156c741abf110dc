"""Backbones of keras.applications under a GAP-1024-dropout head, with the preprocessing their weights expect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from kit.errors import ConfigError
from kit.models.heads import gap_head, image_input
from kit.models.registry import register_model


@register_model(
    size=224, weights="imagenet", parameters=(5_362_340, 5_320_317), source="keras.applications, arXiv:1905.11946"
)
def efficientnetb0(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    weights: str,
    units: int = 1024,
    dropout: float = 0.5,
    freeze_backbone: bool = False,
) -> keras.Model:
    """EfficientNet-B0; the backbone itself scales 0..255 to what it was trained on."""
    inputs = image_input(shape)
    backbone = _backbone(keras.applications.EfficientNetB0, shape, weights, freeze_backbone)
    x = gap_head(backbone(_as_rgb(inputs, shape)), outputs, activation, units, dropout)
    return keras.Model(inputs, x, name="efficientnetb0")


@register_model(
    size=224, weights="imagenet", parameters=(25_686_913, 25_633_793), source="keras.applications, arXiv:1512.03385"
)
def resnet50(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    weights: str,
    units: int = 1024,
    dropout: float = 0.5,
    freeze_backbone: bool = False,
) -> keras.Model:
    """ResNet-50 (v1); its weights expect BGR minus the ImageNet mean, in grey levels."""
    inputs = image_input(shape)
    backbone = _backbone(keras.applications.ResNet50, shape, weights, freeze_backbone)
    x = layers.Rescaling(1.0, offset=[-123.68, -116.779, -103.939], name="preprocess")(_as_rgb(inputs, shape))
    x = gap_head(backbone(x[..., ::-1]), outputs, activation, units, dropout)
    return keras.Model(inputs, x, name="resnet50")


def _as_rgb(inputs: Any, shape: tuple[int, int, int]) -> Any:
    """Float RGB in 0..255 from uint8 RGB or grey: weights trained on RGB see grey as three equal channels."""
    x = layers.Rescaling(1.0, name="to_float")(inputs)
    return layers.Concatenate(name="grey_to_rgb")([x, x, x]) if shape[2] == 1 else x


def _backbone(
    application: Callable[..., keras.Model], shape: tuple[int, int, int], weights: str, freeze: bool
) -> keras.Model:
    """The application without its top; never with random weights unless `weights` says "none".

    Frozen, its batch normalisation runs in inference mode, as Keras does for every layer that is not trainable.
    """
    if weights not in ("imagenet", "none") and not Path(weights).is_file():
        raise ConfigError(f"model.weights = {weights}: no such file (imagenet, none, or the path of a .h5 file)")
    name, source = application.__name__, None if weights == "none" else weights
    try:
        backbone = application(include_top=False, weights=source, input_shape=(*shape[:2], 3))
    except Exception as error:  # Keras raises a plain Exception when a download fails
        reason = str(error).splitlines()[0]
        if weights == "none":
            raise
        if weights == "imagenet":
            raise ConfigError(
                f"the ImageNet weights of {name} could not be downloaded ({reason}). Without internet, give a file: "
                f"model.weights=/path/to/{name.lower()}_notop.h5; or model.weights=none, which starts from random ones"
            ) from error
        raise ConfigError(f"{weights} does not hold the weights of {name} without its top: {reason}") from error
    backbone.trainable = not freeze
    return backbone

"""Small convolutional networks of earlier systems, kept as baselines; trained from scratch."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from kit.errors import ConfigError
from kit.models.heads import gap_head, image_input
from kit.models.registry import register_model

_NOTEBOOK = "a public PCam notebook (custom CNN; Hyperband-tuned CNN)"


@register_model(size=224, weights="none", parameters=(227_265, 226_817), source=_NOTEBOOK)
def pcam_cnn(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    weights: str,
    units: int = 1024,
    dropout: float = 0.5,
) -> keras.Model:
    """Three 3x3 convolutions (32, 64, 128), each with ReLU then batch normalisation; GAP-1024-dropout head."""
    _from_scratch("pcam_cnn", weights)
    inputs, x = _scaled(shape)
    for filters in (32, 64):
        x = layers.MaxPooling2D()(_block(x, filters, 3))
    x = gap_head(_block(x, 128, 3), outputs, activation, units, dropout)
    return keras.Model(inputs, x, name="pcam_cnn")


@register_model(size=224, weights="none", parameters=(3_402_241, 3_400_897), source=_NOTEBOOK)
def pcam_cnn_tuned(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    weights: str,
    filters: Sequence[int] = (32, 128, 256, 256),
    kernels: Sequence[int] = (5, 3, 7, 5),
    units: int = 448,
    dropout: float = 0.5382,
) -> keras.Model:
    """Four valid convolutions, each with ReLU, batch normalisation and pooling, as a Hyperband search left them."""
    _from_scratch("pcam_cnn_tuned", weights)
    inputs, x = _scaled(shape)
    for count, kernel in zip(filters, kernels, strict=True):
        x = layers.MaxPooling2D()(_block(x, count, kernel))
    return keras.Model(inputs, gap_head(x, outputs, activation, units, dropout), name="pcam_cnn_tuned")


def _scaled(shape: tuple[int, int, int]) -> tuple[keras.KerasTensor, Any]:
    """The uint8 input, and it scaled to 0..1."""
    inputs = image_input(shape)
    return inputs, layers.Rescaling(1 / 255, name="preprocess")(inputs)


def _block(x: Any, filters: int, kernel: int) -> Any:
    # Keras's momentum of .99 takes hundreds of steps to catch up: a small set's first validations would mean nothing.
    return layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, kernel, activation="relu")(x))


def _from_scratch(name: str, weights: str) -> None:
    if weights != "none":
        raise ConfigError(f"model {name} has no pre-trained weights ({weights!r} asked for): use model.weights=none")

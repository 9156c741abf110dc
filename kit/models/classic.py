"""The networks of the systems that the kit replaces: baselines, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kit.lazy import lazy
from kit.models.heads import head, image_input, output
from kit.models.registry import register_model

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")
layers = lazy("keras.layers")

_PCAM = "a public PCam notebook"
_NIH = "a public NIH chest X-ray project"
_PNEUMONIA = "a public pediatric pneumonia notebook"
_RSNA = "a public RSNA pneumonia project"
_BREAST = "a public breast ultrasound project (it gives no layer sizes: ours)"


@register_model(size=224, parameters=(227_265, 226_817), source=f"{_PCAM} (custom CNN)")
def pcam_cnn(
    *, shape: tuple[int, int, int], outputs: int, activation: str, units: int = 1024, dropout: float = 0.5
) -> keras.Model:
    """Three 3x3 convolutions (32, 64, 128), each with ReLU then batch normalisation; GAP-1024-dropout head."""
    inputs, x = _scaled(shape)
    for filters in (32, 64):
        x = layers.MaxPooling2D()(_block(x, filters, 3))
    x = head(_block(x, 128, 3), outputs, activation, units=units, dropout=dropout)
    return keras.Model(inputs, x, name="pcam_cnn")


@register_model(size=224, parameters=(3_402_241, 3_400_897), source=f"{_PCAM} (Hyperband-tuned CNN)")
def pcam_cnn_tuned(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    filters: Sequence[int] = (32, 128, 256, 256),
    kernels: Sequence[int] = (5, 3, 7, 5),
    blocks: int | None = None,
    units: int = 448,
    dropout: float = 0.5382,
) -> keras.Model:
    """Valid convolutions, each with ReLU, batch normalisation and pooling, as found by a Hyperband search.

    `blocks` limits the network to that many of `filters` and `kernels`.
    """
    inputs, x = _scaled(shape)
    for count, kernel in list(zip(filters, kernels, strict=True))[:blocks]:
        x = layers.MaxPooling2D()(_block(x, count, kernel))
    return keras.Model(inputs, head(x, outputs, activation, units=units, dropout=dropout), name="pcam_cnn_tuned")


@register_model(size=128, parameters=(26_002_606, 26_002_606), outputs=14, source=_NIH)
def nih_cnn(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    hidden: str = "relu",
    initializer: str = "glorot_uniform",
    dropout: float = 0.5,
) -> keras.Model:
    """Three pairs of 3x3 convolutions (same, then valid), each pair with pooling and dropout; flatten-1024.

    `hidden` is the activation of all layers except the last.
    """
    inputs, x = _scaled(shape)
    for first, second in ((64, 32), (64, 64), (128, 128)):
        for filters, padding in ((first, "same"), (second, "valid")):
            x = layers.Conv2D(filters, 3, padding=padding, activation=hidden, kernel_initializer=initializer)(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(x))
    x = layers.Dense(1024, activation=hidden, kernel_initializer=initializer, name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, output(x, outputs, activation, dropout), name="nih_cnn")


@register_model(size=224, parameters=(77_238_785, 77_236_993), source=f"{_PNEUMONIA} (MLP)")
def pneumonia_mlp(*, shape: tuple[int, int, int], outputs: int, activation: str, dropout: float = 0.5) -> keras.Model:
    """Flatten-512-256-128, each dense layer with batch normalisation and dropout; no convolutions."""
    inputs, x = _scaled(shape)
    x = layers.Flatten()(x)
    for units in (512, 256, 128):
        x = layers.Dropout(dropout)(_normalised(layers.Dense(units, activation="relu")(x)))
    return keras.Model(inputs, output(x, outputs, activation), name="pneumonia_mlp")


@register_model(size=224, parameters=(26_212_545, 26_211_585), source=f"{_PNEUMONIA} (CNN)")
def pneumonia_cnn(*, shape: tuple[int, int, int], outputs: int, activation: str, dropout: float = 0.5) -> keras.Model:
    """Four 3x3 convolutions (32, 64, 128, 256; same), each with pooling then batch normalisation; flatten-512-256."""
    inputs, x = _scaled(shape)
    for filters in (32, 64, 128, 256):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = _normalised(layers.MaxPooling2D()(x))
    x = head(x, outputs, activation, pool="flatten", units=(512, 256), dropout=dropout)
    return keras.Model(inputs, x, name="pneumonia_cnn")


@register_model(size=224, parameters=(3_593_473, 3_590_401), source=f"{_RSNA} (separable CNN)")
def rsna_separable_cnn(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
    dropouts: Sequence[float] = (0.0, 0.2, 0.3, 0.4, 0.5),
    head_dropouts: Sequence[float] = (0.7, 0.5, 0.3),
) -> keras.Model:
    """Two convolutions of 128, then five blocks of two separable ones (256 four times, 512); flatten-512-256-128.

    `dropouts` has a rate for each of the five blocks, `head_dropouts` for each of the three dense layers.
    """
    inputs, x = _scaled(shape)
    for _ in range(2):
        x = layers.Conv2D(128, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    for filters, dropout in zip((256, 256, 256, 256, 512), dropouts, strict=True):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D()(_normalised(x)))
    x = layers.Flatten()(x)
    for units, dropout in zip((512, 256, 128), head_dropouts, strict=True):
        x = layers.Dropout(dropout)(layers.Dense(units, activation="relu")(x))
    return keras.Model(inputs, output(x, outputs, activation), name="rsna_separable_cnn")


@register_model(size=224, parameters=(2_747_841, 2_747_841), source=f"{_RSNA} (CNN)")
def rsna_cnn(*, shape: tuple[int, int, int], outputs: int, activation: str, dropout: float = 0.0) -> keras.Model:
    """Four valid 3x3 convolutions (32, 64, 128, 256), each with pooling; flatten-64."""
    inputs, x = _scaled(shape)
    for filters in (32, 64, 128, 256):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    x = head(x, outputs, activation, pool="flatten", units=64, dropout=dropout)
    return keras.Model(inputs, x, name="rsna_cnn")


@register_model(size=224, parameters=(456_385, 455_425), source=_BREAST)
def breast_cnn(
    *, shape: tuple[int, int, int], outputs: int, activation: str, units: int = 256, dropout: float = 0.5
) -> keras.Model:
    """Four 3x3 convolutions (32, 64, 128, 256; same), each with batch normalisation and pooling; GAP-dense-dropout."""
    inputs, x = _scaled(shape)
    for filters in (32, 64, 128, 256):
        x = _normalised(layers.Conv2D(filters, 3, padding="same", use_bias=True)(x))
        x = layers.MaxPooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, head(x, outputs, activation, units=units, dropout=dropout), name="breast_cnn")


def _scaled(shape: tuple[int, int, int]) -> tuple[keras.KerasTensor, Any]:
    """The uint8 input, and it scaled to 0..1."""
    inputs = image_input(shape)
    return inputs, layers.Rescaling(1 / 255, name="preprocess")(inputs)


def _block(x: Any, filters: int, kernel: int) -> Any:
    return _normalised(layers.Conv2D(filters, kernel, activation="relu")(x))


def _normalised(x: Any) -> Any:
    # With Keras's .99 the statistics lag by hundreds of steps: on small sets the first validations would mean nothing.
    return layers.BatchNormalization(momentum=0.9)(x)

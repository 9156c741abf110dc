"""What follows a backbone's feature map: pooling, dense layers, dropout, the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kit.errors import ConfigError, nearest
from kit.lazy import lazy

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")
layers = lazy("keras.layers")


PROBABILITIES = "probabilities"  # the name of the last layer of every model: what it takes are the logits
LEVELS = ("P3", "P4", "P5")  # of a backbone, that the pooling `levels` takes: strides of 8, 16 and 32 pixels


def _average_and_max(x: Any) -> Any:
    pooled = [layers.GlobalAveragePooling2D(name="pool_average")(x), layers.GlobalMaxPooling2D(name="pool_max")(x)]
    return layers.Concatenate(name="pool")(pooled)


def _generalized_mean(x: Any) -> Any:
    from kit.models.pooling import GeneralizedMean  # here: it needs Keras, and listing the models does not

    return GeneralizedMean(name="pool")(x)


def _levels(maps: Any) -> Any:
    every = maps if isinstance(maps, list) else [maps]
    pools = [layers.GlobalAveragePooling2D(name=f"pool{n or ''}")(x) for n, x in enumerate(every)]
    return layers.Concatenate(name="pool_levels")(pools) if len(pools) > 1 else pools[0]


_POOLS: dict[str, Callable[[Any], Any]] = {
    "gap": lambda x: layers.GlobalAveragePooling2D(name="pool")(x),
    "gem": _generalized_mean,
    "average+max": _average_and_max,
    "levels": _levels,
    "flatten": lambda x: layers.Flatten(name="pool")(x),
}


def head(
    features: Any,
    outputs: int,
    activation: str,
    *,
    pool: str = "gap",
    units: int | Sequence[int] = 1024,
    dropout: float = 0.5,
    dropout_samples: int = 1,
    l2: float = 0.0,
) -> Any:
    """Pooling, dense ReLU layers each followed by dropout, and the output in float32 at any precision.

    `features` [B, h, w, channels], tokens [B, n, channels] or a vector [B, channels], which is not pooled ->
    probabilities [B, outputs]. With `pool` = levels they are a list of maps, each of which is averaged: earlier ones
    say more of images unlike ImageNet's. `units` is the size of each dense layer ([]: none, and dropout follows the
    pooling); `l2` penalises their kernels. With `dropout_samples` > 1 the logits are the mean over that many masks of
    the last dropout (Inoue 2019, arXiv:1905.09788). Raises ConfigError for an unknown pooling.
    """
    if pool not in _POOLS:
        raise ConfigError(f"model.arguments.pool = {pool}: no such pooling{nearest(pool, _POOLS)}")
    rank = 4 if isinstance(features, list) else len(features.shape)
    if rank == 3:
        features = layers.Reshape((-1, 1, features.shape[-1]), name="tokens")(features)
    x = features if rank == 2 else _POOLS[pool](features)
    sizes = [units] if isinstance(units, int) else list(units)
    for n, size in enumerate(sizes):
        x = layers.Dropout(dropout, name=f"dense_dropout{n}")(x) if n else x
        penalty = keras.regularizers.L2(l2) if l2 else None
        name = "dense" if n == 0 else f"dense_{n}"
        x = layers.Dense(size, activation="relu", kernel_regularizer=penalty, name=name)(x)
    return output(x, outputs, activation, dropout, dropout_samples)


def output(x: Any, outputs: int, activation: str, dropout: float = 0.0, dropout_samples: int = 1) -> Any:
    """Dropout and the last layer; logits and activation are float32, as half precision would lose small values.

    With `dropout_samples` > 1 the logits are the mean over that many dropout masks.
    """
    logits = layers.Dense(outputs, name="logits", dtype="float32")
    if dropout_samples == 1 or not dropout:
        x = logits(layers.Dropout(dropout, name="head_dropout")(x) if dropout else x)
    else:
        masks = [layers.Dropout(dropout, name=f"head_dropout{n}") for n in range(dropout_samples)]
        x = layers.Average(name="mean_logits", dtype="float32")([logits(mask(x)) for mask in masks])
    return layers.Activation(activation, name=PROBABILITIES, dtype="float32")(x)


def image_input(shape: tuple[int, int, int]) -> keras.KerasTensor:
    """The input of every model: uint8 images [B, height, width, channels]."""
    return keras.Input(shape, dtype="uint8", name="image")


def as_rgb(images: Any, shape: tuple[int, int, int]) -> Any:
    """Float RGB in 0..255 from uint8 RGB or grey; grey becomes three equal channels, for weights trained on RGB."""
    x = layers.Rescaling(1.0, name="to_float")(images)
    return layers.Concatenate(name="grey_to_rgb")([x, x, x]) if shape[2] == 1 else x

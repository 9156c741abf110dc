"""What follows a backbone's feature map: pooling, dense layers, dropout, the output."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from kit.errors import ConfigError, nearest


@keras.saving.register_keras_serializable("kit")
class GeneralizedMean(layers.Layer):
    """Generalised-mean pooling with a learnt exponent, initially 3 (Radenovic et al. 2018, arXiv:1711.02512, eq. 3).

    [B, h, w, channels] -> [B, channels]. An exponent of 1 gives the mean, an infinite one the maximum. Values below
    1e-6 count as 1e-6.
    """

    def build(self, shape: Any) -> None:
        self.exponent = self.add_weight(shape=(), initializer=keras.initializers.Constant(3.0), name="exponent")

    def call(self, features: Any) -> Any:
        # in float32: powers leave the range of half precision
        exponent = ops.cast(self.exponent, "float32")
        powers = ops.power(ops.maximum(ops.cast(features, "float32"), 1e-6), exponent)
        return ops.cast(ops.power(ops.mean(powers, axis=(1, 2)), 1 / exponent), self.compute_dtype)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], shape[-1])


def _average_and_max(x: Any) -> Any:
    pooled = [layers.GlobalAveragePooling2D(name="pool_average")(x), layers.GlobalMaxPooling2D(name="pool_max")(x)]
    return layers.Concatenate(name="pool")(pooled)


_POOLS: dict[str, Callable[[Any], Any]] = {
    "gap": lambda x: layers.GlobalAveragePooling2D(name="pool")(x),
    "gem": lambda x: GeneralizedMean(name="pool")(x),
    "average+max": _average_and_max,
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
    probabilities [B, outputs]. `units` is the size of each dense layer ([]: none, and dropout follows the pooling);
    `l2` penalises their kernels. With `dropout_samples` > 1 the logits are the mean over that many masks of the last
    dropout (Inoue 2019, arXiv:1905.09788). Raises ConfigError for an unknown pooling.
    """
    if pool not in _POOLS:
        raise ConfigError(f"model.arguments.pool = {pool}: no such pooling{nearest(pool, _POOLS)}")
    if len(features.shape) == 3:
        features = layers.Reshape((-1, 1, features.shape[-1]), name="tokens")(features)
    x = features if len(features.shape) == 2 else _POOLS[pool](features)
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
    return layers.Activation(activation, name="probabilities", dtype="float32")(x)


def image_input(shape: tuple[int, int, int]) -> keras.KerasTensor:
    """The input of every model: uint8 images [B, height, width, channels]."""
    return keras.Input(shape, dtype="uint8", name="image")


def as_rgb(images: Any, shape: tuple[int, int, int]) -> Any:
    """Float RGB in 0..255 from uint8 RGB or grey; grey becomes three equal channels, for weights trained on RGB."""
    x = layers.Rescaling(1.0, name="to_float")(images)
    return layers.Concatenate(name="grey_to_rgb")([x, x, x]) if shape[2] == 1 else x

"""Layers that Keras does not have: poolings, and a standardisation by weights."""

from typing import Any

import keras
from keras import layers, ops


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


@keras.saving.register_keras_serializable("kit")
class Pool(layers.Layer):
    """Feature maps [B, h, w, C], tokens [B, n, C] or a vector [B, C] -> [B, C] in float32, by one kind of pooling.

    `cls`: the first token; `mean` and `gem`, the generalised mean with the fixed exponent 3, of all places but the
    first `leading` tokens. A vector is taken as it is.
    """

    def __init__(self, kind: str, leading: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind, self.leading = kind, leading

    def call(self, features: Any) -> Any:
        x = ops.cast(features, "float32")
        if len(x.shape) == 2:
            return x
        if self.kind == "cls":
            return x[:, 0]
        places = x[:, self.leading :] if len(x.shape) == 3 else x
        axes = tuple(range(1, len(x.shape) - 1))
        if self.kind == "mean":
            return ops.mean(places, axis=axes)
        return ops.power(ops.mean(ops.power(ops.maximum(places, 1e-6), 3.0), axis=axes), 1 / 3)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind, "leading": self.leading}


@keras.saving.register_keras_serializable("kit")
class Standardise(layers.Layer):
    """[B, d] -> (x - mean) * scale; both are weights that are set, not trained, and 0 and 1 at first."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False, name="scale")

    def call(self, x: Any) -> Any:
        return (x - self.mean) * self.scale

"""A pooling layer that Keras does not have."""

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

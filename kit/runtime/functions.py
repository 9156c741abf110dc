"""Models as compiled functions of either backend: with something before them, and their gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kit.runtime.devices import import_tensorflow

Gradient = Callable[[Sequence[Any], np.ndarray], list[np.ndarray]]


def compiled(model: keras.Model, before: Callable[..., Any]) -> Callable[..., Any]:
    """A function: arrays -> `model(before(*arrays))` in inference, as NumPy arrays in the structure of its output.

    `before` consists of `keras.ops`; it is compiled with the model, so what it makes never leaves the device.
    """
    call = {"tensorflow": _tensorflow_call, "jax": _jax_call}[keras.backend.backend()](model, before)
    return lambda *arrays: keras.tree.map_structure(keras.ops.convert_to_numpy, call(*arrays))


def gradient_of(model: keras.Model) -> Gradient:
    """A function: the inputs of a model (a list) and weights [B, outputs] -> gradients of sum(weights * output).

    One for each input, float32 in its shape, in inference; 0 where the output does not depend on it.
    """
    gradient = {"tensorflow": _tensorflow_gradient, "jax": _jax_gradient}[keras.backend.backend()](model)

    def gradients(inputs: Sequence[Any], weights: np.ndarray) -> list[np.ndarray]:
        values = gradient([keras.ops.convert_to_tensor(each) for each in inputs], np.asarray(weights, np.float32))
        return [np.asarray(keras.ops.convert_to_numpy(value), np.float32) for value in values]

    return gradients


def _tensorflow_call(model: keras.Model, before: Callable[..., Any]) -> Callable[..., Any]:
    tf = import_tensorflow()
    return tf.function(lambda *arrays: model(before(*arrays), training=False), reduce_retracing=True)


def _tensorflow_gradient(model: keras.Model) -> Callable[[list[Any], Any], list[Any]]:
    tf = import_tensorflow()

    def gradient(inputs: list[Any], weights: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(model(inputs, training=False) * weights)
        return tape.gradient(total, inputs, unconnected_gradients="zero")

    return tf.function(gradient, reduce_retracing=True)


def _jax_call(model: keras.Model, before: Callable[..., Any]) -> Callable[..., Any]:
    import jax

    def call(state: Any, *arrays: Any) -> Any:
        return model.stateless_call(*state, before(*arrays), training=False)[0]

    function = jax.jit(call)
    return lambda *arrays: function(_state(model), *arrays)


def _jax_gradient(model: keras.Model) -> Callable[[list[Any], Any], list[Any]]:
    import jax

    def total(inputs: list[Any], weights: Any, state: Any) -> Any:
        return (model.stateless_call(*state, inputs, training=False)[0] * weights).sum()

    function = jax.jit(jax.grad(total))
    return lambda inputs, weights: function(inputs, weights, _state(model))


def _state(model: keras.Model) -> tuple[list[Any], list[Any]]:
    """The values of a model's variables: compiled in as constants, they would be copied."""
    return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

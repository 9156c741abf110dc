"""All that kit does with private attributes of Keras, so that a new version can break one file only.

Keras has no public way to do any of it. tests/runtime/test_keras_private.py holds each function to its docstring.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """All batch normalisations of a model, as `layers_of`."""
    return layers_of(model, keras.layers.BatchNormalization)


def layers_of(model: keras.Model, kind: type[keras.layers.Layer]) -> list[Any]:
    """All layers of a kind in a model, also those of models inside it, however deep; each once."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def nodes_by_depth(network: keras.Model) -> dict[int, list[Any]]:
    """The calls that a functional model consists of, by their distance from its outputs.

    A call has the `operation`, and its `input_tensors` and `output_tensors`.
    """
    return dict(network._nodes_by_depth)


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """The states of all seed generators of a model (dropout, augmentation), in the order of its layers."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def adopt_variable(weight: keras.Variable, variable: Any) -> None:
    """Make a TensorFlow variable the storage of a weight of the same shape and dtype: a change of one is of both."""
    weight._value = variable


def swap_average(model: keras.Model) -> None:
    """Exchange the trainable weights of a compiled model and their moving average, which its optimiser keeps.

    Does nothing where the optimiser keeps none (`use_ema`).
    """
    if inner_optimizer(model.optimizer).use_ema:
        swap = keras.callbacks.SwapEMAWeights()
        swap.set_model(model)
        swap._swap_variables()


def inner_optimizer(optimizer: keras.Optimizer) -> keras.Optimizer:
    """What updates the weights: the optimiser itself, or the one that scales its losses for float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def batch_counter(optimizer: keras.Optimizer) -> keras.Variable:
    """How many batches an optimiser has seen (int). `iterations` counts its updates, which may take several."""
    return optimizer._iterations


def update_state(optimizer: keras.Optimizer) -> list[keras.Variable]:
    """The variables of a built optimiser that its updates depend on, in an order that only its kind decides.

    Without the counter of batches and the gradients accumulated so far, which depend on how many batches an update
    takes.
    """
    others = {id(v) for v in [batch_counter(optimizer), *getattr(optimizer, "_accumulated_gradients", [])]}
    return [variable for variable in optimizer.variables if id(variable) not in others]


def with_rates(kind: type[keras.Optimizer], factors: Sequence[float]) -> type[keras.Optimizer]:
    """A kind of optimiser whose learning rate is multiplied by a factor for each variable that it is built with.

    Weight decay, which is in proportion to the rate, too.
    """

    class Discriminative(kind):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = ops.cast(learning_rate, "float32") * factors[self._get_variable_index(variable)]
            if self.weight_decay and self._use_weight_decay(variable):
                self.assign(variable, variable * (1 - self.weight_decay * ops.cast(rate, variable.dtype)))
            super().update_step(gradient, variable, rate)

        def _apply_weight_decay(self, variables: Any) -> None:
            pass  # Keras's knows one rate for all: done above

    return Discriminative

"""What training minimises, by task; labels that are not known (NaN) count for nothing."""

from collections.abc import Callable
from typing import Any

import keras

Loss = Callable[[Any, Any], Any]


def known_binary_crossentropy(y_true: Any, y_pred: Any) -> Any:
    """Binary cross-entropy [B] of labels [B, L] (0, 1 or NaN) and probabilities [B, L]: the sum over known labels / L.

    Without unknown labels this is Keras's binary cross-entropy.
    """
    y_true, y_pred = keras.ops.convert_to_tensor(y_true), keras.ops.convert_to_tensor(y_pred)
    y_true = keras.ops.cast(y_true, y_pred.dtype)
    unknown = keras.ops.isnan(y_true)
    truth = keras.ops.where(unknown, keras.ops.zeros_like(y_true), y_true)  # NaN would spread through its gradient
    losses = keras.ops.binary_crossentropy(truth, y_pred)
    return keras.ops.mean(keras.ops.where(unknown, keras.ops.zeros_like(losses), losses), axis=-1)


LOSSES: dict[str, Loss] = {
    "binary": known_binary_crossentropy,
    "multilabel": known_binary_crossentropy,
    "multiclass": keras.losses.categorical_crossentropy,
}

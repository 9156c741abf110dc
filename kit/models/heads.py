"""What stands on a backbone's feature map: pooling, dense layers, dropout, the output."""

from typing import Any

import keras
from keras import layers


def gap_head(features: Any, outputs: int, activation: str, units: int = 1024, dropout: float = 0.5) -> Any:
    """Global average pooling, one dense ReLU layer, dropout, and the output in float32 under every precision.

    `features` [B, h, w, channels] -> probabilities [B, outputs].
    """
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dense(units, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return output(x, outputs, activation)


def output(x: Any, outputs: int, activation: str) -> Any:
    """The last layer; its logits and activation stay float32, where half precision would lose small probabilities."""
    x = layers.Dense(outputs, name="logits", dtype="float32")(x)
    return layers.Activation(activation, name="probabilities", dtype="float32")(x)


def image_input(shape: tuple[int, int, int]) -> keras.KerasTensor:
    """The input of every model: uint8 images [B, height, width, channels]."""
    return keras.Input(shape, dtype="uint8", name="image")

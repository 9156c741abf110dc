"""From any registered model to the feature maps that a detector stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from kit.models import registry
from kit.models.cards import BACKBONE
from kit.models.features import with_pyramid


def levels_of(
    backbone: str, shape: tuple[int, int, int], arguments: Mapping[str, Any]
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """The input, uint8 images [B, *shape], and the feature maps P2 (stride 4) to P5 (stride 32), those that there are.

    The layers that compute them are a sub-model called `backbone`, into which pre-trained weights go and which training
    freezes. `arguments` are those of the backbone's own builder, such as `until`. Raises ConfigError for a model that
    has no feature map.
    """
    pyramid = with_pyramid(registry.build(backbone, shape=shape, outputs=1, **arguments))
    inputs, levels = pyramid.inputs[0], pyramid.output
    if not any(layer.name == BACKBONE for layer in pyramid.layers):  # a whole network: all of it is the backbone
        levels = keras.Model(inputs, levels, name=BACKBONE)(inputs)
    return inputs, levels

"""Maps by any of the methods, and how they are shown."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kit.errors import ConfigError, nearest
from kit.explain.cam import CAMS, cam
from kit.explain.occlusion import occlusion
from kit.models.boosted import BoostedModel

METHODS = (*CAMS, "occlusion")


def explain(
    model: keras.Model | BoostedModel,
    images: np.ndarray,
    labels: Sequence[int] | None = None,
    method: str = "gradcam",
    after: Callable[[], Any] = lambda: None,
) -> np.ndarray:
    """How much each place of images uint8 [B, H, W, C] speaks for labels (numbers; all): float32 [B, L', h, w].

    Negative values speak against them. Places are those of the network's feature maps, or (`occlusion`) pixels; `after`
    is called after each image. Raises ConfigError for another method, and where a network has no map that gradients
    reach.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}: one of {', '.join(METHODS)}{nearest(method, METHODS)}")
    if method == "occlusion":
        return occlusion(model, images, labels, after=after)
    maps = cam(model, images, labels, method)
    for _ in images:
        after()
    return maps


def shown(maps: np.ndarray) -> np.ndarray:
    """The positive part of maps [..., h, w], each scaled so that its highest place is 1; all 0 where it has none."""
    positive = np.maximum(np.nan_to_num(maps), 0)
    highest = positive.max(axis=(-2, -1), keepdims=True)
    return np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)

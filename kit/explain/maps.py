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


def shown(maps: np.ndarray, method: str = "gradcam") -> np.ndarray:
    """Maps [..., h, w] as they are laid over images: what is above neutral, each scaled so that its highest place is 1.

    All 0 where nothing is. Of occlusion neutral is 0, no change of the score; of the others the median place. Their own
    zero means nothing: the biases of the head belong to no place, and after training they can be larger than the map.
    """
    maps = np.nan_to_num(maps)
    neutral = 0.0 if method == "occlusion" else np.median(maps, axis=(-2, -1), keepdims=True)
    above = np.maximum(maps - neutral, 0)
    highest = above.max(axis=(-2, -1), keepdims=True)
    return np.divide(above, highest, out=np.zeros_like(above), where=highest > 0)

"""Class activation maps: where in its last feature maps a network sees what speaks for a label.

Grad-CAM: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization".
HiResCAM: Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations", arXiv:2011.08891.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from kit.errors import ConfigError, nearest
from kit.explain.scores import network_of
from kit.models.boosted import BoostedModel
from kit.models.features import as_map, up_to_logits
from kit.runtime.functions import gradient_of

_BATCH = 32  # images at a time


def cam(
    model: keras.Model | BoostedModel, images: np.ndarray, labels: Sequence[int] | None = None, method: str = "gradcam"
) -> np.ndarray:
    """How much each place speaks for labels (numbers; all), or against them: float32 [B, len(labels), h, w].

    `images` are uint8 [B, H, W, C]. Gradients are those of the label's logit. A head that takes maps of several levels
    adds what it takes from each: the levels' maps are summed on the finest grid. Of a linear head on means, the map
    summed is the logit without its bias. Raises ConfigError for a model without a feature map, or another method.
    """
    return Cam(model, method)(images, labels)


class Cam:
    """A function: images uint8 [B, H, W, C], labels -> their maps; see `cam`. What it compiles is kept."""

    def __init__(self, model: keras.Model | BoostedModel, method: str = "gradcam") -> None:
        if method not in _METHODS:
            raise ConfigError(f"unknown method {method!r}: one of {', '.join(_METHODS)}{nearest(method, _METHODS)}")
        self._network, self._weigh = network_of(model), _METHODS[method]
        self._parts = up_to_logits(self._network)
        self._gradient, self._outputs = gradient_of(self._parts.scorer), self._parts.scorer.output_shape[-1]

    def __call__(self, images: np.ndarray, labels: Sequence[int] | None = None) -> np.ndarray:
        chosen = range(self._outputs) if labels is None else labels
        starts = range(0, len(images), _BATCH)
        return np.concatenate([self._of_batch(images[start : start + _BATCH], chosen) for start in starts])

    def _of_batch(self, batch: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        features = self._parts.encoder.predict_on_batch(batch)
        features = features if isinstance(features, list) else [features]
        of_labels = []
        for label in labels:
            gradients = self._gradient(features, np.tile(np.eye(self._outputs)[label], (len(batch), 1)))
            pairs = [(features[n], gradients[n]) for n in self._parts.maps]
            levels = [self._weigh(*(_places(each, self._network) for each in pair)) for pair in pairs]
            of_labels.append(_together(levels))
        return np.stack(of_labels, axis=1)


def _grad_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Channels weighed by their mean gradient (equations 1 and 2, before the ReLU): [B, h, w, C] -> [B, h, w]."""
    return np.einsum("bhwc,bc->bhw", features, gradients.mean(axis=(1, 2)))


def _hires_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Each value times its own gradient (equation 6, before the ReLU): [B, h, w, C] -> [B, h, w]."""
    return np.asarray((features * gradients).sum(axis=-1))


_METHODS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"gradcam": _grad_cam, "hirescam": _hires_cam}
CAMS = tuple(_METHODS)


def _places(features: np.ndarray, model: keras.Model) -> np.ndarray:
    places = as_map(np.asarray(features, np.float32), model.input_shape[1:3])
    return np.asarray(keras.ops.convert_to_numpy(places))


def _together(levels: Sequence[np.ndarray]) -> np.ndarray:
    """The maps [B, h, w] of several levels summed on the finest grid; a coarse place is shared out among its parts."""
    import cv2

    height, width = max((level.shape[1:] for level in levels), key=lambda shape: shape[0] * shape[1])
    total = np.zeros((len(levels[0]), height, width), np.float32)
    for level in levels:
        share = level.shape[1] * level.shape[2] / (height * width)
        fine = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in level.astype(np.float32)]
        total += np.stack(fine) * share
    return total

"""What a model says of images, as one number for each image and label."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kit.models.boosted import BoostedModel
from kit.models.detect.detector import Detector

Scores = Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, C] -> float32 [B, labels]
_BATCH = 32


def network_of(model: keras.Model | BoostedModel) -> keras.Model:
    """The network: of boosted trees, which see numbers and no image, the one before them."""
    return model.network if isinstance(model, BoostedModel) else model


def read(model: keras.Model, outputs: Any, labels: Sequence[int] | None) -> np.ndarray:
    """Outputs as float32 [B, labels]: probabilities, or of a network that finds boxes the score of the best one.

    `labels` are numbers; all by default, of boxes the first.
    """
    if not isinstance(model, Detector):
        return np.asarray(outputs if labels is None else outputs[:, list(labels)], np.float32)
    boxes = model.candidates(outputs, 1)
    return np.column_stack([boxes.of_label(label).best(1) for label in ([0] if labels is None else labels)]).astype(
        np.float32
    )


def scores_of(model: keras.Model | BoostedModel, labels: Sequence[int] | None = None) -> Scores:
    """The function images -> scores of labels; see `read`."""
    network = network_of(model)

    def scores(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), _BATCH)
        return np.concatenate(
            [read(network, network.predict_on_batch(images[start : start + _BATCH]), labels) for start in starts]
        )

    return scores

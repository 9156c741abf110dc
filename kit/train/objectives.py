"""What one step of training computes: from a batch, through augmentation and network, to the loss of each image.

One entry per kind of prediction. The loss of labels is configured (kit/train/losses.py); a detector brings its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from kit.config import LossSettings
from kit.errors import ConfigError
from kit.models.detect.detector import Detector
from kit.tasks import find_task
from kit.train.augment import Augment
from kit.train.losses import Loss, make_loss


class Objective(NamedTuple):
    """`inputs(model)` are the keys of a batch that training takes; `losses(model, augment, inputs)` the losses [B]."""

    inputs: Callable[[keras.Model], dict[str, keras.KerasTensor]]
    losses: Callable[[keras.Model, Augment, dict[str, keras.KerasTensor]], keras.KerasTensor]


def make_objective(task: str, settings: LossSettings, labels: np.ndarray) -> Objective:
    """What training minimises for a task; `labels` float32 [n, L] are those of the training rows.

    Raises ConfigError for loss settings that the task does not have.
    """
    return _OBJECTIVES[find_task(task).prediction](task, settings, labels)


def of_labels(loss: Loss) -> Objective:
    """The objective of a loss of labels and probabilities."""
    return Objective(
        _label_inputs,
        lambda model, augment, batch: _label_losses(loss, model, augment(batch)),
    )


def _label_inputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    return {
        "image": keras.Input(model.input_shape[1:], dtype="uint8", name="image"),
        "label": keras.Input(model.output_shape[1:], dtype="float32", name="label"),
    }


def _label_losses(loss: Loss, model: keras.Model, batch: dict[str, Any]) -> keras.KerasTensor:
    return Losses(loss, dtype="float32", name="losses")([batch["label"], model(batch["image"])])


class Losses(keras.layers.Layer):
    """[labels, probabilities] -> the loss [B] of each row."""

    def __init__(self, loss: Loss, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loss = loss

    def call(self, inputs: Any) -> Any:
        return self.loss(*inputs)


def _box_inputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    return {
        "image": keras.Input(model.input_shape[1:], dtype="uint8", name="image"),
        "label": keras.Input((None,), dtype="float32", name="label"),
        "boxes": keras.Input((None, 4), dtype="float32", name="boxes"),
        "box_labels": keras.Input((None,), dtype="int32", name="box_labels"),
        "box_mask": keras.Input((None,), dtype="bool", name="box_mask"),
    }


class DetectionLosses(keras.layers.Layer):
    """A batch -> the loss [B] of each image, by a detector; the number of boxes is static only where it is called."""

    def __init__(self, detector: Detector, augment: Augment, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.detector, self.augment = detector, augment

    def build(self, shapes: Any) -> None:
        pass  # the detector is built already

    def call(self, batch: dict[str, Any], training: bool = False) -> Any:
        augmented = self.augment(self.detector.with_targets(batch), training=training)
        return self.detector.losses(augmented)

    def compute_output_spec(self, batch: dict[str, Any], training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor((None,), "float32")


def _of_labels(task: str, settings: LossSettings, labels: np.ndarray) -> Objective:
    return of_labels(make_loss(task, settings, labels))


def _of_boxes(task: str, settings: LossSettings, labels: np.ndarray) -> Objective:
    if settings != LossSettings():
        raise ConfigError(f"train.loss is of labels: a network of the task {task} has a loss of its own")

    def losses(model: keras.Model, augment: Augment, batch: dict[str, keras.KerasTensor]) -> keras.KerasTensor:
        assert isinstance(model, Detector)
        return DetectionLosses(model, augment, dtype="float32", name="losses")(batch)

    return Objective(_box_inputs, losses)


_OBJECTIVES = {"probabilities": _of_labels, "boxes": _of_boxes}

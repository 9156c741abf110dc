"""What training minimises, by task and settings; unknown labels (NaN) do not count."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kit import extensions
from kit.config import LossSettings
from kit.errors import ConfigError

Loss = Callable[[Any, Any], Any]


def make_loss(task: str, settings: LossSettings, labels: np.ndarray) -> Loss:
    """The loss [B] of labels float32 [B, L] (0..1, or NaN) and probabilities float32 [B, L].

    `labels` [n, L] are those of the training rows, from which class weights are computed. For labels (binary,
    multilabel) the loss is the sum over the known ones / L, for exclusive classes their cross-entropy. Raises
    ConfigError for a wrong number of weights, and for asymmetric loss of exclusive classes. A loss of one's own,
    FILE.py@DIGEST:NAME, is a function of labels and probabilities alone.
    """
    if extensions.is_code(settings.name):
        return _own(settings.name, labels)
    return _TASKS[task].loss(settings, class_weights(task, settings, labels).astype("float32"))


def _own(name: str, labels: np.ndarray) -> Loss:
    """A loss from a file; it has to be one number for each row, also where a label is unknown."""
    function = extensions.call_of(name)
    short = name.rpartition(":")[2]
    extensions.require_call(extensions.load(name), name, f"def {short}(y, p)", None, None)
    count = max(labels.shape[-1], 1)
    y, p = np.zeros((3, count), "float32"), np.full((3, count), 1 / (count + 1), "float32")
    y[0, 0], y[1] = 1, np.nan
    values = function(ops.convert_to_tensor(y), ops.convert_to_tensor(p))
    if tuple(getattr(values, "shape", ())) != (3,):
        shape = getattr(values, "shape", type(values).__name__)
        raise ConfigError(f"{name} returned {shape} of labels (3, {count}): expected (3,), the loss of each row")
    if not np.isfinite(ops.convert_to_numpy(values)).all():
        raise ConfigError(f"{name} is not finite for a row whose labels are unknown (NaN): leave them out, as kit's do")
    return function


def class_weights(task: str, settings: LossSettings, labels: np.ndarray) -> np.ndarray:
    """The weights of each label's values, [L, 2] (negative, positive), or of each exclusive class [C]; 1 by default."""
    counts = _TASKS[task].counts(labels)
    if settings.weights == "none":
        return np.ones(counts.shape)
    if isinstance(settings.weights, tuple):
        return _configured(_TASKS[task], np.array(settings.weights), counts)
    present = np.maximum(counts, 1)  # a class that does not occur has no rows that its weight could count for
    if settings.weights == "balanced":  # as scikit-learn's compute_class_weight
        return counts.sum(axis=-1, keepdims=True) / (counts.shape[-1] * present)
    # Cui et al. 2019 (arXiv:1901.05555), eq. 1; they sum to the number of classes
    weights = (1 - settings.effective_beta) / (1 - settings.effective_beta**present)
    return weights * weights.shape[-1] / weights.sum(axis=-1, keepdims=True)


def _configured(task: "_Task", weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    expected = task.weights_expected(counts)
    if len(weights) != expected:
        raise ConfigError(f"train.loss.weights has {len(weights)} values, not {expected}: {task.weights_meaning}")
    return task.weights_of(weights)


def _label_counts(labels: np.ndarray) -> np.ndarray:
    """How often each label is known to be negative and positive, [L, 2]."""
    positives = np.nansum(labels, axis=0)
    return np.column_stack([(~np.isnan(labels)).sum(axis=0) - positives, positives])


def _class_counts(labels: np.ndarray) -> np.ndarray:
    """How often each exclusive class occurs, [C]."""
    return np.nansum(labels, axis=0)


def _label_loss(settings: LossSettings, weights: np.ndarray) -> Loss:
    return lambda y, p: _of_labels(y, p, settings, weights)


def _class_loss(settings: LossSettings, weights: np.ndarray) -> Loss:
    if settings.name == "asymmetric":
        raise ConfigError("train.loss.name = asymmetric is for labels, not for classes that exclude each other")
    return lambda y, p: _of_classes(y, p, settings, weights)


def _of_labels(y_true: Any, y_pred: Any, settings: LossSettings, weights: np.ndarray) -> Any:
    """Binary losses of each label.

    Focal: Lin et al. 2017 (arXiv:1708.02002), eq. 4. Asymmetric: Ridnik et al. 2021 (arXiv:2009.14119), eq. 7, with no
    focus on positives.
    """
    unknown = ops.isnan(y_true)
    y = ops.where(unknown, ops.zeros_like(y_true), y_true)  # NaN would spread through its gradient
    p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
    weight = y * weights[:, 1] + (1 - y) * weights[:, 0]
    y = y * (1 - settings.smoothing) + settings.smoothing / 2
    if settings.name == "asymmetric":
        shifted = ops.clip(p - settings.clip, 1e-7, 1 - 1e-7)  # not 0: a power below 1 has no slope there
        losses = -(y * ops.log(p) + (1 - y) * ops.power(shifted, settings.gamma) * ops.log(1 - shifted))
    else:
        losses = ops.binary_crossentropy(y, y_pred)
        if settings.name == "focal":
            right = y * p + (1 - y) * (1 - p)
            losses = ops.power(1 - right, settings.gamma) * losses
    return ops.mean(ops.where(unknown, ops.zeros_like(losses), weight * losses), axis=-1)


def _of_classes(y_true: Any, y_pred: Any, settings: LossSettings, weights: np.ndarray) -> Any:
    """Cross-entropy of exclusive classes; labels may be soft (mixed). Rows with NaN do not count."""
    unknown = ops.any(ops.isnan(y_true), axis=-1)
    y = ops.where(unknown[:, None], ops.zeros_like(y_true), y_true)
    weight = ops.sum(y * weights, axis=-1)
    y = y * (1 - settings.smoothing) + settings.smoothing / len(weights)
    p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
    focus = ops.power(1 - p, settings.gamma) if settings.name == "focal" else 1.0
    losses = -ops.sum(y * focus * ops.log(p), axis=-1)
    return ops.where(unknown, ops.zeros_like(losses), weight * losses)


class _Task(NamedTuple):
    """How a task's loss is made, and what `train.loss.weights` as a list means for it."""

    loss: Callable[[LossSettings, np.ndarray], Loss]
    counts: Callable[[np.ndarray], np.ndarray]  # training labels [n, L] -> what `class_weights` weighs
    weights_expected: Callable[[np.ndarray], int]  # of those counts
    weights_meaning: str
    weights_of: Callable[[np.ndarray], np.ndarray]  # the list -> the shape of those counts


_TASKS = {
    "binary": _Task(_label_loss, _label_counts, lambda counts: 2, "[negative, positive]", lambda w: w[None]),
    "multilabel": _Task(
        _label_loss, _label_counts, len, "one for each label", lambda w: np.column_stack([np.ones(len(w)), w])
    ),
    "multiclass": _Task(_class_loss, _class_counts, len, "one for each class", lambda w: w),
}

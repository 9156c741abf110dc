"""What training minimises, by task and settings; labels that are not known (NaN) count for nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from kit.config import LossSettings
from kit.errors import ConfigError

Loss = Callable[[Any, Any], Any]


def make_loss(task: str, settings: LossSettings, labels: np.ndarray) -> Loss:
    """The loss [B] of labels float32 [B, L] (0..1, or NaN) and probabilities float32 [B, L].

    `labels` [n, L] are those of the training rows, which weights are made from. Of one or several labels it is the sum
    over the known ones / L, of classes that exclude each other their cross-entropy. Raises ConfigError for weights of
    another number than there are classes, and for asymmetric ones of classes.
    """
    weights = class_weights(task, settings, labels).astype("float32")
    if task == "multiclass":
        if settings.name == "asymmetric":
            raise ConfigError("train.loss.name = asymmetric is for labels, not for classes that exclude each other")
        return lambda y, p: _of_classes(y, p, settings, weights)
    return lambda y, p: _of_labels(y, p, settings, weights)


def class_weights(task: str, settings: LossSettings, labels: np.ndarray) -> np.ndarray:
    """Weights of what a label can be: [L, 2] (negative, positive), or of each class [C]; all 1 when none are asked."""
    if task == "multiclass":
        counts = np.nansum(labels, axis=0)
    else:
        positives = np.nansum(labels, axis=0)
        counts = np.column_stack([(~np.isnan(labels)).sum(axis=0) - positives, positives])
    if settings.weights == "none":
        return np.ones(counts.shape)
    if isinstance(settings.weights, tuple):
        return _given(task, np.array(settings.weights), counts)
    present = np.maximum(counts, 1)  # a class that does not occur has no rows that its weight could count for
    if settings.weights == "balanced":  # as scikit-learn's compute_class_weight
        return counts.sum(axis=-1, keepdims=True) / (counts.shape[-1] * present)
    # Cui et al. 2019 (arXiv:1901.05555), eq. 1; they sum to the number of classes
    weights = (1 - settings.effective_beta) / (1 - settings.effective_beta**present)
    return weights * weights.shape[-1] / weights.sum(axis=-1, keepdims=True)


def _given(task: str, weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    wanted = {"multiclass": len(counts), "binary": 2, "multilabel": len(counts)}[task]
    if len(weights) != wanted:
        what = {"multiclass": "one of each class", "binary": "[negative, positive]", "multilabel": "one of each label"}
        raise ConfigError(f"train.loss.weights has {len(weights)} values, not {wanted}: {what[task]}")
    if task == "multilabel":
        return np.column_stack([np.ones(wanted), weights])
    return weights[None] if task == "binary" else weights


def _of_labels(y_true: Any, y_pred: Any, settings: LossSettings, weights: np.ndarray) -> Any:
    """Binary losses, each label by itself.

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
    """Cross-entropy of classes that exclude each other; labels may be mixed (soft). Rows with NaN count for nothing."""
    unknown = ops.any(ops.isnan(y_true), axis=-1)
    y = ops.where(unknown[:, None], ops.zeros_like(y_true), y_true)
    weight = ops.sum(y * weights, axis=-1)
    y = y * (1 - settings.smoothing) + settings.smoothing / len(weights)
    p = ops.clip(y_pred, 1e-7, 1 - 1e-7)
    focus = ops.power(1 - p, settings.gamma) if settings.name == "focal" else 1.0
    losses = -ops.sum(y * focus * ops.log(p), axis=-1)
    return ops.where(unknown, ops.zeros_like(losses), weight * losses)

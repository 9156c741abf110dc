"""The whole decision as one Keras model: resize, views, folds' mean, calibration, change of prior.

uint8 images -> the probabilities that the predictor would send (kit.predict.predictor), float32 [B, labels]. What it
computes in float64 is float32 here; on the predictor's own images the two differ by rounding alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kit.decisions import Beta, Calibration, Curve, Decision, Isotonic, Platt, Prior
from kit.errors import ConfigError
from kit.models.frozen import together, turned
from kit.predict.views import VIEWS, Cropped, Scaled, Turned, View

_LOBES = 3  # of Lanczos's window, as Pillow has it
_EPS = 1e-7  # as kit.evaluate.calibration clips


def whole(models: Sequence[keras.Model], decision: Decision, any_size: bool = False) -> keras.Model:
    """One model for the mean of `models` over the views of `decision`, calibrated as it says.

    With `any_size` it takes images uint8 [B, height, width, channels] of any height and width, and makes them the size
    of `models`. Raises ConfigError for views that are not turns of the image.
    """
    views = [_turn(view, decision.views) for view in VIEWS[decision.views]]
    shape = models[0].input_shape[1:]
    image = keras.Input((None, None, shape[2]) if any_size else shape, dtype="uint8", name="image")
    x = Conformed(shape[:2], name="conformed")(image) if any_size else image
    if len(views) > 1:  # one batch of them: a network for each view would make a graph as many times as large
        x = ops.concatenate([turn(x) for turn in views], axis=0)
    shared = together(models)
    folds = [keras.Model(model.inputs[0], model.outputs[0], name=f"fold{k}") for k, model in enumerate(models)]
    parts = shared.network(x) if shared else [fold(x) for fold in folds]
    p = layers.Average(dtype="float32", name="over_folds")(parts) if len(parts) > 1 else parts[0]
    if len(views) > 1:
        p = ops.mean(ops.reshape(p, (len(views), -1, p.shape[-1])), axis=0)
    return keras.Model(image, Sent(decision.calibration, decision.prior, name="probabilities")(p), name="kit")


class Conformed(layers.Layer):
    """uint8 images [B, H, W, C] of any size -> uint8 [B, *size, C] as kit.data.pixels.images.conform makes them.

    Both of its ways to resize, OpenCV's INTER_AREA and Pillow's Lanczos, are weighted sums along rows and columns.
    """

    def __init__(self, size: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.size = size

    def call(self, images: Any) -> Any:
        height, width = ops.shape(images)[1:3]
        enlarged = ops.minimum(height, width) < self.size[0]
        rows, columns = (_weights(n, size, enlarged) for n, size in zip((height, width), self.size, strict=True))
        x = ops.einsum("jw,bhwc->bhjc", columns, ops.cast(images, "float32"))
        x = ops.where(enlarged, _levels(x), x)  # Pillow has bytes between its two passes
        return ops.cast(_levels(ops.einsum("ih,bhjc->bijc", rows, x)), "uint8")

    def compute_output_spec(self, images: Any) -> Any:
        return keras.KerasTensor((images.shape[0], *self.size, images.shape[-1]), dtype="uint8")


def _levels(x: Any) -> Any:
    return ops.clip(ops.round(x), 0, 255)


def _weights(length: Any, size: int, enlarged: Any) -> Any:
    """What each of `size` new places takes of each of `length` pixels, float32 [size, length]; rows sum to 1."""
    step = ops.cast(length, "float32") / size
    new = ops.expand_dims(ops.arange(size, dtype="float32"), 1)
    old = ops.expand_dims(ops.cast(ops.arange(length), "float32"), 0)
    area = ops.maximum(ops.minimum((new + 1) * step, old + 1) - ops.maximum(new * step, old), 0.0)
    x = (old + 0.5 - (new + 0.5) * step) / ops.maximum(step, 1.0)
    lanczos = ops.where(ops.abs(x) < _LOBES, _sinc(x) * _sinc(x / _LOBES), 0.0)
    weights = ops.where(enlarged, lanczos, area)
    return weights / ops.sum(weights, axis=1, keepdims=True)


def _sinc(x: Any) -> Any:
    scaled = np.pi * ops.where(ops.abs(x) < 1e-6, 1e-6, x)
    return ops.sin(scaled) / scaled


class Sent(layers.Layer):
    """Raw probabilities [B, labels] -> those that are sent: calibrated, then for the prior of the test set."""

    def __init__(self, calibration: Calibration, prior: Prior | None, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.calibration, self.prior = calibration, prior

    def call(self, p: Any) -> Any:
        return _shifted(_calibrated(p, self.calibration), self.prior, self.calibration.exclusive)

    def compute_output_spec(self, p: Any) -> Any:
        return keras.KerasTensor(p.shape, dtype="float32")


def _turn(view: View, name: str) -> Callable[[Any], Any]:
    """Images in a view, as a function of tensors."""
    if isinstance(view, Cropped | Scaled) or not isinstance(view, Turned):
        raise ConfigError(
            f"the views {name} are made outside the network: choose --format kit, or predict in other views first "
            "(`kit predict RUN --records DIR --tta dihedral`, then `kit score RUN`)"
        )
    return lambda images: turned(images, view.quarters, view.mirrored)


def _calibrated(p: Any, calibration: Calibration) -> Any:
    if calibration.temperature is not None:
        if not calibration.exclusive:
            return ops.sigmoid(_logit(p) / calibration.temperature)
        return ops.softmax(_log(p) / calibration.temperature, axis=-1)
    if not calibration.curves:
        return p
    columns = [_mapped(curve, p[:, n : n + 1]) for n, curve in enumerate(calibration.curves)]
    return _normalised(ops.concatenate(columns, axis=1), calibration.exclusive)


def _mapped(curve: Curve, p: Any) -> Any:
    if isinstance(curve, Platt):
        return ops.sigmoid(curve.slope * _logit(p) + curve.intercept)
    if isinstance(curve, Beta):
        return ops.sigmoid(curve.a * _log(p) - curve.b * _log(1 - p) + curve.intercept)
    if isinstance(curve, Isotonic):
        return _interpolated(p, curve.p, curve.q)
    return p


def _interpolated(p: Any, knots: Sequence[float], values: Sequence[float]) -> Any:
    """Linear between the points, constant beyond them; knots ascend, and a step has two that are equal."""
    result = values[0] + 0 * p
    for (left, right), (low, high) in zip(pairwise(knots), pairwise(values), strict=True):
        share = ops.clip((p - left) / (right - left), 0.0, 1.0) if right > left else ops.cast(p >= right, p.dtype)
        result = result + share * (high - low)
    return result


def _shifted(p: Any, prior: Prior | None, exclusive: bool) -> Any:
    """Bayes' rule for another prior, as kit.evaluate.calibration.shift_prior."""
    if prior is None:
        return p
    trained, test = np.array(prior.trained), np.array(prior.test)
    varies = (trained > 0) & (trained < 1)
    trained, test = np.where(varies, trained, 0.5), np.where(varies, test, 0.5)
    yes = p * ops.convert_to_tensor((test / trained).astype(np.float32))
    if exclusive:
        return _normalised(yes, True)
    no = (1 - p) * ops.convert_to_tensor(((1 - test) / (1 - trained)).astype(np.float32))
    return yes / (yes + no)


def _normalised(p: Any, exclusive: bool) -> Any:
    if not exclusive:
        return p
    total = ops.sum(p, axis=1, keepdims=True)
    return ops.where(total > 0, p / ops.maximum(total, 1e-30), 1 / p.shape[1])


def _logit(p: Any) -> Any:
    return _log(p) - _log(1 - p)


def _log(p: Any) -> Any:
    """Of probabilities from 1e-7 on; 1 - p is exact near 1, where p itself is coarse."""
    return ops.log(ops.maximum(p, _EPS))

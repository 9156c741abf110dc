"""Optimisers, learning-rate schedules, and which parts of a model learn how fast."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kit.config import Phase, TrainSettings
from kit.errors import ConfigError
from kit.models.cards import BACKBONE
from kit.models.features import stages
from kit.runtime import keras_private

_CLASSES = {name.lower(): name for name in dir(keras.optimizers) if name[0].isupper()}


def make_optimizer(
    train: TrainSettings, phase: Phase, steps: int, rates: Sequence[float] | None = None, parts: int = 1
) -> keras.Optimizer:
    """Keras's optimiser for a phase of `phase.epochs` epochs of `steps` updates, each of `parts` batches.

    `rates` are factors of the learning rate, one per trainable variable in the model's order. Raises ConfigError for
    arguments that the optimiser does not take.
    """
    kind = getattr(keras.optimizers, _CLASSES[train.optimizer])
    _check_arguments(train, kind)
    if rates is not None and set(rates) != {1.0}:
        kind = keras_private.with_rates(kind, rates)
    # Keras moves the average with every part of a batch.
    average = {"use_ema": True, "ema_momentum": train.ema_momentum ** (1 / parts)} if train.average == "ema" else {}
    arguments = {
        "weight_decay": train.weight_decay or (0.0 if train.optimizer == "adamw" else None),  # AdamW takes no None
        "global_clipnorm": train.clip_norm,
        "gradient_accumulation_steps": parts if parts > 1 else None,
        **average,
        **train.optimizer_arguments,
    }
    rate = make_schedule(train, phase, steps)
    if parts > 1 and not isinstance(rate, float):
        rate = _OfParts(rate, parts)
    try:
        return kind(rate, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.optimizer_arguments of {train.optimizer}: {error}") from error


def _check_arguments(train: TrainSettings, kind: type[keras.Optimizer]) -> None:
    """Raise ConfigError for a value that is no number where one is needed: Keras would see it in the first step."""
    parameters = inspect.signature(kind).parameters
    for name, value in train.optimizer_arguments.items():
        is_optional = name not in parameters or not isinstance(parameters[name].default, float)
        if name != "name" and not isinstance(value, int | float) and not (value is None and is_optional):
            raise ConfigError(f"train.optimizer_arguments.{name} = {value!r}: give a number")


def make_schedule(train: TrainSettings, phase: Phase, steps: int) -> Any:
    """The learning rate of a phase: a number, or a schedule over updates (Keras's or one below)."""
    rate, updates = phase.learning_rate, phase.epochs * steps
    start = train.start_learning_rate
    if start is None:
        start = rate / 50 if train.schedule == "exponential" else 0.0
    if train.optimizer == "ftrl":
        start = max(start, rate / 1000)  # it divides by the rate
    warmup = round(min(train.warmup_epochs, phase.epochs) * steps)
    if train.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=start if warmup else rate,
            decay_steps=max(1, updates - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if train.schedule == "exponential":
        return WarmupHoldExponential(
            start, rate, train.min_learning_rate, train.warmup_epochs, train.hold_epochs, train.decay, steps
        )
    return OneCycle(rate, updates) if train.schedule == "one_cycle" else rate


class WarmupHoldExponential(keras.optimizers.schedules.LearningRateSchedule):
    """Constant within an epoch n: from `start` linearly to `peak` in `warmup` epochs, `hold` there, then
    (peak - low)·decay^(n - warmup - hold) + low, as the NIH system's."""

    def __init__(
        self, start: float, peak: float, low: float, warmup: float, hold: float, decay: float, steps: int
    ) -> None:
        self.start, self.peak, self.low, self.warmup, self.hold = start, peak, low, warmup, hold
        self.decay, self.steps = decay, steps

    def __call__(self, step: Any) -> Any:
        epoch = ops.floor(ops.cast(step, "float32") / self.steps)
        up = self.start + (self.peak - self.start) * epoch / max(self.warmup, 1e-9)
        after = ops.maximum(epoch - self.warmup - self.hold, 0.0)
        down = (self.peak - self.low) * ops.power(self.decay, after) + self.low
        return ops.where(epoch < self.warmup, up, down)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """From peak / 25 by a half cosine to `peak` in the first 30 % of the updates, then by another to peak / 250,000.

    Smith and Topin 2018 (arXiv:1708.07120), with the shape and figures of PyTorch's OneCycleLR.
    """

    def __init__(self, peak: float, updates: int) -> None:
        self.peak, self.updates = peak, updates

    def __call__(self, step: Any) -> Any:
        top, last = max(0.3 * self.updates - 1, 1e-9), max(self.updates - 1, 1)
        step = ops.cast(step, "float32")
        up = _half_cosine(self.peak / 25, self.peak, step / top)
        down = _half_cosine(self.peak, self.peak / 25e4, (step - top) / max(last - top, 1e-9))
        return ops.where(step <= top, up, down)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


class _OfParts(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule over updates, for an optimiser that counts batches and makes an update from every `parts`."""

    def __init__(self, schedule: Any, parts: int) -> None:
        self.schedule, self.parts = schedule, parts

    def __call__(self, step: Any) -> Any:
        return self.schedule(ops.floor_divide(ops.cast(step, "int32"), self.parts))

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


def _half_cosine(start: float, end: float, share: Any) -> Any:
    return end + (start - end) / 2 * (1 + ops.cos(3.141592653589793 * ops.clip(share, 0.0, 1.0)))


def unfreeze(model: keras.Model, what: str, freeze_batch_norm: bool = False) -> None:
    """Make `none` of the backbone trainable, `all`, or its last `N layers` or `N stages`; the head always is.

    Frozen batch normalisation runs in inference mode, as always in Keras. Raises ConfigError when the model has no
    backbone and `what` is not `all`.
    """
    backbone = _backbone(model)
    if backbone is None:
        if what != "all":
            raise ConfigError(f"train.phases: unfreeze = {what}, but {model.name} has no backbone: set it to all")
        return
    layers = backbone.layers
    backbone.trainable = True
    learning = [what == "all"] * len(layers)
    if what not in ("all", "none"):
        count, unit = int(what.split()[0]), what.split()[1]
        stage_of = stages(backbone)
        first = len(layers) - count
        learning = [n >= first if unit == "layers" else stage_of[n] < count for n in range(len(layers))]
    for layer, learns in zip(layers, learning, strict=True):
        layer.trainable = learns
    if freeze_batch_norm:
        for layer in keras_private.batch_norms(backbone):
            layer.trainable = False


def rates_of(model: keras.Model, decay: float) -> list[float]:
    """A factor of the learning rate per trainable variable: 1 in the head, decay^(1 + stage) in the backbone."""
    backbone = _backbone(model)
    if backbone is None or decay == 1:
        return [1.0] * len(model.trainable_variables)
    factors = {
        id(variable): decay ** (1 + stage)
        for layer, stage in zip(backbone.layers, stages(backbone), strict=True)
        for variable in layer.trainable_variables
    }
    return [factors.get(id(variable), 1.0) for variable in model.trainable_variables]


def _backbone(model: keras.Model) -> keras.Model | None:
    return next((layer for layer in model.layers if layer.name == BACKBONE), None)

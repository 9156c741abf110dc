"""Which learning rate to start with: the range test of Smith 2015 (arXiv:1506.01186)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import pandas as pd

from kit.config import AugmentSettings, TrainSettings
from kit.errors import TrainingError
from kit.train.fit import training_model
from kit.train.objectives import Objective
from kit.train.optimize import make_optimizer, rates_of, unfreeze

_KEEP = 0.8  # of the smoothed loss at each step, which so lags by four steps
_SKIP = 5  # steps at the start, where the smoothed loss is a mean of too few
_REACH = 0.5  # powers of ten on either side over which the slope is fitted; single steps are too noisy
_DIVERGED = 4.0  # times the least smoothed loss


def find_rate(
    model: keras.Model,
    batches: Iterator[Any],
    objective: Objective,
    train: TrainSettings,
    augment: AugmentSettings,
    seed: int,
    *,
    low: float = 1e-7,
    high: float = 1.0,
    steps: int = 100,
    jit_compile: bool | str = "auto",
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[pd.DataFrame, float]:
    """Train `model`, useless afterwards, while the rate rises from `low` to `high`; the curve and the suggested rate.

    `batches` is endless and yields a tuple of one dictionary, as for `kit.train.fit.Feed`; `train.accumulate` of
    them make an update. Trainable layers and optimiser are those of the first phase of `train`. The curve has a row per
    update: rate, loss, smoothed (an exponential mean, corrected for its start at 0). It ends when the smoothed loss is
    four times its minimum, infinite or NaN. Raises TrainingError when the loss never falls.
    """
    phase, parts = train.all_phases[0], train.accumulate
    unfreeze(model, phase.unfreeze, train.freeze_batch_norm)
    with scope():
        training = training_model(model, objective, augment, seed)
        constant = train.model_copy(update={"schedule": "constant"})
        training.compile(
            make_optimizer(constant, phase, steps, rates_of(model, phase.layer_decay), parts), jit_compile=jit_compile
        )
    rows: list[tuple[float, float, float]] = []
    mean, least = 0.0, float("inf")
    for step, rate in enumerate(np.geomspace(low, high, steps), 1):
        training.optimizer.learning_rate = rate
        value = float(np.mean([_train_on(training, next(batches)) for _ in range(parts)]))
        mean = _KEEP * mean + (1 - _KEEP) * value
        smoothed = mean / (1 - _KEEP**step)
        least = min(least, smoothed)
        if not np.isfinite(smoothed):
            break
        rows.append((float(rate), value, smoothed))
        if smoothed > _DIVERGED * least:
            break
    curve = pd.DataFrame(rows, columns=["rate", "loss", "smoothed"])
    return curve, suggested_rate(curve)


def suggested_rate(curve: pd.DataFrame) -> float:
    """Where the smoothed loss falls most steeply over the logarithm of the rate, before its minimum.

    The slope is that of the running minimum, so that recovering from a bad batch does not count, by least squares over
    half a power of ten on either side. Raises TrainingError when the minimum is at the start.
    """
    smoothed = curve["smoothed"].to_numpy()
    least = int(smoothed[_SKIP:].argmin()) + _SKIP if len(smoothed) > _SKIP else 0
    if least <= _SKIP:
        raise TrainingError("the loss does not fall at any learning rate: check train.loss, the labels and the model")
    powers, falling = np.log10(curve["rate"].to_numpy()), np.minimum.accumulate(smoothed[_SKIP:])
    windows = [np.abs(powers[_SKIP:] - power) <= _REACH for power in powers[_SKIP : least + 1]]
    slopes = [np.polyfit(powers[_SKIP:][window], falling[window], 1)[0] for window in windows]
    return float(curve["rate"].iloc[_SKIP + int(np.argmin(slopes))])


def _train_on(training: keras.Model, batch: Any) -> float:
    """The loss of a batch before its update."""
    training.reset_metrics()  # some versions of Keras return the mean of all batches so far
    inputs = {name: np.asarray(value) for name, value in batch[0].items()}  # JAX takes no TensorFlow tensors
    return float(training.train_on_batch(inputs, return_dict=True)["loss"])

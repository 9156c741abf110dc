"""Fit one fold's model, so that it can be killed at any moment and resumes from the last whole epoch."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kit.config import AugmentSettings, TrainSettings
from kit.errors import TrainingError
from kit.runtime import keras_private
from kit.runtime.session import Deadline
from kit.train.augment import Augment
from kit.train.bar import Bar
from kit.train.callbacks import EpochSeeds, Logs, NotFinite, Progress, State, Timer, Track, Validate, set_seeds
from kit.train.objectives import Objective, make_objective
from kit.train.optimize import make_optimizer, rates_of, unfreeze
from kit.train.trackers import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """The history (a dictionary per epoch), and whether training ended by itself (not by the deadline)."""

    history: list[Logs]
    finished: bool


@dataclass(frozen=True)
class Feed:
    """Where a fold's training batches come from.

    `batches(epoch, parts)` is endless, from that epoch on, and yields what Keras's `fit` takes: ({"image": uint8
    [b, H, W, C], "label": float32 [b, L], and boxes},), each batch cut into that many parts, one after the other.
    `steps` whole batches are an epoch. `labels` [n, L] are those of all training rows; `ids(epoch, step, parts)` names
    the images of a step, if it can.
    """

    batches: Callable[[int, int], Any]
    steps: int
    labels: np.ndarray
    ids: Callable[[int, int, int], Sequence[str]] = lambda epoch, step, parts: ()


@dataclass(frozen=True)
class Reporting:
    """The fold's name in log lines, how many folds come after it, and the trackers that get every epoch's logs."""

    title: str = ""
    folds_after: int = 0
    trackers: Sequence[Tracker] = ()


def fit(
    model: keras.Model,
    feed: Feed,
    validate: Callable[[], Logs],
    *,
    monitor: str,
    larger_is_better: bool = True,
    task: str,
    train: TrainSettings,
    augment: AugmentSettings,
    seed: int,
    state: Path,
    jit_compile: bool | str = "auto",
    steps_per_execution: int = 1,
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext,
    most_parts: int = 2,
    deadline: float | None = None,
    agree: Callable[[bool], bool] = bool,
    reporting: Reporting = Reporting(),
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Train `model` in place and leave it with the weights of the epoch whose `monitor` is best.

    `task` and `train.loss` decide what is minimised (`kit.train.objectives`); `validate()` scores `model` as it is and
    returns the values among which `monitor` is. `state` is the folder to resume from. `deadline`, in seconds of
    `time.monotonic()`, is checked between epochs; one of `kit.runtime.session` remembers how long they take. With
    several hosts, `agree` returns whether any of them wants to stop. At most `steps_per_execution` steps run before
    Python sees the loss. `callbacks` see every epoch's logs; the model is compiled in `scope()`.

    A batch that does not fit in memory is halved, once, and its gradients are accumulated (unless `most_parts` is 1).
    Raises TrainingError when the loss is infinite or NaN, and when a batch, or half of one, does not fit.
    """
    phases, objective = train.all_phases, make_objective(task, train.loss, feed.labels)
    saved = State(state, model, monitor, larger_is_better, keep=train.swa_epochs if train.average == "swa" else 1)
    at = deadline if isinstance(deadline, Deadline) else Deadline(float("inf") if deadline is None else deadline)
    timer = Timer(at, agree)

    def validated() -> Logs:
        try:
            return validate()
        except Exception as error:
            if _out_of_memory(error):  # or it would be taken for a training batch
                raise TrainingError("validation does not fit in memory: lower predict.batch_size") from error
            raise

    def fit_phase(n: int) -> None:
        phase, parts = phases[n], train.accumulate * saved.values["parts"]
        before, done = sum(len(saved.of_phase(p)) for p in range(n)), len(saved.of_phase(n))
        if n and not done:  # a phase begins with the best there is
            model.load_weights(saved.best_weights)
        unfreeze(model, phase.unfreeze, train.freeze_batch_norm)

        def compiled(parts: int) -> keras.Model:
            with scope():
                training = training_model(model, objective, augment, seed)
                training.compile(
                    make_optimizer(train, phase, feed.steps, rates_of(model, phase.layer_decay), parts),
                    jit_compile=jit_compile,
                    steps_per_execution=_divisor(feed.steps * parts, steps_per_execution),
                )
            return training

        stopping = _stopping(train, monitor, larger_is_better)
        saved.begin(n, phase.epochs, stopping, parts, compiled)
        after = sum(later.epochs for later in phases[n + 1 :])
        compiled(parts).fit(
            feed.batches(before + done, parts),
            epochs=phase.epochs,
            initial_epoch=done,
            steps_per_epoch=feed.steps * parts,
            verbose=0,
            shuffle=False,  # the batches come shuffled
            callbacks=[
                Bar(reporting.title, feed.steps * parts, before, before + phase.epochs + after),
                EpochSeeds(seed, before),
                NotFinite(lambda epoch, step: feed.ids(epoch, step, parts), reporting.title, before),
                Validate(validated),
                *stopping,
                Progress(reporting.title, phase.epochs, before, after, reporting.folds_after),
                *(Track(tracker, before) for tracker in reporting.trackers),
                saved,
                *callbacks,
                timer,
            ],
        )

    if train.batch_norm_momentum is not None:
        for layer in keras_private.batch_norms(model):
            layer.momentum = train.batch_norm_momentum
    for phase in phases:  # an impossible one is refused at once, not after those before it
        unfreeze(model, phase.unfreeze, train.freeze_batch_norm)
    for n in range(saved.values["phases"], len(phases)):
        if not timer.begin(n):
            break
        _halving(lambda n=n: fit_phase(n), model, saved, most_parts, reporting)  # type: ignore[misc]
    if saved.values["phases"] == len(phases) and not saved.values["finished"]:
        if train.average != "swa":
            saved.set(finished=True)
        elif timer.begin(len(phases) - 1):
            parts = train.accumulate * saved.values["parts"]
            _average_epochs(model, objective, feed, parts, seed, validated, saved, reporting)
    if saved.values["best"]:
        model.load_weights(saved.best_weights)
    return Fitted(saved.history, bool(saved.values["finished"]))


def training_model(model: keras.Model, objective: Objective, augment: AugmentSettings, seed: int) -> keras.Model:
    """What is fitted: a batch, as a dictionary -> the loss [B] of each image, by augmentation and `model` itself."""
    batch = objective.inputs(model)
    return TrainingModel(batch, objective.losses(model, Augment(augment, seed), batch), name="training")


class TrainingModel(keras.Model):
    """A model whose outputs are losses. (A layer's `add_loss` would count twice where copies on devices wait.)"""

    def compile(self, optimizer: keras.Optimizer, **arguments: Any) -> None:
        super().compile(optimizer, loss=lambda labels, losses: losses, **arguments)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        # the labels are among the inputs
        return super().compute_loss(x, x["label"], y_pred, sample_weight, training)


def _halving(
    fit_phase: Callable[[], None], model: keras.Model, saved: State, most_parts: int, reporting: Reporting
) -> None:
    """Run `fit_phase`; when a batch does not fit in memory, run it again with batches cut in half."""
    fresh = model.get_weights()
    while True:
        try:
            return fit_phase()
        except Exception as error:
            if not _out_of_memory(error):
                raise
            if saved.values["parts"] >= most_parts:
                what = (
                    "half a batch does not fit in memory either" if most_parts > 1 else "a batch does not fit in memory"
                )
                raise TrainingError(f"{what}: lower train.batch_size") from error
        log.info(f"{reporting.title}  a batch does not fit in memory: it is cut in half, and gradients are accumulated")
        saved.set(parts=2)
        model.set_weights(fresh)


def _out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)


def _average_epochs(
    model: keras.Model,
    objective: Objective,
    feed: Feed,
    parts: int,
    seed: int,
    validate: Callable[[], Logs],
    saved: State,
    reporting: Reporting,
) -> None:
    """Stochastic weight averaging: the mean of the last epochs' weights is one more epoch, kept if it is the best one.

    Izmailov et al. 2018 (arXiv:1803.05407); batch statistics are computed again from an epoch of images.
    """
    total: list[np.ndarray] = []
    shell = training_model(model, objective, AugmentSettings(), 0)
    for n, path in enumerate(saved.kept_weights):
        shell.load_weights(path)
        weights = [np.asarray(w, np.float64) for w in model.get_weights()]
        total = weights if n == 0 else [a + b for a, b in zip(total, weights, strict=True)]
    count = len(saved.kept_weights)
    kinds = [w.dtype for w in model.get_weights()]
    model.set_weights([(w / count).astype(kind) for w, kind in zip(total, kinds, strict=True)])
    set_seeds(model, seed, len(saved.history))  # of dropout, on which statistics after it depend
    _renew_batch_statistics(model, feed, len(saved.history), parts)
    logs = {"loss": float("nan"), **validate(), "learning_rate": 0.0}
    now = {"phase": saved.history[-1]["phase"], **logs}
    best = saved.best_after(now)
    saved.set(history=[*saved.history, now], best=best, finished=True)
    values = "  ".join(f"{name} {value:.4g}" for name, value in logs.items() if name.startswith("val_"))
    log.info(f"{reporting.title}  mean of the last {count} epochs  {values}")


def _renew_batch_statistics(model: keras.Model, feed: Feed, epoch: int, parts: int) -> None:
    """Set the moving statistics of each batch normalisation to their mean over an epoch's batches."""
    norms = [layer for layer in keras_private.batch_norms(model) if layer.trainable]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    batches = iter(feed.batches(epoch, parts))
    for step in range(feed.steps * parts):
        for layer in norms:
            layer.momentum = step / (step + 1)  # so that the moving average is the mean so far
        model(next(batches)[0]["image"], training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _stopping(train: TrainSettings, monitor: str, larger_is_better: bool) -> list[keras.callbacks.Callback]:
    """Keras's own callbacks that decide from the history alone, so that it can be replayed to them."""
    mode = "max" if larger_is_better else "min"
    callbacks: list[keras.callbacks.Callback] = []
    if train.patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping(monitor, mode=mode, patience=train.patience))
    if train.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor,
                mode=mode,
                factor=train.plateau_factor,
                patience=train.plateau_patience,
                min_lr=train.min_learning_rate,
            )
        )
    return callbacks


def _divisor(steps: int, at_most: int) -> int:
    """The largest divisor of `steps` that is not larger than `at_most`: an epoch ends where an execution does."""
    return max(n for n in range(1, max(1, min(at_most, steps)) + 1) if steps % n == 0)

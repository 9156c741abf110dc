"""Fit one fold's model, so that it can be killed at any moment and go on from the last whole epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kit.config import AugmentSettings, TrainSettings
from kit.train.augment import wrapped
from kit.train.callbacks import Deadline, EpochSeeds, Logs, Mode, Progress, State, Validate
from kit.train.losses import LOSSES


@dataclass(frozen=True)
class Fitted:
    """The history (a dictionary per epoch), and whether training ended by itself (not by the deadline)."""

    history: list[Logs]
    finished: bool


def fit(
    model: keras.Model,
    batches: Callable[[int], Any],
    steps: int,
    validate: Callable[[], Logs],
    *,
    monitor: str,
    mode: Mode = "max",
    task: str,
    train: TrainSettings,
    augment: AugmentSettings,
    seed: int,
    state: Path,
    jit_compile: bool | str = "auto",
    deadline: float | None = None,
    title: str = "",
    write: Callable[[str], None] = print,
) -> Fitted:
    """Train `model` in place and leave it with the weights of its best epoch by `monitor`; `mode` says which end is.

    `task` decides what is minimised (`kit.train.losses`). `batches(epoch)` gives what Keras's `fit` takes, from that
    epoch on without end; `steps` batches are an epoch. `validate()` scores `model` as it stands. `state` is the folder
    to go on from; `deadline` is in seconds of `time.monotonic()`, looked at between epochs.
    """
    training = wrapped(model, augment, seed)
    training.compile(optimizer=_optimizer(train, steps), loss=LOSSES[task], jit_compile=jit_compile)
    stopping = _stopping(train, monitor, mode)
    saved = State(state, model, monitor, mode, stopping, train.epochs)
    timer = Deadline(float("inf") if deadline is None else deadline)
    if not saved.values["finished"] and time.monotonic() < timer.at:
        training.fit(
            batches(len(saved.history)),
            epochs=train.epochs,
            initial_epoch=len(saved.history),
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,  # the batches come shuffled
            callbacks=[
                EpochSeeds(seed),
                Validate(validate),
                *stopping,
                Progress(title, train.epochs, write),
                saved,
                timer,
            ],
        )
    if saved.values["best"]:
        model.load_weights(saved.best_weights)
    return Fitted(saved.history, bool(saved.values["finished"]))


def _optimizer(train: TrainSettings, steps: int) -> keras.Optimizer:
    rate: Any = train.learning_rate
    if train.schedule == "cosine":
        warmup = round(min(train.warmup_epochs, train.epochs) * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else train.learning_rate,
            decay_steps=max(1, train.epochs * steps - warmup),
            warmup_target=train.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if train.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=train.weight_decay)
    return keras.optimizers.Adam(rate)


def _stopping(train: TrainSettings, monitor: str, mode: Mode) -> list[keras.callbacks.Callback]:
    """Keras's own callbacks that decide from the history alone, and can so be played back."""
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

"""A small network on features: stopped by an inner fold, then fitted again on all rows for as many epochs."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from kit.config import LossSettings
from kit.train.callbacks import EpochSeeds
from kit.train.losses import make_loss

_MOST, _PATIENCE = 60, 6  # epochs
_STEPS = 30  # of an epoch, about; batches are of 8 to 1024 rows
_RATE, _DECAY = 1e-3, 0.05


def fit_mlp(head: keras.Model, x: np.ndarray, y: np.ndarray, inner: np.ndarray, task: str, seed: int) -> int:
    """Fit the dense layers of `head`, in place, on features float32 [n, d] and labels [n, L] (NaN unknown).

    The first of the `inner` folds (numbers [n]) says after how many epochs the loss is least; with a single fold a
    fifth of the most are run. Returns the number of epochs.
    """
    held = inner == inner.min()
    epochs = _MOST // 5
    if not held.all():
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=_PATIENCE)
        validation = {"validation_data": (x[held], y[held]), "validation_batch_size": 4096}
        losses = _fit(head, x[~held], y[~held], task, seed, _MOST, callbacks=[stopping], **validation)["val_loss"]
        epochs = int(np.argmin(losses)) + 1
    _fit(head, x, y, task, seed, epochs)
    return epochs


def _fit(
    head: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    task: str,
    seed: int,
    epochs: int,
    callbacks: Any = (),
    **validation: Any,
) -> dict[str, list[float]]:
    """Fit from new weights, which like all else depend on the arguments alone; returns the history."""
    dense = [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]
    for n, layer in enumerate(dense):
        layer.kernel.assign(keras.initializers.GlorotUniform(seed=seed + n)(layer.kernel.shape))
        layer.bias.assign(np.zeros(layer.bias.shape, np.float32))
    head.compile(keras.optimizers.AdamW(_RATE, weight_decay=_DECAY), loss=make_loss(task, LossSettings(), y))
    size = int(np.clip(len(x) // _STEPS, min(8, len(x)), 1024))
    history = head.fit(
        _batches(x, y, size, seed),
        epochs=epochs,
        steps_per_epoch=len(x) // size,
        verbose=0,
        shuffle=False,  # the batches come shuffled
        callbacks=[EpochSeeds(seed), *callbacks],
        **validation,
    )
    return dict(history.history)


def _batches(x: np.ndarray, y: np.ndarray, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless; every epoch has its own order, and drops what does not fill a batch."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield x[rows], y[rows]

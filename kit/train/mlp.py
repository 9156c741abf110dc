"""A small network on features: stopped by an inner fold, then fitted again on all rows for as many epochs."""

from collections.abc import Callable

import keras
import numpy as np

from kit.config import LossSettings
from kit.train.callbacks import set_seeds
from kit.train.losses import make_loss

_MOST, _PATIENCE = 60, 6  # epochs
_STEPS = 30  # of an epoch, about; batches are of 8 to 1024 rows
_RATE, _DECAY = 1e-3, 0.05


def fit_mlp(head: keras.Model, x: np.ndarray, y: np.ndarray, inner: np.ndarray, task: str, seed: int) -> int:
    """Fit the dense layers of `head`, in place, on features float32 [n, d] and labels [n, L] (NaN unknown).

    The first of the `inner` folds (numbers [n]) says after how many epochs the loss is least; with a single fold a
    third of the most are run. Returns the number of epochs.
    """
    held = inner == inner.min()
    losses: list[float] = []

    def goes_on() -> bool:
        p = head(x[held], training=False)
        losses.append(float(np.mean(keras.ops.convert_to_numpy(loss(y[held], p)))))
        return len(losses) - 1 - int(np.argmin(losses)) < _PATIENCE

    loss, epochs = make_loss(task, LossSettings(), y), _MOST // 3
    if not held.all():
        _fit(head, x[~held], y[~held], loss, seed, _MOST, goes_on)
        epochs = int(np.argmin(losses)) + 1
    _fit(head, x, y, loss, seed, epochs)
    return epochs


def _fit(
    head: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    loss: Callable[..., object],
    seed: int,
    epochs: int,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Fit from new weights, which like the order of the rows and dropout depend on the seed alone."""
    dense = [layer for layer in head.layers if isinstance(layer, keras.layers.Dense)]
    for n, layer in enumerate(dense):
        layer.kernel.assign(keras.initializers.GlorotUniform(seed=seed + n)(layer.kernel.shape))
        layer.bias.assign(np.zeros(layer.bias.shape, np.float32))
    head.compile(keras.optimizers.AdamW(_RATE, weight_decay=_DECAY), loss=loss)
    size = int(np.clip(len(x) // _STEPS, min(8, len(x)), 1024))
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        set_seeds(head, seed, epoch)
        order = rng.permutation(len(x))
        for start in range(0, len(x) - size + 1, size):  # all of one size, so that one program serves them
            rows = order[start : start + size]
            head.train_on_batch(x[rows], y[rows])
        if not goes_on():
            break

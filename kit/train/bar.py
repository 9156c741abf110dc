"""How far an epoch is: a bar on a terminal; in a log, a line every half minute."""

import logging
import sys
import time
from typing import Any

import keras
from tqdm import tqdm

log = logging.getLogger(__name__)

_EVERY = 30.0  # seconds between two lines in a log


class Bar(keras.callbacks.Callback):
    """Shows steps a second, the loss and the time left within an epoch of `steps`; comes first, to end before others.

    `before` and `total` are the fold's epochs in earlier phases and in all. Short epochs say nothing in a log.
    """

    def __init__(self, title: str, steps: int, before: int, total: int) -> None:
        super().__init__()
        self.title, self.steps, self.before, self.total = title, steps, before, total
        self.epoch, self.done, self.started, self.said = 0, 0, 0.0, 0.0
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch, self.done = self.before + epoch + 1, 0
        self.started = self.said = time.monotonic()
        if sys.stderr.isatty():
            what = f"{self.title}  epoch {self.epoch}/{self.total}"
            self.bar = tqdm(desc=what, unit=" steps", total=self.steps, leave=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        done, loss = batch + 1, (logs or {}).get("loss", float("nan"))
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update(done - self.done)
        self.done = done
        now = time.monotonic()
        if self.bar is None and now - self.said >= _EVERY:
            self.said = now
            log.info(f"{self.title}  {_progress(self.epoch, self.total, done, self.steps, now - self.started, loss)}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._close()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _progress(epoch: int, epochs: int, done: int, steps: int, seconds: float, loss: float) -> str:
    """`epoch 3/15  step 120/900  4.0 steps/s  loss 0.31  3.2 min left in the epoch`."""
    rate = done / seconds
    left = (steps - done) / rate / 60
    return (
        f"epoch {epoch}/{epochs}  step {done}/{steps}  {rate:.3g} steps/s  loss {loss:.4g}  "
        f"{left:.1f} min left in the epoch"
    )

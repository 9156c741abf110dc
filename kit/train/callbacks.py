"""What happens between epochs: seeds, validation, one line of progress, and the state from which training goes on."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kit import files

Mode = Literal["max", "min"]  # which end of a score is better
Logs = dict[str, float]


class EpochSeeds(keras.callbacks.Callback):
    """Set every seed generator (dropout, augmentation) at the start of an epoch from (seed, epoch).

    So the randomness of an epoch does not depend on whether the run was interrupted before it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Assign the states."""
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for n, state in enumerate(states):
            words = np.random.SeedSequence([self.seed, epoch, n]).generate_state(2)
            state.assign((words % 2**31).astype(state.dtype))


class Validate(keras.callbacks.Callback):
    """Add what `validate()` returns to the epoch's logs; comes first, so that all later callbacks see it."""

    def __init__(self, validate: Callable[[], Logs]) -> None:
        super().__init__()
        self.validate = validate

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run the validation."""
        assert logs is not None
        logs.update(self.validate())
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Progress(keras.callbacks.Callback):
    """One line an epoch, with the time left if every epoch is run."""

    def __init__(self, title: str, epochs: int, write: Callable[[str], None]) -> None:
        super().__init__()
        self.title, self.epochs, self.write = title, epochs, write
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the line."""
        took = time.monotonic() - self.started
        values = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        left = took * (self.epochs - epoch - 1)
        self.write(
            f"{self.title}  epoch {epoch + 1}/{self.epochs}  {values}  {took:.0f} s, {left / 60:.1f} min left at most"
        )


class State(keras.callbacks.Callback):
    """Everything needed to go on after a kill: weights, optimiser, history and the best weights so far; comes last.

    `state.json` is replaced last and names the weight files that belong to it, so it is whole at any moment. The state
    of Keras's own callbacks (early stopping, plateau) is not stored but played back from the history.
    """

    def __init__(
        self,
        folder: Path,
        best_of: keras.Model,
        monitor: str,
        mode: Mode,
        replayed: list[keras.callbacks.Callback],
        epochs: int,
    ) -> None:
        super().__init__()
        self.folder, self.best_of, self.replayed, self.epochs = folder, best_of, replayed, epochs
        self.monitor, self.mode = monitor, mode
        path = folder / "state.json"
        self.values: dict[str, Any] = (
            files.read_json(path)
            if path.exists()
            else {"history": [], "best": None, "weights": None, "finished": False}
        )

    @property
    def history(self) -> list[Logs]:
        """The logs of every epoch so far."""
        return self.values["history"]

    @property
    def best_weights(self) -> Path:
        """The weights of the epoch with the best score."""
        return self.folder / self.values["best"]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Bring the other callbacks, then the model and its optimiser, to where the last whole epoch left them."""
        for epoch, logs_then in enumerate(self.history):
            for callback in self.replayed:
                callback.on_epoch_end(epoch, dict(logs_then))
        if self.values["weights"]:
            self.model.optimizer.build(self.model.trainable_variables)
            self.model.load_weights(self.folder / self.values["weights"])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save the epoch."""
        scores = [self._goodness(past) for past in self.history]
        now = {name: float(value) for name, value in (logs or {}).items()}
        weights, best = f"epoch{epoch:04d}.weights.h5", self.values["best"]
        with files.replacing(self.folder / weights) as part:
            self.model.save_weights(part)
        if not scores or self._goodness(now) > max(scores):
            best = f"best{epoch:04d}.weights.h5"
            with files.replacing(self.folder / best) as part:
                self.best_of.save_weights(part)
        finished = self.model.stop_training or epoch + 1 >= self.epochs
        self.values = {"history": [*self.history, now], "best": best, "weights": weights, "finished": finished}
        files.write_json(self.folder / "state.json", self.values)
        for path in self.folder.glob("*.weights.h5"):
            if path.name not in (weights, best):
                path.unlink()

    def _goodness(self, logs: Logs) -> float:
        """The score, larger being better; one that is not defined is worse than any."""
        value = logs[self.monitor] if self.mode == "max" else -logs[self.monitor]
        return value if value == value else float("-inf")


class Deadline(keras.callbacks.Callback):
    """Stop after an epoch when another of the same length would end past `at` (seconds of `time.monotonic()`)."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at, self.started, self.reached = at, 0.0, False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop when there is no time for one more; comes after the state was saved."""
        now = time.monotonic()
        if now + (now - self.started) > self.at:
            self.reached = self.model.stop_training = True

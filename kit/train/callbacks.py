"""What happens between epochs: seeds, validation, one line of progress, and the state from which training goes on."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kit import files
from kit.errors import TrainingError
from kit.runtime import keras_private
from kit.runtime.session import Deadline

Mode = Literal["max", "min"]  # which end of a score is better
Logs = dict[str, float]


class EpochSeeds(keras.callbacks.Callback):
    """Set every seed generator (dropout, augmentation) at the start of an epoch from (seed, epoch).

    So the randomness of an epoch does not depend on whether the run was interrupted before it. `before` epochs were in
    earlier phases.
    """

    def __init__(self, seed: int, before: int = 0) -> None:
        super().__init__()
        self.seed, self.before = seed, before

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Assign the states."""
        set_seeds(self.model, self.seed, self.before + epoch)


def set_seeds(model: keras.Model, seed: int, epoch: int) -> None:
    """Set every seed generator of a model to where that epoch begins."""
    for n, state in enumerate(keras_private.seed_states(model)):
        words = np.random.SeedSequence([seed, epoch, n]).generate_state(2)
        state.assign((words % 2**31).astype(state.dtype))


@contextmanager
def averaged(training: keras.Model) -> Iterator[None]:
    """The exponential moving average in the place of the weights, where the optimiser keeps one."""
    keras_private.swap_average(training)
    try:
        yield
    finally:
        keras_private.swap_average(training)


class NotFinite(keras.callbacks.Callback):
    """Raise TrainingError at the first step whose loss is not a number, naming step, rate and images.

    Of several steps that are executed at once it can only say that it was one of them. `name_images(epoch, step)` gives
    the ids of a step's images, if they can be known; `before` epochs were in earlier phases.
    """

    def __init__(self, name_images: Callable[[int, int], Sequence[str]], title: str, before: int = 0) -> None:
        super().__init__()
        self.name_images, self.title, self.before = name_images, title, before
        self.epoch, self.first = 0, 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remember which epoch it is."""
        self.epoch, self.first = self.before + epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the mean loss of the epoch so far, in which one that is not finite stays."""
        if logs and not math.isfinite(logs["loss"]):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            several = self.first < batch
            steps = f"one of the steps {self.first + 1} to {batch + 1}" if several else f"step {batch + 1}"
            ids = [name for step in range(self.first, batch + 1) for name in self.name_images(self.epoch, step)]
            images = f" (images {', '.join(ids)})" if ids else ""
            raise TrainingError(
                f"{self.title}: the loss is {logs['loss']} from epoch {self.epoch + 1}, {steps} on, at a learning rate "
                f"of {rate:.3g}{images}: lower train.learning_rate, or set train.clip_norm=1, in another --run "
                "(changed settings train every fold anew)"
            )
        self.first = batch + 1


class Validate(keras.callbacks.Callback):
    """Add what `validate()` returns to the epoch's logs; comes first, so that all later callbacks see it."""

    def __init__(self, validate: Callable[[], Logs]) -> None:
        super().__init__()
        self.validate = validate

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run the validation."""
        assert logs is not None
        with averaged(self.model):
            logs.update(self.validate())
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Progress(keras.callbacks.Callback):
    """One line an epoch, with the time left for the fold and the run if every epoch is run.

    `before` and `after` are epochs of the fold in other phases, `folds_after` the folds that are still to come.
    """

    def __init__(
        self, title: str, epochs: int, before: int, after: int, folds_after: int, write: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.title, self.epochs, self.before, self.after, self.folds_after = title, epochs, before, after, folds_after
        self.write, self.started = write, 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the line."""
        took = time.monotonic() - self.started
        values = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        total = self.before + self.epochs + self.after
        left = self.epochs - epoch - 1 + self.after
        run = f", {took * (left + self.folds_after * total) / 60:.1f} of the run" if self.folds_after else ""
        self.write(
            f"{self.title}  epoch {self.before + epoch + 1}/{total}  {values}  {took:.0f} s, "
            f"at most {took * left / 60:.1f} min left{run}"
        )


class Track(keras.callbacks.Callback):
    """Tell `log(values, epoch)`, such as that of Weights & Biases, of every epoch; `before` were in earlier phases."""

    def __init__(self, log: Callable[[Logs, int], None], before: int) -> None:
        super().__init__()
        self.log, self.before = log, before

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Tell."""
        self.log(dict(logs or {}), self.before + epoch)


class State(keras.callbacks.Callback):
    """Everything needed to go on after a kill: weights, optimiser, history and the best weights so far; comes last.

    `state.json` is replaced last and names the weight files that belong to it, so it is whole at any moment. The state
    of Keras's own callbacks (early stopping, plateau) is not stored but played back from the history.

    It serves all phases of a fold, one after the other: see `begin`. The last `keep` epochs' weights are kept as well.
    """

    def __init__(self, folder: Path, best_of: keras.Model, monitor: str, mode: Mode, keep: int = 1) -> None:
        super().__init__()
        self.folder, self.best_of, self.monitor, self.mode, self.keep = folder, best_of, monitor, mode, keep
        self.phase, self.epochs, self.replayed = 0, 0, list[keras.callbacks.Callback]()
        self.parts, self.compiled = 1, lambda parts: best_of
        path = folder / "state.json"
        fresh: dict[str, Any] = {"history": [], "best": None, "weights": [], "phases": 0, "finished": False}
        # parts: what lack of memory has batches cut into; saved_parts: into how many they came when last saved, in all
        fresh |= {"parts": 1, "saved_parts": 1}
        self.values: dict[str, Any] = files.read_json(path) if path.exists() else fresh

    @property
    def history(self) -> list[Logs]:
        """The logs of every epoch so far."""
        return self.values["history"]

    @property
    def best_weights(self) -> Path:
        """The weights of the epoch with the best score."""
        return self.folder / self.values["best"]

    @property
    def kept_weights(self) -> list[Path]:
        """The weights of the last epochs, oldest first."""
        return [self.folder / name for name in self.values["weights"]]

    def of_phase(self, phase: int) -> list[Logs]:
        """The logs of the epochs of one phase."""
        return [logs for logs in self.history if logs["phase"] == phase]

    def begin(
        self,
        phase: int,
        epochs: int,
        replayed: list[keras.callbacks.Callback],
        parts: int,
        compiled: Callable[[int], keras.Model],
    ) -> None:
        """Serve this phase, of so many epochs, with those callbacks to be played back.

        Its batches come in `parts`; `compiled(parts)` is what is fitted, as it would be for another number of them.
        """
        self.phase, self.epochs, self.replayed = phase, epochs, replayed
        self.parts, self.compiled = parts, compiled

    def set(self, **values: Any) -> None:
        """Change what is stored."""
        self.values = {**self.values, **values}
        files.write_json(self.folder / "state.json", self.values)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Bring the other callbacks, then the model and its optimiser, to where the last whole epoch left them."""
        past = self.of_phase(self.phase)
        for epoch, logs_then in enumerate(past):
            for callback in self.replayed:
                callback.on_epoch_end(epoch, dict(logs_then))
        if past:
            parts = self.values["saved_parts"]
            saved = self.model if parts == self.parts else self.compiled(parts)  # has other variables of the optimiser
            for model in {id(self.model): self.model, id(saved): saved}.values():
                if not model.optimizer.built:
                    model.optimizer.build(model.trainable_variables)
            saved.load_weights(self.kept_weights[-1])
            if saved is not self.model:
                _take_over(saved.optimizer, parts, self.model.optimizer, self.parts)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save the epoch."""
        now: Logs = {"phase": self.phase, **{name: float(value) for name, value in (logs or {}).items()}}
        name = f"epoch{len(self.history):04d}.weights.h5"
        with files.replacing(self.folder / name) as part:
            self.model.save_weights(part)
        with averaged(self.model):
            best = self.best_after(now)
        keep = min(self.keep, len(self.of_phase(self.phase)) + 1)  # none of another phase
        weights = [*self.values["weights"], name][-keep:]
        ended = self.model.stop_training or epoch + 1 >= self.epochs
        phases = self.phase + 1 if ended else self.phase
        self.set(history=[*self.history, now], best=best, weights=weights, phases=phases, saved_parts=self.parts)
        for path in self.folder.glob("*.weights.h5"):
            if path.name not in (*weights, best):
                path.unlink()

    def best_after(self, now: Logs) -> str:
        """The name of the best weights' file after an epoch with these logs; saves the model if that is the best."""
        if self.history and self._goodness(now) <= max(map(self._goodness, self.history)):
            return str(self.values["best"])
        name = f"best{len(self.history):04d}.weights.h5"
        with files.replacing(self.folder / name) as part:
            self.best_of.save_weights(part)
        return name

    def _goodness(self, logs: Logs) -> float:
        """The score, larger being better; one that is not defined is worse than any."""
        value = logs[self.monitor] if self.mode == "max" else -logs[self.monitor]
        return value if value == value else float("-inf")


def _take_over(source: keras.Optimizer, source_parts: int, target: keras.Optimizer, parts: int) -> None:
    """Bring an optimiser to where one is that makes its updates from another number of parts."""
    source, target = keras_private.inner_optimizer(source), keras_private.inner_optimizer(target)
    states = keras_private.update_state(source), keras_private.update_state(target)
    for then, now in zip(*states, strict=True):
        now.assign(then)
    updates = int(keras.ops.convert_to_numpy(keras_private.batch_counter(source))) // source_parts
    keras_private.batch_counter(target).assign(updates * parts)


class Timer(keras.callbacks.Callback):
    """Stop after an epoch of `phase` when the deadline allows no other; `agree` makes it every host's decision."""

    def __init__(self, at: Deadline, agree: Callable[[bool], bool]) -> None:
        super().__init__()
        self.at, self.agree, self.phase, self.started, self.reached = at, agree, 0, 0.0, False

    def begin(self, phase: int) -> bool:
        """Serve this phase; False when there is no time for an epoch of it."""
        self.phase = phase
        self.reached = self.reached or self.agree(not self.at.allows_another(phase))
        return not self.reached

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Stop when there is no time for one more; comes after the state was saved."""
        self.at.took(self.phase, time.monotonic() - self.started)
        if self.agree(not self.at.allows_another(self.phase)):
            self.reached = self.model.stop_training = True

"""What happens between epochs: seeds, validation, one line of progress, and the state from which training resumes."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kit import files
from kit.errors import TrainingError
from kit.models.saved import write_weights
from kit.run import StateFiles
from kit.runtime import keras_private
from kit.runtime.session import Deadline

Logs = dict[str, float]

log = logging.getLogger(__name__)


class EpochSeeds(keras.callbacks.Callback):
    """Sets every seed generator (dropout, augmentation) at the start of an epoch from (seed, epoch).

    So the randomness of an epoch does not depend on whether the run was interrupted before it. `before` is the number
    of epochs in earlier phases.
    """

    def __init__(self, seed: int, before: int = 0) -> None:
        super().__init__()
        self.seed, self.before = seed, before

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        set_seeds(self.model, self.seed, self.before + epoch)


def set_seeds(model: keras.Model, seed: int, epoch: int) -> None:
    """Set every seed generator of a model to its state at the start of an epoch."""
    for n, state in enumerate(keras_private.seed_states(model)):
        words = np.random.SeedSequence([seed, epoch, n]).generate_state(2)
        state.assign((words % 2**31).astype(state.dtype))


@contextmanager
def averaged(training: keras.Model) -> Iterator[None]:
    """In the block the weights are their exponential moving average, where the optimiser keeps one."""
    keras_private.swap_average(training)
    try:
        yield
    finally:
        keras_private.swap_average(training)


class NotFinite(keras.callbacks.Callback):
    """Raises TrainingError at the first step whose loss is infinite or NaN, with the step, the rate and the images.

    Of several steps executed at once it can only name the range. `name_images(epoch, step)` gives the ids of a step's
    images, if they can be known; `before` is the number of epochs in earlier phases.
    """

    def __init__(self, name_images: Callable[[int, int], Sequence[str]], title: str, before: int = 0) -> None:
        super().__init__()
        self.name_images, self.title, self.before = name_images, title, before
        self.epoch, self.first = 0, 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch, self.first = self.before + epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        # the loss is the mean of the epoch so far: once not finite, it stays so
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
    """Adds what `validate()` returns to the epoch's logs; comes first, so that all later callbacks see it."""

    def __init__(self, validate: Callable[[], Logs]) -> None:
        super().__init__()
        self.validate = validate

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert logs is not None
        with averaged(self.model):
            logs.update(self.validate())
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Progress(keras.callbacks.Callback):
    """Logs one line per epoch, with the time left for the fold and the run if every epoch is run.

    `before` and `after` are the fold's epochs in other phases, `folds_after` the folds that are still to come.
    """

    def __init__(self, title: str, epochs: int, before: int, after: int, folds_after: int) -> None:
        super().__init__()
        self.title, self.epochs, self.before, self.after, self.folds_after = title, epochs, before, after, folds_after
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        took = time.monotonic() - self.started
        values = "  ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items())
        total = self.before + self.epochs + self.after
        left = self.epochs - epoch - 1 + self.after
        run = f", {_duration(took * (left + self.folds_after * total))} of the run" if self.folds_after else ""
        log.info(
            f"{self.title}  epoch {self.before + epoch + 1}/{total}  {values}  {took:.0f} s, "
            f"at most {_duration(took * left)} left{run}"
        )


def _duration(seconds: float) -> str:
    """`40 s`, or `3.2 min` from two minutes on."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


class Track(keras.callbacks.Callback):
    """Calls a tracker (`kit.train.trackers`) after every epoch; `before` is the number of epochs in earlier phases."""

    def __init__(self, tracker: Callable[[Logs, int], None], before: int) -> None:
        super().__init__()
        self.tracker, self.before = tracker, before

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.tracker(dict(logs or {}), self.before + epoch)


class State(keras.callbacks.Callback):
    """Saves all that training resumes from: weights, optimiser, history and the best weights so far; comes last.

    `state.json` is replaced last and names the weight files that belong to it, so it is whole at any moment. The state
    of Keras's own callbacks (early stopping, plateau) is not stored but replayed from the history.

    It serves all phases of a fold, one after the other: see `begin`. The weights of the last `keep` epochs are kept.
    """

    def __init__(
        self, folder: Path, best_of: keras.Model, monitor: str, larger_is_better: bool = True, keep: int = 1
    ) -> None:
        super().__init__()
        self.folder, self.best_of, self.monitor, self.keep = folder, best_of, monitor, keep
        self.larger_is_better = larger_is_better
        self.phase, self.epochs, self.replayed = 0, 0, list[keras.callbacks.Callback]()
        self.parts, self.compiled = 1, lambda parts: best_of
        self.started = 0.0
        self.values: dict[str, Any] = StateFiles(folder).read().model_dump()

    @property
    def history(self) -> list[Logs]:
        """The logs of every epoch so far, and how long each took, with its validation."""
        return list(self.values["history"])

    @property
    def best_weights(self) -> Path:
        """The weights of the epoch with the best score."""
        return self._intact(self.values["best"])

    @property
    def kept_weights(self) -> list[Path]:
        """The weights of the last epochs, oldest first."""
        return [self._intact(name) for name in self.values["weights"]]

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
        """Serve a phase of that many epochs; `replayed` are the callbacks to replay the history to.

        Its batches come in `parts`; `compiled(parts)` is the model that is fitted, for any number of them.
        """
        self.phase, self.epochs, self.replayed = phase, epochs, replayed
        self.parts, self.compiled = parts, compiled

    def set(self, **values: Any) -> None:
        """Change what is stored."""
        self.values = {**self.values, **values}
        kept = (*self.values["weights"], self.values["best"])
        self.values["sha256"] = {name: sha for name, sha in self.values["sha256"].items() if name in kept}
        files.write_json(StateFiles(self.folder).state, self.values)

    def _save(self, model: keras.Model, name: str) -> None:
        path = self.folder / name
        write_weights(model, path)
        self.values = {**self.values, "sha256": {**self.values["sha256"], name: files.sha256_of(path)}}

    def _intact(self, name: str) -> Path:
        """The path of a file of weights; raises DataError when it is not as it was saved."""
        path, sha256 = files.inside(self.folder, name), self.values["sha256"].get(name)
        if not path.is_file() or (sha256 and files.sha256_of(path) != sha256):
            raise files.damaged(path, "it is not as training wrote it", StateFiles(self.folder).remedy)
        return path

    def on_train_begin(self, logs: Logs | None = None) -> None:
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
                _copy_optimizer(saved.optimizer, parts, self.model.optimizer, self.parts)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        now: Logs = {"phase": self.phase, **{name: float(value) for name, value in (logs or {}).items()}}
        now["seconds"] = round(time.monotonic() - self.started, 1)
        name = f"epoch{len(self.history):04d}.weights.h5"
        self._save(self.model, name)
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
        """The name of the best weights' file after an epoch with these logs; saves the model if it is the best."""
        if self.history and self._goodness(now) <= max(map(self._goodness, self.history)):
            return str(self.values["best"])
        name = f"best{len(self.history):04d}.weights.h5"
        self._save(self.best_of, name)
        return name

    def _goodness(self, logs: Logs) -> float:
        """The score with its sign turned so that larger is better; an undefined one (NaN) is worse than any."""
        value = logs[self.monitor] if self.larger_is_better else -logs[self.monitor]
        return float("-inf") if math.isnan(value) else value


def _copy_optimizer(source: keras.Optimizer, source_parts: int, target: keras.Optimizer, parts: int) -> None:
    """Give an optimiser the state of another, whose updates are made from a different number of batches."""
    source, target = keras_private.inner_optimizer(source), keras_private.inner_optimizer(target)
    states = keras_private.update_state(source), keras_private.update_state(target)
    for then, now in zip(*states, strict=True):
        now.assign(then)
    updates = int(keras.ops.convert_to_numpy(keras_private.batch_counter(source))) // source_parts
    keras_private.batch_counter(target).assign(updates * parts)


class Timer(keras.callbacks.Callback):
    """Stops training after an epoch when the deadline allows no other; comes after the state is saved.

    `agree` makes stopping the decision of all hosts.
    """

    def __init__(self, at: Deadline, agree: Callable[[bool], bool]) -> None:
        super().__init__()
        self.at, self.agree, self.phase, self.started, self.reached = at, agree, 0, 0.0, False

    def begin(self, phase: int) -> bool:
        """Serve this phase; False when there is no time for an epoch of it."""
        self.phase = phase
        self.reached = self.reached or self.agree(not self.at.allows_another(phase))
        return not self.reached

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.at.took(self.phase, time.monotonic() - self.started)
        if self.agree(not self.at.allows_another(self.phase)):
            self.reached = self.model.stop_training = True

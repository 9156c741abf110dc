"""Run trials: fit, report every epoch, stop early, and keep the history."""

import gc
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files
from kit.errors import KitError, TrainingError
from kit.log import quiet
from kit.run import FoldFiles
from kit.runtime import devices
from kit.stages.fold import Fold
from kit.stages.train import train_fold
from kit.tune.study import Study, varied_settings

log = logging.getLogger(__name__)
_TRACKERS = ("tensorboard", "wandb")  # folders in which trackers keep what they write


class _Pruned(Exception):
    """Raised between two epochs of a trial that is not worth continuing."""


def run_trials(study: Study, after_trial: Callable[[], None]) -> None:
    """Run trials until the study has no more to ask for, or time is up."""
    deadline = study.setup.deadline
    while (deadline is None or time.monotonic() < deadline) and (trial := study.ask()) is not None:
        _run_trial(study, trial)
        after_trial()
        gc.collect()  # the trial's model


def _run_trial(study: Study, trial: Any) -> None:
    """Fit and score one trial, and tell the study how it ended."""
    setup, started = study.setup, time.monotonic()
    folder = setup.folder / "trials" / f"{trial.number:04d}"
    if (retried := trial.user_attrs.get("retries")) is not None:
        _take_over(setup.folder / "trials" / f"{retried:04d}", folder)
    settings = setup.space.suggest(trial)
    trial.set_user_attr("settings", settings)
    try:
        history = _fit(study, trial, settings, folder)
        if history is None:  # out of time
            study.requeue(trial.number)
            return
        study.complete(trial, _best_value(study, history))
    except _Pruned:
        study.prune(trial)
    except KitError as error:
        study.fail(trial, str(error))
    except Exception as error:
        study.fail(trial, f"{type(error).__name__}: {error}")
        raise
    _log_trial(study, trial.number, _keep_history(folder), time.monotonic() - started)


def _fit(study: Study, trial: Any, settings: list[str], folder: Path) -> pd.DataFrame | None:
    """The history of a trial, fitted on all inner folds but the first; None when it ran out of time."""
    setup = study.setup
    config = setup.config_of(settings)
    devices.set_up(config.runtime)
    import keras

    epochs, reported = sum(phase.epochs for phase in config.train.all_phases), 0

    def report(epoch: int, logs: Any) -> None:
        # From the fold's state, which is written before: `epoch` restarts with each phase, and a trial that resumes
        # after a kill has not yet reported the epochs before it.
        nonlocal reported
        for values in FoldFiles(folder).state.history()[reported:]:
            reported += 1  # a pruner's steps are epochs done: the first is 1
            trial.report(values[setup.monitor], reported)
        if reported < epochs and trial.should_prune():
            raise _Pruned

    inner = Fold(config, setup.records, setup.cells, 0, FoldFiles(folder))
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=report)]
    with quiet("kit.stages", "kit.train", "kit.models"):
        finished = train_fold(inner, setup.metric, setup.deadline, callbacks=callbacks)
    return pd.read_csv(inner.files.history) if finished else None


def _best_value(study: Study, history: pd.DataFrame) -> float:
    """The score of the best epoch, whose weights training keeps; raises TrainingError where no epoch has one."""
    values = history[study.setup.monitor]
    best = float(values.max() if study.setup.metric.larger_is_better else values.min())
    if not math.isfinite(best):
        raise TrainingError(
            f"{study.setup.monitor} is not defined: no label has both classes among the validation images"
        )
    return best


def _take_over(abandoned: Path, folder: Path) -> None:
    """Continue in `folder` what a trial that was cut off had trained."""
    if abandoned.is_dir() and not folder.exists():
        abandoned.rename(folder)


def _keep_history(folder: Path) -> int:
    """Delete all files of a trial but its history and those of trackers; returns the number of its epochs."""
    path, history = FoldFiles(folder).history, FoldFiles(folder).state.history()
    if not path.exists() and history:
        with files.replacing(path) as part:
            pd.DataFrame(history).rename_axis("epoch").to_csv(part)
    for other in folder.glob("*"):
        if other.is_dir() and other.name not in _TRACKERS:
            shutil.rmtree(other)
        elif other.is_file() and other != path:
            other.unlink()
    return len(pd.read_csv(path)) if path.exists() else 0


def _log_trial(study: Study, number: int, epochs: int, seconds: float) -> None:
    trial, best = study.all_trials()[number], study.best()
    score = "" if trial.value is None else f"{study.setup.monitor} {trial.value:.4f}"
    outcome = {"COMPLETE": score, "PRUNED": f"stopped at {score}", "FAIL": f"failed: {trial.user_attrs.get('error')}"}
    progress = f"{len(study.finished())} of {study.setup.trials} trials"
    if best is not None:
        progress += f"; best {best.value:.4f}, trial {best.number}"
    took = f"({epochs} epochs, {seconds:.0f} s)"
    log.info(f"trial {number}  {outcome[trial.state.name]}  {took}  {varied_settings(trial)}  [{progress}]")

"""The study of a search: which trials there are, which settings to try next, and what came of them.

Optuna keeps it in `trials.db`, which several processes may share. A trial here is one of Optuna's, unless it was *cut
off*: killed, or out of time. Such a trial does not count; its settings are queued for another one.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.config import Config, dump_config, load_config
from kit.data.records.manifest import Records
from kit.errors import ConfigError, DataError, TrainingError
from kit.evaluate.metrics import Metric
from kit.runtime.session import Deadline
from kit.tune.space import Space

HOPELESS = 5  # if the first so many trials all fail, the next one will too
SEARCH = "search.json"
_NAME = "search"


@dataclass(frozen=True)
class SearchSetup:
    """What all trials of a search share.

    `base` (a competition, or the path of a config) with `settings`, resolved in `config`, is what `space` varies.
    `cells` are the cells of each inner fold (`kit.tune.search.inner_folds`), `held_out` those that no trial sees.
    `trials` is how many are to finish in all, until `deadline` (None: whenever).
    """

    base: str
    settings: tuple[str, ...]
    space: Space
    config: Config
    records: Records
    cells: list[list[int]]
    held_out: list[int]
    folder: Path
    metric: Metric
    trials: int
    deadline: Deadline | None

    @property
    def monitor(self) -> str:
        """The column of the history by which trials are compared."""
        return f"val_{self.metric.name}"

    def config_of(self, settings: Iterable[str]) -> Config:
        """The config of a trial with these settings; raises ConfigError where they do not go together."""
        return load_config(self.base, [*self.settings, *settings]).model_copy(update={"image": self.records.image})

    def write(self) -> None:
        """Write `search.json`; raises DataError when the folder holds another search."""
        path, searched = self.folder / SEARCH, {"seed", "folds", "input", "model", "augment", "train"}
        description = {
            "competition": self.config.competition,
            "records": [self.records.fingerprints.training, self.records.fingerprints.image],
            "held_out": self.held_out,
            "cells": self.cells,
            "settings": self.config.model_dump(include=searched),
            "space": self.space.model_dump(),
        }
        if path.exists() and files.fingerprint(files.read_json(path)) != files.fingerprint(description):
            raise DataError(f"{self.folder} holds a search with other settings, space or records: give another --run")
        files.write_json(path, description)


class Study:
    """The trials of a search so far. The main process, helper 0, opens it first."""

    def __init__(self, setup: SearchSetup, helper: int = 0) -> None:
        self.setup = setup
        optuna = import_optuna()
        self._states = optuna.trial.TrialState
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{(setup.folder / 'trials.db').absolute()}",
            engine_kwargs={"connect_args": {"timeout": 60}},  # seconds to wait for another process that writes
        )
        direction = "maximize" if setup.metric.larger_is_better else "minimize"
        self._study = optuna.create_study(storage=storage, study_name=_NAME, direction=direction, load_if_exists=True)
        self._study.pruner = _pruner(setup, optuna.pruners)
        # A sampler starts with random trials: they must not be those of an earlier session, or of another process.
        seed = np.random.SeedSequence([setup.config.seed, len(self.all_trials()), helper]).generate_state(1)[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar, in Optuna 4
            # constant_liar takes a running trial for a bad one, so that no other process tries nearly the same.
            self._study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)

    def all_trials(self) -> list[Any]:
        """All trials in order, also those that were cut off."""
        return list(self._study.get_trials(deepcopy=False))

    def finished(self) -> list[Any]:
        """The trials that came to an end of their own: with a score, pruned, or failed."""
        return [trial for trial in self.all_trials() if _counts(trial) and trial.state.is_finished()]

    def best(self) -> Any | None:
        """The best of the trials that were completed; None when there is none."""
        completed = any(trial.state == self._states.COMPLETE for trial in self.all_trials())
        return self._study.best_trial if completed else None

    def hopeless(self) -> str | None:
        """The error of the last of the first `HOPELESS` trials if they all failed, otherwise None."""
        first = self.finished()[:HOPELESS]
        if len(first) < HOPELESS or any(trial.state != self._states.FAIL for trial in first):
            return None
        return str(first[-1].user_attrs["error"])

    def ask(self) -> Any | None:
        """The next trial to run; None when enough are finished or running, or none can be expected to succeed."""
        started = [trial for trial in self.all_trials() if _counts(trial) and trial.state != self._states.WAITING]
        if len(started) >= self.setup.trials or self.hopeless():
            return None
        trial = self._study.ask()
        # Another process may have taken the last one at the same time: the first `trials` in order stand.
        order = [other.number for other in self.all_trials() if _counts(other)]
        if order.index(trial.number) < self.setup.trials:
            return trial
        self._study.tell(trial, state=self._states.FAIL)
        return None

    def complete(self, trial: Any, value: float) -> None:
        """The trial ended with this score."""
        self._study.tell(trial, value)

    def prune(self, trial: Any) -> None:
        """The trial was stopped early; its score is the last that it reported."""
        self._study.tell(trial, state=self._states.PRUNED)

    def fail(self, trial: Any, error: str) -> None:
        """The trial ended with this error."""
        trial.set_user_attr("error", error)
        self._study.tell(trial, state=self._states.FAIL)

    def requeue(self, number: int) -> None:
        """Note that the trial was cut off, and queue its settings for another."""
        trials = self.all_trials()
        # Queued first, so that a kill in between loses nothing, but only once.
        if not any(other.user_attrs.get("retries") == number for other in trials):
            self._study.enqueue_trial(trials[number].params, user_attrs={"retries": number})
        self._study.tell(number, state=self._states.FAIL)

    def requeue_abandoned(self) -> int:
        """Requeue all trials that count as running, where none does; returns how many there were."""
        running = [trial.number for trial in self.all_trials() if trial.state == self._states.RUNNING]
        for number in running:
            self.requeue(number)
        return len(running)

    def write_results(self, command: str) -> None:
        """Write `trials.csv`, and `best.yaml` (headed by `command`) once there is a best trial.

        Raises TrainingError when the first trials all failed.
        """
        rows = [
            {
                "trial": trial.number,
                "state": trial.state.name.lower() if _counts(trial) else "cut off",
                self.setup.monitor: trial.value,
                "epochs": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else None,
                **trial.params,
                "error": trial.user_attrs.get("error"),
            }
            for trial in self.all_trials()
        ]
        files.write_text(self.setup.folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
        if error := self.hopeless():
            raise TrainingError(f"the first {HOPELESS} trials all failed, the last one with: {error}")
        if (best := self.best()) is not None:
            text = self._header(best, command) + dump_config(self.setup.config_of(best.user_attrs["settings"]))
            files.write_text(self.setup.folder / "best.yaml", text)

    def _header(self, best: Any, command: str) -> str:
        setup = self.setup
        lines = [
            command,
            "",
            f"The best of {len(self.finished())} trials on training examples "
            f"{setup.records.fingerprints.training[:12]}: {setup.monitor} {best.value:.4f} (trial {best.number}).",
            "This is optimistic: it was chosen for being the best, among the trials and among their",
            "epochs. Trials were fitted on the cells",
            f"  {sorted(cell for held in setup.cells[1:] for cell in held)}",
            f"and scored on {setup.cells[0]},",
            "all of which fold 0 trains on in a run with this seed and these folds. So that run's",
            "out-of-fold score of fold 0 owes nothing to the search; those of its other folds may.",
        ]
        return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def import_optuna() -> Any:
    """The Optuna module; raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("a search needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # kit logs a line of its own for each trial
    return optuna


def varied_settings(trial: Any) -> str:
    """The settings of a trial, without those for which the space has a single value."""
    varied = {key: value for key, value in trial.params.items() if not trial.distributions[key].single()}
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in varied.items())


def _counts(trial: Any) -> bool:
    """Whether the trial is one of those that were ordered: all but those that were cut off."""
    return trial.state.name != "FAIL" or "error" in trial.user_attrs


def _pruner(setup: SearchSetup, pruners: Any) -> Any:
    if setup.space.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if setup.space.pruner == "none":
        return pruners.NopPruner()
    searched = setup.space.space.get("train.epochs")
    epochs = max(searched.extremes) if searched else sum(phase.epochs for phase in setup.config.train.all_phases)
    return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)

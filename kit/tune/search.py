"""Search for settings: trials on part of fold 0's training cells, so that the score of a later run stays honest.

A run of the same seed and folds validates its fold 0 on cells that no trial was fitted, scored or chosen on: a search
deals the other cells into folds once more, fits on all of those but the first, and is scored on the first.

The run directory is the state: `search.json` (what is searched, on which cells), `trials.db` (Optuna's study),
`trials.csv`, `best.yaml`, and of every trial `trials/NNNN/history.csv`.
"""

import gc
import inspect
import math
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files, pipeline
from kit.competitions import find_competition, raw_folder
from kit.config import Config, dump_config, load_config
from kit.data.records.manifest import Records, open_records, plan_fingerprint
from kit.data.table.cells import split_folds
from kit.errors import ConfigError, DataError, KitError, TrainingError, nearest
from kit.runtime import devices
from kit.runtime import session as host
from kit.stages import train as fold
from kit.tune.space import Space, check_space, read_space

HOPELESS = 5  # so many failures, and nothing else, from the first trial on: the next will fail too
_STUDY = "search"


@dataclass(frozen=True)
class Search:
    """What all trials share: `base` (a competition, or the path of a config) with `settings`, the space, the data.

    `cells` are the inner folds (`inner_folds`); `trials` are to be finished in all, until `deadline` (seconds of
    `time.monotonic()`).
    """

    base: str
    settings: tuple[str, ...]
    space: Space
    config: Config
    records: Records
    cells: list[list[int]]
    folder: Path
    metric: str
    direction: fold.Direction
    trials: int
    deadline: host.Deadline | None

    def config_of(self, tried: Iterable[str]) -> Config:
        """The config of a trial, or ConfigError where its settings do not go together."""
        return load_config(self.base, [*self.settings, *tried]).model_copy(update={"image": self.records.image})


def search(
    competition: str,
    space: str,
    trials: int,
    hours: float | None = None,
    run: Path | str | None = None,
    records: Path | str | None = None,
    data: Path | str | None = None,
    workers: int = 1,
    settings: Iterable[str] = (),
) -> bool:
    """Try settings until `trials` are finished in all, in so many processes; False when time ran out before.

    Writes `trials.csv` and `best.yaml` after every trial. Killed at any moment it goes on with the same arguments, and
    a larger number of `trials` adds to them. Raises ConfigError for a space that is wrong, before it looks at data, and
    TrainingError when the first five trials all failed.
    """
    given = list(settings)
    chosen, config = _checked(competition, space, given)
    folder = Path(run) if run else Path("runs", config.competition, "search")
    deadline = host.deadline(hours)  # building records counts too
    built = open_records(Path(records)) if records else _build_records(config, Path(data) if data else None, folder)
    this = _plan(competition, chosen, given, built, folder, trials, deadline)
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder):
        _refuse_other_search(this)
        study = _open_study(this, 0)
        _requeue_abandoned(study)
        call = [competition, "--space", space, "--trials", str(trials), "--run", str(folder)]
        call += [part for override in given for part in ("--set", override)]
        source = ["--records", str(records)] if records else ["--data", str(data)] if data else []
        limits = ["--hours", str(hours)] if hours is not None else []
        limits += ["--workers", str(workers)] if workers > 1 else []
        command = shlex.join(["kit", "search", *call, *source, *limits])
        helpers = _Helpers([*call, "--records", str(built.directory)], workers - 1, this.deadline)
        try:
            _work(this, study, lambda: _write_results(this, study, command))
            helpers.wait()
        finally:
            helpers.stop()
        if _requeue_abandoned(study):  # a helper died
            _work(this, study, lambda: _write_results(this, study, command))
        _write_results(this, study, command)
        _say_best(this, study, ["train" if records else "run", *source])
        return _ended(study) >= trials


def help_search(
    competition: str,
    space: str,
    trials: int,
    hours: float | None,
    run: Path,
    records: Path,
    settings: Iterable[str],
    helper: int,
) -> None:
    """What a helping process does: trials of a study that another process began, and holds. Ends with its parent."""
    _end_with_parent()
    given = list(settings)
    chosen, _ = _checked(competition, space, given)
    this = _plan(competition, chosen, given, open_records(records), run, trials, host.deadline(hours))
    _work(this, _open_study(this, helper), lambda: None)


def inner_folds(cells: int, folds: int, seed: int) -> list[list[int]]:
    """The cells that fold 0 of a run trains on, dealt into folds once more: as many as the run's, or nearly.

    Raises ConfigError where only one cell is left to deal.
    """
    rest = sorted(cell for held in split_folds(cells, folds, seed)[1:] for cell in held)
    usable = [k for k in range(2, len(rest) + 1) if len(rest) % k == 0]
    if not usable:
        raise ConfigError(
            f"a search splits the training cells of fold 0, but there is {len(rest)}: set folds=3 or more"
        )
    count = min(usable, key=lambda k: (abs(k - folds), -k))
    return [[rest[n] for n in held] for held in split_folds(len(rest), count, seed)]


def _checked(competition: str, name: str, settings: list[str]) -> tuple[Space, Config]:
    """The space and what it starts from, checked as far as that goes without data."""
    _import_optuna()
    space = read_space(name)
    check_space(space, name, competition, settings)
    config = load_config(competition, [*space.settings, *settings])
    _check_arguments(space, name, config)
    return space, config


def _check_arguments(space: Space, name: str, config: Config) -> None:
    """Raise ConfigError for a `model.arguments.*` that none of the models has; some do not say what they take."""
    searched = [key.split(".")[2] for key in space.space if key.startswith("model.arguments.")]
    if not searched:
        return
    devices.set_up(config.runtime)
    from kit.models import registry

    names = space.space["model.name"].extremes if "model.name" in space.space else [config.model.name]
    known: set[str] = set()
    for model in names:
        parameters = inspect.signature(registry.model_card(model).builder).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return
        known |= {parameter.name for parameter in parameters} - {"shape", "outputs", "activation"}
    for argument in searched:
        if argument not in known:
            raise ConfigError(
                f"{name}: model.arguments.{argument} is no argument of {' or '.join(names)}{nearest(argument, known)}"
            )


def _build_records(config: Config, data: Path | None, folder: Path) -> Records:
    """Records of raw files, where `kit run` would look for them too."""
    known = find_competition(config.competition, config)
    data = raw_folder(known, data, folder.parent / "data")
    table = pipeline.examples(config, data)
    shared = folder.parent / "records" / plan_fingerprint(known.name, table, config.image, config.data)[:12]
    return pipeline.build_records(config, table, data, shared)


def _plan(
    base: str,
    space: Space,
    settings: list[str],
    records: Records,
    folder: Path,
    trials: int,
    deadline: host.Deadline | None,
) -> Search:
    chosen = (*space.settings, *settings)
    config = load_config(base, chosen)
    if records.competition != config.competition:
        raise DataError(f"{records.directory} holds records of {records.competition!r}, not of {config.competition!r}")
    known = find_competition(config.competition, config)
    cells = inner_folds(records.cells, config.folds, config.split_seed)
    return Search(base, chosen, space, config, records, cells, folder, known.metric, known.direction, trials, deadline)


def _refuse_other_search(this: Search) -> None:
    """Write down what is searched; raise DataError when the folder holds a search for something else."""
    path, shared = this.folder / "search.json", {"seed", "folds", "input", "model", "augment", "train"}
    held_out = split_folds(this.records.cells, this.config.folds, this.config.split_seed)[0]
    what = {
        "competition": this.config.competition,
        "records": this.records.fingerprint,
        "held_out": held_out,
        "cells": this.cells,
        "settings": this.config.model_dump(include=shared),
        "space": this.space.model_dump(),
    }
    if path.exists() and files.fingerprint(files.read_json(path)) != files.fingerprint(what):
        raise DataError(f"{this.folder} holds a search with other settings, space or records: give another --run")
    files.write_json(path, what)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("a search needs Optuna: pip install 'kit[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the kit has a line of its own for each trial
    return optuna


def _open_study(this: Search, helper: int) -> Any:
    """The study in `trials.db`; made by the main process, helper 0."""
    optuna = _import_optuna()
    url = f"sqlite:///{(this.folder / 'trials.db').absolute()}"
    patient = {"connect_args": {"timeout": 60}}  # seconds, where several processes write
    storage = optuna.storages.RDBStorage(url, engine_kwargs=patient)
    direction = "maximize" if this.direction == "max" else "minimize"
    study = optuna.create_study(storage=storage, study_name=_STUDY, direction=direction, load_if_exists=True)
    # A sampler starts with random trials: not with those that it, or a neighbour, has drawn already.
    seed = np.random.SeedSequence([this.config.seed, len(study.get_trials()), helper]).generate_state(1)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # constant_liar, in Optuna 4
        # The liar takes a running trial for a bad one, so that no neighbour tries nearly the same.
        study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)
    study.pruner = _pruner(this, optuna.pruners)
    return study


def _pruner(this: Search, pruners: Any) -> Any:
    if this.space.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if this.space.pruner == "none":
        return pruners.NopPruner()
    searched = this.space.space.get("train.epochs")
    epochs = max(searched.extremes) if searched else sum(phase.epochs for phase in this.config.train.all_phases)
    return pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)


def _counts(trial: Any) -> bool:
    """Whether a trial is one of the N; one that was cut off is not: its settings are tried again by another."""
    return not (trial.state.name == "FAIL" and "error" not in trial.user_attrs)


def _ended(study: Any) -> int:
    return sum(_counts(trial) and trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _hopeless(study: Any) -> str | None:
    """Why the first trials all failed, if they did."""
    ended = [t for t in study.get_trials(deepcopy=False) if _counts(t) and t.state.is_finished()][:HOPELESS]
    failed = len(ended) == HOPELESS and all(trial.state.name == "FAIL" for trial in ended)
    return str(ended[-1].user_attrs["error"]) if failed else None


def _requeue_abandoned(study: Any) -> int:
    """Queue what runs in no process any more once again; how many these were."""
    running = [trial for trial in study.get_trials() if trial.state.name == "RUNNING"]
    for trial in running:
        _requeue(study, trial)
    return len(running)


def _requeue(study: Any, trial: Any) -> None:
    # Queued first, so that a kill in between loses nothing; and looked for, so that it queues nothing twice.
    if not any(other.user_attrs.get("retries") == trial.number for other in study.get_trials(deepcopy=False)):
        study.enqueue_trial(trial.params, user_attrs={"retries": trial.number})
    study.tell(trial.number, state=_import_optuna().trial.TrialState.FAIL)


def _work(this: Search, study: Any, after_trial: Callable[[], None]) -> None:
    """Run trials until enough have ended or run elsewhere, time is up, or none can be hoped to do better."""
    optuna = _import_optuna()
    while this.deadline is None or time.monotonic() < this.deadline:
        taken = [t for t in study.get_trials(deepcopy=False) if _counts(t) and t.state.name != "WAITING"]
        if len(taken) >= this.trials or _hopeless(study):
            return
        trial = study.ask()
        # Two processes may both have taken the last one: the first N in order stand.
        order = [t.number for t in study.get_trials(deepcopy=False) if _counts(t)]
        if order.index(trial.number) >= this.trials:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        _run_trial(this, study, trial)
        after_trial()
        gc.collect()  # the last trial's model


def _run_trial(this: Search, study: Any, trial: Any) -> None:
    """Fit and score one trial, and tell the study how it ended."""
    optuna = _import_optuna()
    failed, pruned = optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED
    folder, started = this.folder / "trials" / f"{trial.number:04d}", time.monotonic()
    _adopt(this.folder / "trials", trial.user_attrs.get("retries"), folder)
    tried = this.space.suggest(trial)
    trial.set_user_attr("settings", tried)
    try:
        history = _fit(this, trial, tried, folder)
        if history is None:  # out of time; it goes on another day
            _requeue(study, study.get_trials()[trial.number])
            return
        study.tell(trial, _best_value(history[f"val_{this.metric}"], this))
    except optuna.TrialPruned:
        study.tell(trial, state=pruned)
    except Exception as error:
        known = isinstance(error, KitError)
        trial.set_user_attr("error", str(error) if known else f"{type(error).__name__}: {error}")
        study.tell(trial, state=failed)
        if not known:
            raise
    epochs = _keep_history(folder)
    _say_trial(this, study, trial.number, epochs, time.monotonic() - started)


def _fit(this: Search, trial: Any, tried: list[str], folder: Path) -> pd.DataFrame | None:
    """The history of a trial, fitted on all inner folds but the first; None when it ran out of time."""
    optuna = _import_optuna()
    config = this.config_of(tried)
    devices.set_up(config.runtime)
    import keras

    epochs, reported = sum(phase.epochs for phase in config.train.all_phases), 0

    def report(epoch: int, logs: Any) -> None:
        # All epochs of the fold from its state, which is written before: `epoch` starts anew with each phase, and a
        # trial that goes on after a kill has not told this study of what was before it.
        nonlocal reported
        history = files.read_json(folder / "state" / "state.json")["history"]
        for logs in history[reported:]:
            reported += 1  # before: a pruner's steps are epochs done, and its first look is after the first
            trial.report(logs[f"val_{this.metric}"], reported)
        if reported < epochs and trial.should_prune():
            raise optuna.TrialPruned

    inner = fold.Fold(config, this.records, this.cells, 0, folder)
    told = [keras.callbacks.LambdaCallback(on_epoch_end=report)]
    finished = fold.train(inner, this.metric, this.direction, this.deadline, lambda line: None, callbacks=told)
    return pd.read_csv(folder / "history.csv") if finished else None


def _best_value(values: pd.Series, this: Search) -> float:
    """The best epoch's; its weights are what training keeps."""
    best = float(values.max() if this.direction == "max" else values.min())
    if not math.isfinite(best):
        raise TrainingError(f"val_{this.metric} is not defined: no label has both classes among the validation images")
    return best


def _adopt(trials: Path, retries: int | None, folder: Path) -> None:
    """Take over what the trial that was cut off had trained, if there is anything of it."""
    if retries is not None and (before := trials / f"{retries:04d}").is_dir() and not folder.exists():
        before.rename(folder)


def _keep_history(folder: Path) -> int:
    """Delete all of a trial but its history and what trackers wrote; how many epochs that has."""
    path, state = folder / "history.csv", folder / "state" / "state.json"
    if not path.exists() and state.exists() and (history := files.read_json(state)["history"]):
        with files.replacing(path) as part:
            pd.DataFrame(history).rename_axis("epoch").to_csv(part)
    for other in folder.glob("*"):
        if other.name in ("tensorboard", "wandb"):
            continue
        if other.is_dir():
            shutil.rmtree(other)
        elif other != path:
            other.unlink()
    return len(pd.read_csv(path)) if path.exists() else 0


def _best(study: Any) -> Any:
    """The best of the trials that came to their end; None when none did."""
    return study.best_trial if any(t.state.name == "COMPLETE" for t in study.get_trials(deepcopy=False)) else None


def _say_trial(this: Search, study: Any, number: int, epochs: int, seconds: float) -> None:
    trial, best = study.get_trials(deepcopy=False)[number], _best(study)
    value = f"val_{this.metric} {trial.value:.4f}" if trial.value is not None else ""
    ended = {"COMPLETE": value, "PRUNED": f"stopped at {value}", "FAIL": f"failed: {trial.user_attrs.get('error')}"}
    so_far = f"; best {best.value:.4f}, of trial {best.number}" if best else ""
    line = f"trial {number}  {ended[trial.state.name]}  ({epochs} epochs, {seconds:.0f} s)  {_tried(trial)}"
    pipeline.say(f"{line}  [{_ended(study)} of {this.trials} trials{so_far}]")


def _tried(trial: Any) -> str:
    """What a trial tried, less what every trial does."""
    varied = {k: v for k, v in trial.params.items() if not trial.distributions[k].single()}
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in varied.items())


def _write_results(this: Search, study: Any, command: str) -> None:
    """`trials.csv`, and `best.yaml` once there is a best one; TrainingError when the first trials all failed."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower() if _counts(trial) else "cut off",
            f"val_{this.metric}": trial.value,
            "epochs": len(trial.intermediate_values),
            "seconds": trial.duration.total_seconds() if trial.duration else None,
            **trial.params,
            "error": trial.user_attrs.get("error"),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    files.write_text(this.folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    if reason := _hopeless(study):
        raise TrainingError(f"the first {HOPELESS} trials all failed, the last one with: {reason}")
    if best := _best(study):
        config = this.config_of(best.user_attrs["settings"])
        files.write_text(this.folder / "best.yaml", _header(this, study, best, command) + dump_config(config))


def _header(this: Search, study: Any, best: Any, command: str) -> str:
    lines = [
        command,
        "",
        f"The best of {_ended(study)} trials on records {this.records.fingerprint[:12]}: val_{this.metric} "
        f"{best.value:.4f} (trial {best.number}). That is optimistic: it was chosen",
        "for being the best, of the trials and of their epochs. Trials were fitted on the cells",
        f"  {sorted(cell for held in this.cells[1:] for cell in held)}",
        f"and scored on {this.cells[0]},",
        "all of them training cells of fold 0 in a run with this seed and these folds. So that",
        "run's out-of-fold score of fold 0 owes nothing to the search; those of its other folds may.",
    ]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _say_best(this: Search, study: Any, call: Sequence[str]) -> None:
    best = _best(study)
    if best is None:
        failed = [trial.user_attrs["error"] for trial in study.get_trials() if "error" in trial.user_attrs]
        if _ended(study) >= this.trials:
            raise TrainingError(f"no trial came to a score; the last one failed with: {(failed or ['none ended'])[-1]}")
        return
    config = this.folder / "best.yaml"
    run = ["kit", call[0], str(config), *call[1:], "--run", str(this.folder.parent / "best")]
    value = f"val_{this.metric} {best.value:.4f} (optimistic: chosen for being the best)"
    pipeline.say(f"best of {_ended(study)} trials: {value}  {_tried(best)}")
    pipeline.say(f"to train it on every fold: {shlex.join(run)}")


class _Helpers:
    """Other processes on the same study; they end when this one does, however it ends."""

    def __init__(self, call: Sequence[str], count: int, deadline: float | None) -> None:
        hours = [] if deadline is None else ["--hours", str(max(0.0, deadline - time.monotonic()) / 3600)]
        command = [sys.executable, "-m", "kit", "search", *call, *hours, "--helper"]
        # Nothing is written to their standard input, but its end tells them that this process is no more.
        self.processes = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE) for n in range(1, count + 1)]

    def wait(self) -> None:
        """Until they have ended by themselves."""
        for process in self.processes:
            if code := process.wait():
                pipeline.say(f"a helping process ended with exit code {code}; its trial is run again here")

    def stop(self) -> None:
        """End them now."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()


def _end_with_parent() -> None:
    def watch() -> None:
        os.read(0, 1)  # returns when the parent has closed it, or was killed
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()

"""Search for settings: trials on part of fold 0's training cells, so that the score of a later run stays honest.

A run with the same seed and folds validates its fold 0 on cells that no trial was fitted, scored or chosen on: a search
deals the other cells into folds again, fits on all of these but the first, and is scored on the first.

The run directory is the state: `search.json` (what is searched, on which cells), `trials.db` (Optuna's study),
`trials.csv`, `best.yaml`, and of every trial `trials/NNNN/history.csv`.
"""

import inspect
import logging
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from kit import files
from kit.competitions import find_competition
from kit.config import Config, load_config
from kit.config.load import override
from kit.config.model import AUTO
from kit.data.records.manifest import Records, open_records
from kit.data.table.cells import CELLS, split_folds
from kit.errors import ConfigError, TrainingError, nearest
from kit.evaluate.metrics import Metric, metric_of, monitor_of
from kit.runtime import devices, session
from kit.stages.check import check_settings
from kit.stages.examples import list_examples, raw_folder
from kit.stages.network import provisional, with_network
from kit.stages.records import build_records, records_folder
from kit.tasks import find_task
from kit.tune.processes import end_with_parent, helpers, wait_for
from kit.tune.space import Space, check_space, read_space
from kit.tune.study import SEARCH, SearchSetup, Study, import_optuna, varied_settings
from kit.tune.trials import run_trials

log = logging.getLogger(__name__)


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
    """Try settings until `trials` are finished in all, in `workers` processes; False when time ran out before.

    Writes `trials.csv` and `best.yaml` after every trial. Killed at any moment it resumes with the same arguments; a
    larger number of `trials` adds to those there are. Raises ConfigError for an invalid space, before it looks at any
    data, and TrainingError when the first five trials all fail.
    """
    settings = list(settings)
    checked, config = _checked(competition, space, settings)
    folder = Path(run) if run else Path("runs", config.competition_name, "search")
    settings += _network(config, checked, folder)
    deadline = session.deadline(hours)  # building records counts too
    opened = open_records(Path(records)) if records else _build_records(config, Path(data) if data else None, folder)
    setup = _set_up(competition, checked, settings, opened, folder, trials, deadline)

    arguments = [competition, "--space", space, "--trials", str(trials), "--run", str(folder)]
    arguments += [part for text in settings for part in ("--set", text)]
    source = ["--records", str(records)] if records else ["--data", str(data)] if data else []
    limits = ["--hours", str(hours)] if hours is not None else []
    limits += ["--workers", str(workers)] if workers > 1 else []
    command = shlex.join(["kit", "search", *arguments, *source, *limits])

    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder):
        setup.write()
        study = Study(setup)
        study.requeue_abandoned()
        with helpers([*arguments, "--records", str(opened.directory)], workers - 1, deadline) as processes:
            run_trials(study, lambda: study.write_results(command))
            wait_for(processes)
        if study.requeue_abandoned():  # a helper died
            run_trials(study, lambda: study.write_results(command))
        study.write_results(command)
        _log_best(study, ["train" if records else "run", *source])
        return len(study.finished()) >= trials


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
    """Run trials of a study that another process has opened, and end with it: what a helper process does."""
    end_with_parent()
    settings = list(settings)
    checked, _ = _checked(competition, space, settings)
    deadline = session.deadline(hours)
    setup = _set_up(competition, checked, settings, open_records(records), run, trials, deadline)
    run_trials(Study(setup, helper), lambda: None)


def inner_folds(cells: int, folds: int, seed: int) -> list[list[int]]:
    """The cells that fold 0 of a run trains on, dealt into folds again: as many as the run's, or nearly.

    Raises ConfigError where only one cell is left to deal.
    """
    rest = sorted(cell for held in split_folds(cells, folds, seed)[1:] for cell in held)
    counts = [k for k in range(2, len(rest) + 1) if len(rest) % k == 0 or cells < CELLS]
    if not counts:
        raise ConfigError(
            f"a search splits the training cells of fold 0, but there is {len(rest)}: set folds=3 or more"
        )
    count = min(counts, key=lambda k: (abs(k - folds), -k))
    return [[rest[n] for n in held] for held in split_folds(len(rest), count, seed)]


def _checked(competition: str, name: str, settings: list[str]) -> tuple[Space, Config]:
    """The space, and the config it starts from, checked as far as that is possible without data."""
    import_optuna()
    space = read_space(name)
    check_space(space, name, competition, settings)
    config = load_config(competition, [*space.settings, *settings])
    check_settings(config)
    _check_arguments(space, name, provisional(config))
    return space, config


def _network(config: Config, space: Space, folder: Path) -> list[str]:
    """The settings that name the network of a search from `auto`: that of the search in the folder, else a new choice.

    Empty where the config names one, and where the space does.
    """
    if config.model.name != AUTO or "model.name" in space.space:
        return []
    path = folder / SEARCH
    model = files.read_json(path)["settings"]["model"] if path.exists() else with_network(config).model.model_dump()
    return [override(f"model.{key}", value) for key, value in model.items() if f"model.{key}" not in space.space]


def _check_arguments(space: Space, name: str, config: Config) -> None:
    """Raise ConfigError for a `model.arguments.*` that none of the searched models takes."""
    searched = [key.split(".")[2] for key in space.space if key.startswith("model.arguments.")]
    if not searched:
        return
    devices.set_up(config.runtime)
    from kit.models import registry

    models = space.space["model.name"].extremes if "model.name" in space.space else [config.model.name]
    accepted: set[str] = set()
    for model in models:
        parameters = inspect.signature(registry.model_card(model).builder).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return  # its signature does not say what it takes
        accepted |= {parameter.name for parameter in parameters} - {"shape", "outputs", "activation"}
    for argument in searched:
        if argument not in accepted:
            raise ConfigError(
                f"{name}: model.arguments.{argument} is not an argument of {' or '.join(models)}"
                f"{nearest(argument, accepted)}"
            )


def _build_records(config: Config, data: Path | None, folder: Path) -> Records:
    """Records of raw files, where `kit run` would look for them too."""
    data = raw_folder(find_competition(config.competition, config), data, folder.parent / "data")
    examples = list_examples(config, data)
    return build_records(config, examples, data, records_folder(config, examples, folder))


def _set_up(
    base: str,
    space: Space,
    settings: list[str],
    records: Records,
    folder: Path,
    trials: int,
    deadline: session.Deadline | None,
) -> SearchSetup:
    shared = (*space.settings, *settings)
    config = load_config(base, shared)
    records.require_competition(config.competition_name)
    return SearchSetup(
        base=base,
        settings=shared,
        space=space,
        config=config,
        records=records,
        cells=inner_folds(records.cells, config.folds, config.split_seed),
        held_out=split_folds(records.cells, config.folds, config.split_seed)[0],
        folder=folder,
        metric=monitor_of(_metric(config, records)),
        trials=trials,
        deadline=deadline,
    )


def _metric(config: Config, records: Records) -> Metric:
    target, exclusive = find_competition(config.competition, config).target, find_task(records.task).exclusive
    return metric_of(target, config.evaluate, records.labels, exclusive)


def _log_best(study: Study, arguments: Sequence[str]) -> None:
    """Log the best trial and the command that trains it; raises TrainingError when all trials ended without a score."""
    setup, best, finished = study.setup, study.best(), len(study.finished())
    if best is None:
        if finished < setup.trials:
            return
        errors = [trial.user_attrs["error"] for trial in study.finished() if "error" in trial.user_attrs]
        reason = f"the last one that failed says: {errors[-1]}" if errors else "all were stopped early"
        raise TrainingError(f"no trial was scored; {reason}")
    stage, *source = arguments
    command = ["kit", stage, str(setup.folder / "best.yaml"), *source, "--run", str(setup.folder.parent / "best")]
    score = f"{setup.monitor} {best.value:.4f} (optimistic: chosen for being the best)"
    log.info(f"best of {finished} trials: {score}  {varied_settings(best)}")
    log.info(f"to train it on every fold: {shlex.join(command)}")

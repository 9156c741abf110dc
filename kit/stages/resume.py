"""A run that is continued: its own settings come first, and nothing that it has trained is trained again unawares."""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from kit import extensions, files
from kit.config import Config, load_config
from kit.config.load import yaml_line
from kit.config.model import AUTO
from kit.errors import ConfigError, DataError, counted
from kit.models.trust import TRUST, source_outside
from kit.run import Run
from kit.stages.fold import Fold, code_settings, settings_of_training
from kit.stages.network import with_network

_SPLIT = {"folds", "fold_seed", "fold_by", "image"}  # settings that a model depends on, beside those of its training
_OWN_WEIGHTS = (None, "none", "imagenet")
# Settings that a stamp names as the config does.
_IN_STAMP = {"seed", "input", "precision", "model", "augment", "train", "competition", "metric"}


def config_of(run: Run, recipe: str, settings: Iterable[str], trust: bool = False) -> Config:
    """The config `recipe` with `settings`; of a run that exists, its own config with what these change.

    Instead of `auto` it has a network: the run's, or what suits this machine (kit.stages.network).
    One of kit's own recipes changes nothing in a run that was started from it, the values in a file replace the run's.
    Raises ConfigError for a recipe other than the run's, for settings of the run that name something outside it (unless
    `recipe` and `settings` name it too, or `trust` allows it), and what `refuse_other_run` does.
    """
    settings = list(settings)
    if trust:
        run.trust_code()
    config = load_config(recipe, settings)
    if not run.exists():
        return with_network(config)
    refuse_other_run(config, run)
    own = run.config
    if own.recipe and _name(own.recipe) != _name(recipe):
        raise ConfigError(
            f"{run} was started from {own.recipe}, not from {recipe}: give another --run, or continue it with "
            f"{own.recipe}"
        )
    merged = with_network(load_config(recipe, settings, own), run)
    outside = _outside(merged)
    is_chosen = config.model.name == AUTO and source_outside(merged.model.name, merged.model.arguments)
    named = _outside(with_network(config) if is_chosen and config.model.weights is None else config)
    for key, value in outside.items():
        if not trust and named.get(key) != value:
            raise ConfigError(
                f"{run.config_path} names something outside the run, {key} = {_short(value)}: repeat it with --set, or "
                f"{TRUST}"
            )
    return merged


def _outside(config: Config) -> dict[str, Any]:
    """The settings that have training read or fetch something beside its records, or send something."""
    weights, steps = config.model.weights, [step for step in config.image.steps if step.name == "super_resolution"]
    model = source_outside(config.model.name, config.model.arguments)
    values = {
        "model.name": model if model == config.model.name else None,
        "model.arguments.backbone": model if model != config.model.name else None,
        "model.weights": None if weights in _OWN_WEIGHTS else weights,
        "pseudo.run": config.pseudo.run,
        "train.relabel.run": config.train.relabel.run,
        "data.exclude": config.data.exclude,
        "image.steps": [step.model for step in steps],
        "runtime.trackers": [name for name in config.runtime.trackers if name != "tensorboard"],
    }
    return {key: value for key, value in values.items() if value}


def _name(recipe: str) -> str:
    return PurePath(recipe).name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".py")


def refuse_other_run(config: Config, run: Run) -> None:
    """Raise DataError for a directory with an ensemble, or a run of another competition or another version of kit."""
    if not run.exists():
        return
    if run.is_ensemble:
        raise DataError(f"{run} is an ensemble, which a run would overwrite: give another --run")
    if run.config.competition_name != config.competition_name:
        raise DataError(
            f"{run} is a run of {run.config.competition_name!r}, not of {config.competition_name!r}: give another --run"
        )
    if run.folds_path.exists():  # a run that was killed at its very start has none
        _ = run.folds  # raises for another version


def refuse_other_settings(config: Config, run: Run) -> None:
    """Raise ConfigError when these settings would train folds again that the run has trained, or begun to.

    This is known before any image is read; `refuse_to_lose` knows the data, too.
    """
    if run.exists() and (lost := run.begun_folds()) and (changes := _changes(_settings(run.config), _settings(config))):
        raise ConfigError(_refusal(run, len(lost), f"these differ: {'; '.join(changes)}"))


def refuse_to_lose(config: Config, folds: Sequence[Fold], run: Run) -> None:
    """Raise ConfigError, saying what differs, when a fold that is trained, or begun, would be trained again."""
    lost = lost_folds(folds, run)
    if not lost:
        return
    changes = _changes(_settings(run.config), _settings(config)) if run.exists() else []
    if not changes and lost[0] < len(folds):  # the run's config is not what that fold was trained with
        changes = _changes_of_inputs(folds[lost[0]])
    why = f"these differ: {'; '.join(changes)}" if changes else "they were trained on something else"
    raise ConfigError(_refusal(run, len(lost), why))


def _changes_of_inputs(fold: Fold) -> list[str]:
    """What the fold was trained on and would be trained on now, where these differ, as its stamp tells."""
    trained, now = fold.files.trained, fold.inputs
    then = trained.settings if trained else {}
    changes = _changes({key: then[key] for key in _IN_STAMP & then.keys()}, now)
    if then.get("training", now["training"]) != now["training"]:
        changes.append("the training examples (files, labels or groups)")
    changes += [f"the {key} settings" for key in ("image", "folds") if _plain(then.get(key)) != _plain(now[key])]
    if then.get("metadata") != now.get("metadata"):
        changes.append("the values of model.arguments.metadata")
    if then.get("relabel") != _plain(now.get("relabel")):
        changes.append("the labels that train.relabel gives")
    if then.get("pseudo") != _plain(now.get("pseudo")):
        changes.append("the pseudo-labels")
    return changes if then else []


def lost_folds(folds: Sequence[Fold], run: Run) -> list[int]:
    """The folds that are trained, or at least for an epoch, on other inputs than those of `folds`.

    Raises DataError for one that is damaged.
    """
    return [k for k in run.begun_folds() if k >= len(folds) or _is_of_other_inputs(folds[k])]


def _is_of_other_inputs(fold: Fold) -> bool:
    expected, state = files.fingerprint(fold.inputs), fold.files.state
    trained = fold.files.trained
    if trained and trained.inputs != expected:
        return True
    begun = bool(state.history()) and files.read_json(state.inputs, state.remedy) != expected
    return begun and not trained


def _refusal(run: Run, count: int, why: str) -> str:
    return (
        f"{run} has {counted(count, 'fold')} that would be trained again, as {why}. To keep what is trained, "
        "leave these as they were (drop the --set) or give another --run; --retrain trains it again"
    )


def _settings(config: Config) -> dict[str, Any]:
    """The settings that decide what a fold is trained on and how."""
    values = config.model_dump(include=_SPLIT | settings_of_training(config))
    if "train" in values:
        relabel = config.train.relabel
        values["train"]["relabel"] = {"weight": relabel.weight if relabel.run else None}
    return {
        **values,
        "competition": code_settings(config).get("competition"),
        "metric": code_settings(config).get("metric"),
        "fold_seed": config.split_seed,
        **(config.model_dump(include={"metric", "metric_options"}) if "train" in values else {}),
        **({"input": config.input.model_dump(exclude={"cache"})} if "train" in values else {}),
        "runtime": {"precision": config.runtime.precision},
        "pseudo": config.pseudo.model_dump(exclude={"run"}) if config.pseudo.run else {"run": None},
    }


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """`key: before → after` of each setting that differs, in sections that both have."""
    old, new, shared = _flat(before), _flat(after), before.keys() & after.keys()
    changed = [key for key in {**old, **new} if key.partition(".")[0] in shared and old.get(key) != new.get(key)]
    pairs = {key: (old.get(key), new.get(key)) for key in changed}
    texts = [extensions.edited(*pair) or f"{key}: {_short(pair[0])} → {_short(pair[1])}" for key, pair in pairs.items()]
    lines = list(dict.fromkeys(texts))  # one file may have several names
    return lines[:6] + ([f"and {len(lines) - 6} more"] if len(lines) > 6 else [])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: _plain(value)}
    return flat


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = yaml_line(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

"""The space of a search: a YAML file that says which settings are tried, and which values of each."""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kit.config import load_config
from kit.errors import ConfigError, nearest

SEARCHED = ("model", "train", "augment", "input")  # all else decides what the data is, or does not change the model
_SPACES = resources.files("kit.configs") / "search"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Strict):
    """The values of one setting: one of `choices`, or a number from `low` to `high` (whole if all of them are).

    `log`: evenly on a logarithmic scale; `step`: low, low + step, ... only. `repeat`: a list of so many values, each
    chosen by itself.
    """

    choices: tuple[Any, ...] | None = Field(None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, gt=0)
    log: bool = False
    repeat: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        if not isinstance(given, list | dict):
            raise ValueError("write a list of choices, or {low, high} with log or step, or {repeat: K, ...} of these")
        return {"choices": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _complete(self) -> "Parameter":
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None:
            if self.step is not None or self.log:
                raise ValueError("step and log go with low and high, not with choices")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("low and high are two numbers, low the smaller one")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low > 0, and no step")
        if self.step is not None and abs((steps := (self.high - self.low) / self.step) - round(steps)) > 1e-9:
            raise ValueError("high is not reached from low in whole steps")
        return self

    @property
    def extremes(self) -> list[Any]:
        """Values that must all be good for the setting: every choice, or both ends."""
        values = [self.low, self.high] if self.choices is None else list(self.choices)
        return values if self.repeat is None else [[value] * self.repeat for value in values]

    def suggest(self, name: str, trial: Any) -> Any:
        """A value of setting `name`, as an Optuna trial (or what has its `suggest_` functions) chooses."""
        if self.repeat is None:
            return self._one(name, trial)
        return [self._one(f"{name}.{n}", trial) for n in range(self.repeat)]

    def _one(self, name: str, trial: Any) -> Any:
        if self.choices is not None:  # Optuna keeps nothing but numbers, texts and the like: others go by their text
            kept = [c if isinstance(c, str | int | float | None) else _text(c) for c in self.choices]
            return self.choices[kept.index(trial.suggest_categorical(name, kept))]
        if all(isinstance(n, int) for n in (self.low, self.high, self.step or 1)):
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


class Space(_Strict):
    """A space file: how trials that do badly are stopped, the epochs of a trial, and the parameters by setting."""

    pruner: Literal["hyperband", "asha", "none"] = "none"
    epochs: int | None = Field(None, ge=1)  # train.epochs of every trial; null: as the config says, or the space
    space: dict[str, Parameter] = Field(min_length=1)

    @property
    def settings(self) -> list[str]:
        """What is the same in every trial; before other settings, which may change it."""
        return [setting("train.epochs", self.epochs)] if self.epochs else []

    def suggest(self, trial: Any) -> list[str]:
        """What a trial tries, as `a.b=value` settings that `load_config` takes, in the order of the file."""
        return [setting(key, parameter.suggest(key, trial)) for key, parameter in self.space.items()]


def setting(key: str, value: Any) -> str:
    """`key=value`, the value as YAML."""
    return f"{key}={_text(value)}"


def space_names() -> list[str]:
    """Names of the spaces that come with the kit."""
    return sorted(f.name[:-5] for f in _SPACES.iterdir() if f.name.endswith(".yaml"))


def read_space(name: str) -> Space:
    """The space of that name (one of `space_names()`), or in that YAML file; ConfigError says what is wrong in it."""
    if not name.endswith((".yaml", ".yml")) and name not in space_names():
        raise ConfigError(f"unknown space {name!r}{nearest(name, space_names())} (or give the path of a YAML file)")
    place = Path(name) if name.endswith((".yaml", ".yml")) else _SPACES / f"{name}.yaml"
    try:
        given = yaml.safe_load(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the space {name}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{name} must hold `key: value` lines: {', '.join(Space.model_fields)}")
    try:
        return Space.model_validate(_with_numbers(given))
    except ValidationError as error:
        raise ConfigError(f"{name}: {_explained(error.errors()[0])}") from error


def check_space(space: Space, name: str, competition: str, settings: Iterable[str]) -> None:
    """Raise ConfigError unless every parameter is a setting that a search may change and takes its extreme values."""
    settings = [*space.settings, *settings]
    config = load_config(competition, settings)
    fixed = {override.partition("=")[0] for override in settings}
    for key, parameter in space.space.items():
        for value in parameter.extremes:
            try:
                load_config(competition, [*settings, setting(key, value)])
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
        if key.partition(".")[0] not in SEARCHED or "." not in key:
            raise ConfigError(f"{name}: {key} is not for a search: it may change {', '.join(SEARCHED)}.*")
        if key in fixed:
            raise ConfigError(f"{key} is both searched ({name}) and set: take it out of one of them")
        if key in ("train.epochs", "train.learning_rate") and config.train.phases and "train.phases" not in space.space:
            raise ConfigError(f"{name}: {key} counts for nothing beside train.phases: --set train.phases=[]")


def _text(value: Any) -> str:
    """A value as YAML in one line; not as JSON, whose 1e-05 YAML takes for a text."""
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return str(text).removesuffix("...\n").strip()


def _with_numbers(value: Any) -> Any:
    """The same with numbers where there are texts like 1e-5, which YAML 1.1 does not take for numbers."""
    if isinstance(value, dict):
        return {key: _with_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_numbers(entry) for entry in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value) else value


def _explained(error: Any) -> str:
    place = error["loc"]
    if error["type"] == "extra_forbidden":
        known = Space.model_fields if len(place) == 1 else Parameter.model_fields
        where = f" of {place[1]}" if len(place) > 1 else ""
        return f"unknown key {place[-1]!r}{where}{nearest(str(place[-1]), known)}"
    key = ".".join(map(str, place)).removeprefix("space.")
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}"

"""The space of a search: a YAML file that says which settings are searched, and among which values."""

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, model_validator

from kit.config import load_config
from kit.config.base import Settings
from kit.config.load import CONFIGS, find_yaml, names_in, override, read_yaml, validated, yaml_line
from kit.errors import ConfigError

SEARCHABLE = ("model", "train", "augment", "input")  # other sections change the data, or nothing about the model
_SPACES = CONFIGS / "search"


class Parameter(Settings):
    """The values of one setting: one of `choices`, or a number from `low` to `high` (an integer if all of them are).

    `log`: uniform on a logarithmic scale. `step`: low, low + step, ... only. `repeat`: a list of that many values, each
    chosen independently. A list alone is short for `choices`.
    """

    choices: tuple[Any, ...] | None = Field(None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, gt=0)
    log: bool = False
    repeat: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list | dict):
            raise ValueError("write a list of choices, or {low, high} with log or step, or {repeat: K, ...} of these")
        return {"choices": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _is_complete(self) -> "Parameter":
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
            raise ValueError("high is not a whole number of steps above low")
        return self

    @property
    def extremes(self) -> list[Any]:
        """The values that the setting must accept for all others to be valid: every choice, or both ends."""
        values = [self.low, self.high] if self.choices is None else list(self.choices)
        return values if self.repeat is None else [[value] * self.repeat for value in values]

    def suggest(self, name: str, trial: Any) -> Any:
        """A value of setting `name`, chosen by an Optuna trial (or anything with its `suggest_` methods)."""
        if self.repeat is None:
            return self._suggest_one(name, trial)
        return [self._suggest_one(f"{name}.{n}", trial) for n in range(self.repeat)]

    def _suggest_one(self, name: str, trial: Any) -> Any:
        if self.choices is not None:  # Optuna stores only numbers, strings and the like: others are stored as YAML
            stored = [c if isinstance(c, str | int | float | None) else yaml_line(c) for c in self.choices]
            return self.choices[stored.index(trial.suggest_categorical(name, stored))]
        if all(isinstance(n, int) for n in (self.low, self.high, self.step or 1)):
            return trial.suggest_int(name, self.low, self.high, step=self.step or 1, log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


class Space(Settings):
    """A space file: how poor trials are stopped early, the epochs of a trial, and the parameters by setting."""

    pruner: Literal["hyperband", "asha", "none"] = "none"
    epochs: int | None = Field(None, ge=1)  # train.epochs of every trial; null: as the config says, or the space
    space: dict[str, Parameter] = Field(min_length=1)

    @property
    def settings(self) -> list[str]:
        """The overrides that every trial shares; they come before those of the command line."""
        return [override("train.epochs", self.epochs)] if self.epochs else []

    def suggest(self, trial: Any) -> list[str]:
        """The overrides of one trial, `a.b=value` as `load_config` takes them, in the order of the file."""
        return [override(key, parameter.suggest(key, trial)) for key, parameter in self.space.items()]


def space_names() -> list[str]:
    """Names of the spaces that come with the kit, sorted."""
    return names_in(_SPACES)


def read_space(name: str) -> Space:
    """The space `name`: one of `space_names()`, or the path of a YAML file; raises ConfigError where it is invalid."""
    return validated(Space, _with_numbers(read_yaml(find_yaml(name, _SPACES, "space"), name, Space)), name)


def check_space(space: Space, name: str, competition: str, settings: Iterable[str]) -> None:
    """Raise ConfigError unless every parameter is a setting that may be searched, and accepts its extreme values."""
    settings = [*space.settings, *settings]
    fixed = {text.partition("=")[0] for text in settings}
    load_config(competition, settings)  # an error in these is not the space's
    for key, parameter in space.space.items():
        for value in parameter.extremes:
            try:
                load_config(competition, [*settings, override(key, value)])
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error
        if key.partition(".")[0] not in SEARCHABLE or "." not in key:
            raise ConfigError(f"{name}: {key} cannot be searched: a search may change {', '.join(SEARCHABLE)}.*")
        if key in fixed:
            raise ConfigError(f"{key} is both searched ({name}) and set: remove one of them")


def _with_numbers(value: Any) -> Any:
    """The same value with strings such as 1e-5 as numbers, which YAML 1.1 reads as strings."""
    if isinstance(value, dict):
        return {key: _with_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_numbers(entry) for entry in value]
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value) else value

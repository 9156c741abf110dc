"""`model.name: auto` becomes a network, once, when a run starts; everything after that sees the network alone."""

import logging
from collections.abc import Mapping
from typing import Any

from kit.competitions import find_competition
from kit.config import Config, TrainSettings
from kit.config.model import AUTO, ModelSettings
from kit.models import auto
from kit.models.auto import Choice
from kit.run import Run
from kit.runtime import devices
from kit.tasks import find_task

log = logging.getLogger(__name__)


def with_network(config: Config, run: Run | None = None) -> Config:
    """The config with a network in the place of `auto`: that of the run, if it exists, else what suits this machine.

    Logs a choice. Downloads weights where that is possible; raises ConfigError for `model.weights` of some network.
    """
    if config.model.name != AUTO:
        return config
    if run is not None and run.exists() and run.config.model.name != AUTO:
        return _as_before(config, run.config)
    auto.check_weights(config.model.weights)  # before the machine is looked at, which may take seconds
    choice = choose(config)
    log.info(choice.line)
    return _chosen(config, choice)


def choose(config: Config) -> Choice:
    """What `auto` is on this machine; loads the backend where there may be a GPU or a TPU."""
    return auto.choose(devices.kind_of(config.runtime), get=auto.fetch, **_question(config))


def provisional(config: Config) -> Config:
    """The config with the network that a CPU would get, for checks that no machine and no weights are needed for."""
    return _chosen(config, auto.choose("CPU", **_question(config))) if config.model.name == AUTO else config


def _question(config: Config) -> dict[str, Any]:
    """What of a config decides which network suits it."""
    competition = find_competition(config.competition, config)
    task = competition.target.task
    return {
        "side": config.image.size,
        "domain": competition.domain,
        "boxes": bool(task) and find_task(task).prediction == "boxes",
        "weights": config.model.weights,
        "arguments": config.model.arguments,
    }


def _chosen(config: Config, choice: Choice) -> Config:
    model = ModelSettings(name=choice.name, weights=choice.weights, arguments=choice.arguments)
    return config.model_copy(update={"model": model, "train": _at_rate(config.train, choice.rate)})


def _at_rate(train: TrainSettings, rate: float) -> TrainSettings:
    """The learning rates of what is pre-trained times `rate`."""
    phases = tuple(
        phase if phase.unfreeze == "none" else phase.model_copy(update={"learning_rate": phase.learning_rate * rate})
        for phase in train.phases
    )
    return train.model_copy(update={"phases": phases, "learning_rate": train.learning_rate * rate})


def _as_before(config: Config, own: Config) -> Config:
    """The config with the network that a run has; weights and arguments that are set stand."""
    weights = own.model.weights if config.model.weights is None else config.model.weights
    arguments: Mapping[str, Any] = {**own.model.arguments, **config.model.arguments}
    model = ModelSettings(name=own.model.name, weights=weights, arguments=dict(arguments))
    return config.model_copy(update={"model": model})

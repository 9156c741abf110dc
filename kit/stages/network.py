"""`model.name: auto` becomes a network, once, when a run starts; everything after that sees the network alone.

Also what of a network can be had without training it: the run of a linear head on its frozen features.
"""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from kit.competitions import find_competition
from kit.config import Config, TrainSettings
from kit.config.model import AUTO, ModelSettings
from kit.errors import ConfigError
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


def frozen_first(config: Config, only: bool = False) -> Config | None:
    """The settings of the run that comes before this one, a linear head on the frozen network; None for no such run.

    There is none without `frozen_first`, and of a network without pre-trained weights. Raises ConfigError for the
    latter when it is the `only` one that is asked for.
    """
    if not (config.frozen_first or only):
        return None
    from kit.models import registry
    from kit.models.heads import head

    card = registry.model_card(config.model.name)
    weights = card.weights if config.model.weights is None else config.model.weights
    if weights == "none" or card.prediction != "probabilities" or card.fitted != "network":
        if only:
            raise ConfigError(
                f"--quick fits a head on a frozen network, but {card.name} with model.weights = {weights} is none "
                "that is pre-trained as a classifier: leave --quick out, or set model.name=auto"
            )
        return None
    of_head = inspect.signature(head).parameters
    arguments = {name: value for name, value in config.model.arguments.items() if name not in of_head}
    backbone = {"backbone": card.name, "backbone_arguments": arguments}
    model = ModelSettings(name="features", weights=config.model.weights, arguments=backbone)
    once = config.predict.model_copy(update={"tta": "none"})  # views would cost the first minute many times over
    return config.model_copy(update={"model": model, "predict": once, "frozen_first": False})


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
    train = _at_rate(config.train, choice.rate)
    if choice.weights == "none":  # there is nothing to keep
        train = train.model_copy(update={"initial_head": "random", "freeze_batch_norm": False})
    return config.model_copy(update={"model": model, "train": train})


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

"""`@register_model`, `list_models()`, `build(name, ...)`: every model takes uint8 images and returns probabilities."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

import kit.models
from kit.errors import ConfigError, nearest


@dataclass(frozen=True)
class ModelCard:
    """A registered model: its builder, the image side it was made for, and the weights it starts from by default.

    `parameters` are the total and trainable counts at `size` with one output, as published by the model's source.
    """

    name: str
    builder: Callable[..., keras.Model]
    size: int
    weights: str
    parameters: tuple[int, int]
    source: str


_CARDS: dict[str, ModelCard] = {}


def register_model(*, size: int, weights: str, parameters: tuple[int, int], source: str) -> Callable[..., Any]:
    """Register the decorated builder under its own name.

    A builder takes `shape` (height, width, channels), `outputs`, `activation`, `weights` and its own arguments, and
    returns a functional `keras.Model` from uint8 images [B, H, W, C] to float32 probabilities [B, outputs].
    """

    def register(builder: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
        name = builder.__name__
        _CARDS[name] = ModelCard(name, builder, size, weights, parameters, source)
        return builder

    return register


def list_models() -> list[str]:
    """Names of all models, sorted."""
    return sorted(_cards())


def model_card(name: str) -> ModelCard:
    """The card of a model; raises ConfigError with the nearest names for an unknown one."""
    if name not in _cards():
        raise ConfigError(f"unknown model {name!r}{nearest(name, _cards())}")
    return _CARDS[name]


def build(
    name: str,
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    weights: str | None = None,
    **arguments: Any,
) -> keras.Model:
    """A fresh model; `weights` None means what its card says.

    Raises ConfigError for an unknown model, arguments its builder does not take, weights that cannot be had (random
    ones are never taken instead) and images too small for its pooling.
    """
    card = model_card(name)
    chosen = card.weights if weights is None else weights
    try:
        return card.builder(shape=shape, outputs=outputs, activation=activation, weights=chosen, **arguments)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"model {name} cannot be built for images of {shape}: {error}") from error


def _cards() -> dict[str, ModelCard]:
    for module in pkgutil.iter_modules(kit.models.__path__):
        importlib.import_module(f"kit.models.{module.name}")
    return _CARDS

"""`@register_model`, `list_models()`, `build(name, ...)`: every model takes uint8 images and returns probabilities.

A name is that of a registered model, or of a library's: `hub/PRESET` (KerasHub), `tfhub:HANDLE` (TensorFlow-Hub).
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

import kit.models
from kit.errors import ConfigError, nearest
from kit.models import heads
from kit.models.weights import Provided, Published, load_weights

BACKBONE = "backbone"  # the name, in every model that has one, of the layer that pre-trained weights go into


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model: its builder, the image side it was made for, and the weights it starts from by default.

    `parameters` are the total and trainable counts at `size` with `outputs` outputs, as published by the model's source
    or counted once. `licence` is that of the published weights, `published` where they are found (or that the network
    comes with them).
    """

    name: str
    builder: Callable[..., keras.Model]
    size: int
    weights: str = "none"
    parameters: tuple[int, int] | None = None
    outputs: int = 1
    licence: str = ""
    source: str = ""
    published: Published | Provided | None = field(default=None, repr=False)


_CARDS: dict[str, ModelCard] = {}
_LIBRARIES = {"hub/": "keras_hub", "tfhub:": "tensorflow_hub"}  # what a name begins with -> the module that has a card


def register(card: ModelCard) -> None:
    """Make the model known under its card's name."""
    _CARDS[card.name] = card


def register_model(*, size: int, parameters: tuple[int, int], source: str, outputs: int = 1) -> Callable[..., Any]:
    """Register the decorated builder, of a whole network trained from scratch, under its own name.

    A builder takes `shape` (height, width, channels), `outputs`, `activation` and its own arguments, and returns a
    functional `keras.Model` from uint8 images [B, H, W, C] to float32 probabilities [B, outputs].
    """

    def registered(builder: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
        register(ModelCard(builder.__name__, builder, size, "none", parameters, outputs, "", source))
        return builder

    return registered


def register_backbone(
    name: str, backbone: Callable[[tuple[int, int, int]], keras.Model], preprocess: Callable[[Any], Any], **card: Any
) -> None:
    """Register a backbone under a head (`heads.head`, whose arguments a builder then takes), and its preprocessing.

    `backbone(shape)` gives an untrained model from what `preprocess` makes of RGB in 0..255 to a feature map
    [B, h, w, channels] or tokens [B, n, channels].
    """
    register(backbone_card(name, backbone, preprocess, **card))


def backbone_card(
    name: str,
    backbone: Callable[..., keras.Model],
    preprocess: Callable[[Any], Any],
    arguments: tuple[str, ...] = (),
    **card: Any,
) -> ModelCard:
    """The card of a backbone under a head (see `register_backbone`), without registering it.

    `arguments` names what the builder hands on to `backbone` (by keyword, when it is given) and not to the head.
    """

    def builder(
        *,
        shape: tuple[int, int, int],
        outputs: int,
        activation: str,
        until: str | None = None,
        **head: Any,
    ) -> keras.Model:
        inputs = heads.image_input(shape)
        own = {key: head.pop(key) for key in arguments if key in head}
        features = _cut(backbone((*shape[:2], 3), **own), until)
        x = features(preprocess(heads.as_rgb(inputs, shape)))
        return keras.Model(inputs, heads.head(x, outputs, activation, **head), name=_identifier(name))

    return ModelCard(name, builder, **card)


def list_models() -> list[str]:
    """Names of all registered models, sorted."""
    return sorted(_cards())


def model_card(name: str) -> ModelCard:
    """The card of a model; raises ConfigError with the nearest names for an unknown one."""
    for prefix, module in _LIBRARIES.items():
        if name.startswith(prefix):
            card: ModelCard = importlib.import_module(f"kit.models.{module}").card(name)
            return card
    if name not in _cards():
        raise ConfigError(f"unknown model {name!r}{nearest(name, _cards())}")
    return _CARDS[name]


def as_text(part: str = "") -> str:
    """A line for each registered model whose name or source holds `part`, for a person; and how to name others.

    Raises ConfigError when there is none.
    """
    cards = [model_card(name) for name in list_models()]
    found = [card for card in cards if part.lower() in f"{card.name} {card.source}".lower()]
    if not found:
        raise ConfigError(f"no model has {part!r} in its name or source{nearest(part, _cards())}")
    width = max(len(card.name) for card in found)
    lines = [f"{'name':{width}}  {'parameters':>11}  side  {'weights':8}  {'their licence':13}  source"]
    for card in found:
        parameters = f"{card.parameters[0]:,}" if card.parameters else ""
        lines.append(
            f"{card.name:{width}}  {parameters:>11}  {card.size:4}  {card.weights:8}  {card.licence:13}  {card.source}"
        )
    lines += [
        "parameters: at that side in pixels, with the default head and one output (nih_cnn: 14)",
        "hub/PRESET, hub/FOLDER, hub/CLASS: any image backbone of KerasHub, https://keras.io/keras_hub/presets",
        "tfhub:HANDLE, tfhub:FOLDER: any image model of TensorFlow-Hub",
    ]
    return "\n".join(lines)


def build(
    name: str,
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    weights: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    **arguments: Any,
) -> keras.Model:
    """A fresh model; `weights` None means what its card says, and `say` hears what came of them.

    Raises ConfigError for an unknown model, arguments its builder does not take, weights that cannot be had (random
    ones are never taken instead) and images too small for its pooling.
    """
    card = model_card(name)
    try:
        model = card.builder(shape=shape, outputs=outputs, activation=activation, **arguments)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"model {name} cannot be built for images of {shape}: {error}") from error
    load_weights(model, card.weights if weights is None else weights, name, card.published, say)
    return model


def _cut(backbone: keras.Model, until: str | None) -> keras.Model:
    """The backbone under its common name, up to and with the layer `until`."""
    if until is None:
        backbone.name = BACKBONE
        return backbone
    names = [layer.name for layer in backbone.layers]
    if until not in names:
        raise ConfigError(f"model.arguments.until = {until}: the backbone has no such layer{nearest(until, names)}")
    return keras.Model(backbone.inputs, backbone.get_layer(until).output, name=BACKBONE)


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _cards() -> dict[str, ModelCard]:
    for module in pkgutil.iter_modules(kit.models.__path__):
        if module.name not in _LIBRARIES.values():
            importlib.import_module(f"kit.models.{module.name}")
    return _CARDS

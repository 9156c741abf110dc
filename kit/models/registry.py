"""`@register_model`, `list_models()`, `build(name, ...)`: untrained models from uint8 images to probabilities.

A name is that of a registered model, or of a library's: `hub/PRESET` (KerasHub), `tfhub:HANDLE` (TensorFlow-Hub); or
that of one from outside kit, `FILE.py@DIGEST:NAME` or a package's (kit.extensions).
Pre-trained weights go into a built model by `kit.models.weights.load_weights`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

from kit import extensions
from kit.errors import ConfigError, nearest
from kit.lazy import lazy
from kit.models import heads
from kit.models.cards import BACKBONE, ModelCard

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")

_CARDS: dict[str, ModelCard] = {}
# modules that register models when they are imported
_FAMILIES = ("applications", "backbones", "classic", "detect.cards", "efficientnet_lite", "frozen")
LIBRARIES = {"hub/": "keras_hub", "tfhub:": "tensorflow_hub"}  # prefix of a name -> module whose `card(name)` has it


def register(card: ModelCard) -> None:
    """Make the model available under its card's name."""
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
    """Register a backbone with its preprocessing, under a head (`heads.head`, whose arguments the builder then takes).

    `backbone(shape)` returns an untrained functional model from preprocessed RGB images to a feature map
    [B, h, w, channels] or tokens [B, n, channels]; `preprocess` takes RGB in 0..255.
    """
    register(backbone_card(name, backbone, preprocess, **card))


def backbone_card(
    name: str,
    backbone: Callable[..., keras.Model],
    preprocess: Callable[..., Any],
    arguments: tuple[str, ...] = (),
    scaling: tuple[str, ...] = (),
    **card: Any,
) -> ModelCard:
    """The card of a backbone under a head (see `register_backbone`), without registering it.

    `arguments` names the builder's keyword arguments that go to `backbone` instead of the head, `scaling` those that go
    to `preprocess`.
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
        scaled = {key: head.pop(key) for key in scaling if key in head}
        features = _cut(backbone((*shape[:2], 3), **own), until)
        if head.get("pool") == "levels":
            from kit.models.features import with_levels  # here: it loads Keras

            features = with_levels(features, heads.LEVELS)
        x = features(preprocess(heads.as_rgb(inputs, shape), **scaled))
        return keras.Model(inputs, heads.head(x, outputs, activation, **head), name=identifier(name))

    return ModelCard(name, builder, **card)


def list_models() -> list[str]:
    """Names of all registered models, and of those of packages, sorted."""
    return sorted({*_cards(), *extensions.installed("model")})


def model_card(name: str) -> ModelCard:
    """The card of a model; raises ConfigError with the nearest names for an unknown one."""
    for prefix, module in LIBRARIES.items():
        if name.startswith(prefix):
            card: ModelCard = importlib.import_module(f"kit.models.{module}").card(name)
            return card
    if outside := _from_outside(name):
        return outside
    if name not in _cards():
        raise ConfigError(f"unknown model {name!r}{nearest(name, _smallest_first())}")
    return _CARDS[name]


def _from_outside(name: str) -> ModelCard | None:
    """The card of a model in a file, or of a package's: a builder, as `register_model` takes it, or a card."""
    is_code = extensions.is_code(name)
    if is_code and not (short := name.partition("@")[2].partition(":")[2]):
        raise ConfigError(f"model.name = {name}: which function? Write it as FILE.py:NAME")
    if is_code and short in _cards():
        raise ConfigError(f"{extensions.place_of(name)}: {short} is a model of kit's own: rename it")
    value = extensions.load(name) if is_code else extensions.from_package("model", name, _cards())
    if value is None:
        return None
    card = value if isinstance(value, ModelCard) else ModelCard(name, value, 0)
    usage = "def NAME(*, shape, outputs, activation)"
    extensions.require_call(card.builder, name, usage, shape=(1, 1, 3), outputs=1, activation="sigmoid")
    return replace(card, name=name, builder=_built_as_asked(name, card))


def _built_as_asked(name: str, card: ModelCard) -> Callable[..., keras.Model]:
    """The builder of a model from outside, which raises ConfigError for what is no model of such images and labels."""
    call = extensions.guarded(card.builder, name) if extensions.is_code(name) else card.builder

    @wraps(card.builder)
    def builder(*, shape: tuple[int, int, int], outputs: int, activation: str, **arguments: Any) -> keras.Model:
        model = call(shape=shape, outputs=outputs, activation=activation, **arguments)
        if not isinstance(model, keras.Model):
            raise ConfigError(f"{name} returned a {type(model).__name__}, not a keras.Model")
        if card.prediction == "probabilities":
            sides = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
            if sides != ((None, *shape), (None, outputs)):
                raise ConfigError(
                    f"{name} returned a model from {sides[0]} to {sides[1]}: expected {(None, *shape)} to "
                    f"{(None, outputs)}, a functional keras.Model"
                )
        return model

    return builder


def weights_card(name: str, arguments: Mapping[str, Any]) -> ModelCard:
    """The card that says where the weights of a model come from: of a network on a backbone, that backbone's."""
    return weights_cards(name, arguments)[0]


def weights_cards(name: str, arguments: Mapping[str, Any]) -> list[ModelCard]:
    """As `weights_card`, of a model on several backbones the card of each."""
    card = model_card(name)
    return (
        [model_card(each) for each in names_of(arguments.get("backbone", card.backbone))] if card.backbone else [card]
    )


def names_of(backbone: str | Sequence[str]) -> list[str]:
    """The names in an argument `backbone`, one or several; raises ConfigError where there is none."""
    names = [backbone] if isinstance(backbone, str) else list(backbone) if isinstance(backbone, Sequence) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"model.arguments.backbone = {backbone!r}: give the name of a model, or a list of names")
    return names


def fitted_part(name: str) -> Literal["network", "head"]:
    """What of a model is fitted to the training images; loads no library."""
    return "network" if name.startswith(tuple(LIBRARIES)) or name not in _cards() else _CARDS[name].fitted


def build(
    name: str, *, shape: tuple[int, int, int], outputs: int, activation: str = "sigmoid", **arguments: Any
) -> keras.Model:
    """A new, untrained model from uint8 images [B, *shape] to float32 probabilities [B, outputs].

    Raises ConfigError for an unknown model, for arguments its builder does not take, and for images that are too small
    for its pooling.
    """
    card = model_card(name)
    try:
        return card.builder(shape=shape, outputs=outputs, activation=activation, **arguments)
    except TypeError as error:
        raise ConfigError(f"model {name}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"model {name} cannot be built for images of {shape}: {error}") from error


def _cut(backbone: keras.Model, until: str | None) -> keras.Model:
    """The backbone under its common name, up to and including the layer `until`."""
    if until is None:
        backbone.name = BACKBONE
        return backbone
    names = [layer.name for layer in backbone.layers]
    if until not in names:
        raise ConfigError(f"model.arguments.until = {until}: the backbone has no such layer{nearest(until, names)}")
    return keras.Model(backbone.inputs, backbone.get_layer(until).output, name=BACKBONE)


def identifier(name: str) -> str:
    """The name as one that a Keras model may have."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _smallest_first() -> list[str]:
    """Names of the registered models; of about the same size, the shorter name comes first."""
    size = {name: float(f"{(card.parameters or (0,))[0]:.1e}") for name, card in _cards().items()}
    return sorted(size, key=lambda name: (size[name], len(name), name))


def _cards() -> dict[str, ModelCard]:
    for family in _FAMILIES:
        importlib.import_module(f"kit.models.{family}")
    return _CARDS

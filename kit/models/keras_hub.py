"""KerasHub's image backbones under a head: `hub/PRESET`, `hub/FOLDER`, `hub/hf://OWNER/NAME`, or `hub/CLASS` untrained.

(Presets and classes of its detectors: `keras_hub_detectors`.)

A folder is one of `save_to_preset`, or a model of Hugging Face as it is there. A preset comes with its weights
(`model.weights=preset`) and its preprocessing; a class, such as `hub/ResNetBackbone`,
takes its settings as the argument `config`. Each is built for the run's image size.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import keras
from keras import layers

from kit.errors import ConfigError, close_names, nearest
from kit.models import hugging_face
from kit.models.cards import ModelCard, Provided
from kit.models.detect import keras_hub_detectors as detectors
from kit.models.keras_hub_presets import (
    as_converted,
    find_preset,
    first_line,
    library,
    require_readers,
    to_unit_range,
    unavailable,
)
from kit.models.registry import backbone_card

_LIST = "https://keras.io/keras_hub/presets"  # of all presets, about five hundred
_CLASSES = ("Backbone", "ObjectDetector")
_USUAL_SIDE = 224  # of most presets; a preset's own is only known once it is downloaded


def card(name: str) -> ModelCard:
    """The card of `hub/PRESET`, `hub/FOLDER` or `hub/CLASS`, without downloading anything.

    Raises ConfigError for a name that is none of these, and when KerasHub is not installed.
    """
    models = library().models
    what = name.removeprefix("hub/")
    if detectors.is_detector(what):
        is_class = hasattr(models, what)
        return detectors.class_card(name) if is_class else detectors.preset_card(name, find_preset(what))
    backbone_class = getattr(models, what, None) if what.endswith("Backbone") else None
    if backbone_class is not None:
        backbone = partial(_from_config, name=name, backbone_class=backbone_class)
        source = f"keras_hub.models.{what}"
        return backbone_card(name, backbone, to_unit_range, ("config",), size=_USUAL_SIDE, source=source)
    if not Path(what).is_dir() and "://" not in what and what not in models.Backbone.presets:
        names = [*models.Backbone.presets, *(each for each in dir(models) if each.endswith(_CLASSES))]
        hint = nearest(what, set(names)) if close_names(what, names) else "; see " + _LIST
        raise ConfigError(f"{name}: no KerasHub preset, preset folder or image class has this name{hint}")
    preset = find_preset(what)
    backbone = partial(_from_preset, name=name, preset=preset)
    return backbone_card(
        name,
        partial(backbone, load_weights=False),
        partial(as_converted, preset=preset),
        scaling=("image_mean", "image_std"),
        size=hugging_face.side_of(preset) or _USUAL_SIDE,
        weights="preset",
        source=f"KerasHub preset {what}",
        published=Provided("preset", partial(backbone, load_weights=True)),
    )


def _from_config(
    shape: tuple[int, int, int], name: str, backbone_class: Any, config: Mapping[str, Any] | None = None
) -> keras.Model:
    def make(**size: Any) -> keras.Model:
        return backbone_class.from_config({**(config or {}), **size})

    return _of_size(_images_to_features(_for_size(make, shape), name), shape)


def _from_preset(shape: tuple[int, int, int], name: str, preset: str, load_weights: bool) -> keras.Model:
    require_readers(preset)
    make = partial(library().models.Backbone.from_preset, preset)
    try:
        backbone = _for_size(partial(make, load_weights=load_weights), shape)
        _require_whole_patches(backbone, shape, name)
        return _of_size(_images_to_features(backbone, name), shape)
    except ConfigError:
        raise
    except (ImportError, OSError) as error:  # no kagglehub, no network, no file
        raise unavailable(preset, error) from error
    except Exception as error:  # a size it cannot take, or a config or weights that it cannot be made of
        try:
            side = getattr(make(load_weights=load_weights), "image_shape", (None, None))
        except Exception:  # not even at its own size: its config or weights are missing or broken
            raise unavailable(preset, error) from error
        sizes = f"it was made for {side[0]}x{side[1]}" if side[0] else "it takes many sizes, but not this one"
        raise ConfigError(
            f"{name} cannot be built for images of {shape[0]}x{shape[1]}: {sizes} ({first_line(error)})"
        ) from error


def _require_whole_patches(backbone: keras.Model, shape: tuple[int, int, int], name: str) -> None:
    """Raise ConfigError for images that are not whole patches: what is left over at two borders would not be seen."""
    patch = getattr(backbone, "patch_size", None)
    if not isinstance(patch, int) or not hasattr(backbone, "num_register_tokens"):  # others pad, or say so themselves
        return
    side = shape[0]
    if side % patch:
        less, more = patch * max(1, side // patch), patch * (side // patch + 1)
        raise ConfigError(
            f"{name} cannot be built for images of {side}x{side}: it takes whole patches of {patch} pixels; set "
            f"image.size={less} or {more}"
        )


def _for_size(make: Callable[..., keras.Model], shape: tuple[int, int, int]) -> keras.Model:
    """The backbone for images of `shape`; some classes take any size and no argument for it."""
    try:
        return make(image_shape=shape)
    except (TypeError, ValueError) as error:
        if "keyword argument" not in str(error) or "image_shape" not in str(error):
            raise
        return make()


def _of_size(network: keras.Model, shape: tuple[int, int, int]) -> keras.Model:
    """The network for images of `shape` alone, so that the sizes of its feature maps are known."""
    if None not in network.input_shape[1:]:
        return network
    return keras.models.clone_model(network, input_tensors=keras.Input(shape), clone_function=lambda layer: layer)


def _images_to_features(backbone: keras.Model, name: str) -> keras.Model:
    """The backbone as a plain model with one image input and one output: of several feature maps, the smallest.

    (KerasHub's own take dictionaries as well, and some return them.)
    """
    inputs = list(getattr(backbone, "inputs", None) or [])
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        names = ", ".join(each.name for each in inputs) or "?"
        raise ConfigError(f"{name} is not a backbone of images alone: it takes {names}")
    # Keras sorts the outputs of a dictionary by their names ("stage4" before "stem"), so their order says nothing.
    features = min(reversed(backbone.outputs), key=lambda output: math.prod(side or 1 for side in output.shape[1:-1]))
    if len(features.shape) not in (2, 3, 4):
        raise ConfigError(f"{name} returns {features.shape}: not a feature map, tokens or a vector")
    for layer in backbone.layers:
        # DINO-v2's would save its position embeddings resized, which loses precision.
        if hasattr(layer, "interpolated_position_embeddings"):
            layer.save_own_variables = MethodType(layers.Layer.save_own_variables, layer)
            layer.load_own_variables = MethodType(layers.Layer.load_own_variables, layer)
    for variable in backbone.trainable_variables:
        if variable.name == "mask_token":  # used only in DINO's pre-training; Keras would warn that it has no gradient
            variable.trainable = False
    return keras.Model(inputs[0], features)

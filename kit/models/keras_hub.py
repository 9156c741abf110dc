"""KerasHub's image backbones under a head: `hub/PRESET`, `hub/FOLDER` (of `save_to_preset`), or `hub/CLASS` untrained.

A preset comes with its weights (`model.weights=preset`) and its preprocessing; a class, such as `hub/ResNetBackbone`,
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
from kit.models.cards import ModelCard, Provided
from kit.models.registry import backbone_card
from kit.runtime.session import KAGGLE_INPUT

_LIST = "https://keras.io/keras_hub/presets"  # of all presets, about five hundred
_USUAL_SIDE = 224  # of most presets; a preset's own is only known once it is downloaded


def card(name: str) -> ModelCard:
    """The card of `hub/PRESET`, `hub/FOLDER` or `hub/CLASS`, without downloading anything.

    Raises ConfigError for a name that is none of these, and when KerasHub is not installed.
    """
    models = _library().models
    what = name.removeprefix("hub/")
    backbone_class = getattr(models, what, None) if what.endswith("Backbone") else None
    if backbone_class is not None:
        backbone = partial(_from_config, name=name, backbone_class=backbone_class)
        source = f"keras_hub.models.{what}"
        return backbone_card(name, backbone, _to_unit_range, ("config",), size=_USUAL_SIDE, source=source)
    if not Path(what).is_dir() and "://" not in what and what not in models.Backbone.presets:
        names = [*models.Backbone.presets, *(each for each in dir(models) if each.endswith("Backbone"))]
        hint = nearest(what, set(names)) if close_names(what, names) else "; see " + _LIST
        raise ConfigError(f"{name}: no KerasHub preset, preset folder or backbone class has this name{hint}")
    preset = find_preset(what)
    backbone = partial(_from_preset, name=name, preset=preset)
    return backbone_card(
        name,
        partial(backbone, load_weights=False),
        partial(_as_converted, preset=preset),
        size=_USUAL_SIDE,
        weights="preset",
        source=f"KerasHub preset {what}",
        published=Provided("preset", partial(backbone, load_weights=True)),
    )


def find_preset(preset: str, kaggle: Path = KAGGLE_INPUT) -> str:
    """The newest mounted version of a preset on Kaggle; otherwise `preset` itself, KerasHub's name or a folder."""
    places = (f"models/*/*/keras/{preset}/*/config.json", f"*/keras/{preset}/*/config.json")
    versions = [path.parent for place in places if "/" not in preset for path in kaggle.glob(place)]
    return str(max(versions, key=lambda path: (path.name.zfill(9), path))) if versions else preset


def _library() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ConfigError(f"models named hub/... need keras-hub ({error}): pip install keras-hub") from error
    return keras_hub


def _from_config(
    shape: tuple[int, int, int], name: str, backbone_class: Any, config: Mapping[str, Any] | None = None
) -> keras.Model:
    def make(**size: Any) -> keras.Model:
        return backbone_class.from_config({**(config or {}), **size})

    return _images_to_features(_for_size(make, shape), name)


def _from_preset(shape: tuple[int, int, int], name: str, preset: str, load_weights: bool) -> keras.Model:
    make = partial(_library().models.Backbone.from_preset, preset)
    try:
        return _images_to_features(_for_size(partial(make, load_weights=load_weights), shape), name)
    except (ImportError, OSError) as error:  # no kagglehub, no network, no file
        raise _unavailable(preset, error) from error
    except (ValueError, TypeError) as error:
        try:
            side = getattr(make(load_weights=False), "image_shape", (None, None))
        except Exception:  # not even at its own size: its config is missing or broken
            raise _unavailable(preset, error) from error
        sizes = f"it was made for {side[0]}x{side[1]}" if side[0] else "it takes many sizes, but not this one"
        raise ConfigError(
            f"{name} cannot be built for images of {shape[0]}x{shape[1]}: {sizes} ({_first_line(error)})"
        ) from error


def _unavailable(preset: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the KerasHub preset {preset} is not available ({_first_line(error)}). Without internet, attach it to the "
        "kernel as a Kaggle model, or download it elsewhere and give its folder: model.name=hub/FOLDER"
    )


def _for_size(make: Callable[..., keras.Model], shape: tuple[int, int, int]) -> keras.Model:
    """The backbone for images of `shape`; some classes take any size and no argument for it."""
    try:
        return make(image_shape=shape)
    except (TypeError, ValueError) as error:
        if "keyword argument" not in str(error) or "image_shape" not in str(error):
            raise
        return make()


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


def _to_unit_range(x: Any) -> Any:
    return layers.Rescaling(1 / 255, name="preprocess")(x)


def _as_converted(x: Any, preset: str) -> Any:
    """RGB in 0..255 scaled like the preset's image converter does it (which would also resize); 0..1 without one."""
    try:
        converter = _library().layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError):  # no image_converter.json; no converter for such a backbone
        return _to_unit_range(x)
    except ImportError as error:  # KerasHub before 0.32 needs tensorflow-text for this
        raise ConfigError(f"hub/{preset}: {_first_line(error)} Or: pip install keras-hub") from error
    except OSError as error:
        raise _unavailable(preset, error) from error
    scale = 1.0 if converter.scale is None else converter.scale
    return layers.Rescaling(scale, offset=converter.offset or 0.0, name="preprocess")(x)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""What KerasHub's backbones and detectors have in common: the package, presets and their scaling."""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

from keras import layers

from kit.errors import ConfigError
from kit.models import hugging_face
from kit.models.hugging_face import REMOTE, Preparation
from kit.runtime.session import KAGGLE_INPUT

log = logging.getLogger(__name__)


def library() -> Any:
    """The package; raises ConfigError when it is not installed."""
    try:
        import keras_hub
    except ImportError as error:
        raise ConfigError(f"models named hub/... need keras-hub ({error}): pip install keras-hub") from error
    return keras_hub


def find_preset(preset: str, kaggle: Path = KAGGLE_INPUT) -> str:
    """The newest mounted version of a preset on Kaggle; otherwise `preset` itself, KerasHub's name or a folder."""
    places = (f"models/*/*/keras/{preset}/*/config.json", f"*/keras/{preset}/*/config.json")
    versions = [path.parent for place in places if "/" not in preset for path in kaggle.glob(place)]
    return str(max(versions, key=lambda path: (path.name.zfill(9), path))) if versions else preset


@contextmanager
def explained(preset: str) -> Iterator[None]:
    """Turn whatever stops KerasHub from reading a preset at its own size into a ConfigError."""
    try:
        yield
    except Exception as error:  # no kagglehub, no network, no file, a broken config
        raise unavailable(preset, error) from error


def unavailable(preset: str, error: Exception) -> ConfigError:
    """What to say, and to do, about a preset that cannot be read."""
    what = f"the KerasHub preset {preset} is not available ({first_line(error)})"
    if isinstance(error, ImportError):
        return ConfigError(f"{what}: install the package it names")
    if preset.startswith(REMOTE):
        repository = preset.removeprefix(REMOTE)
        return ConfigError(
            f"{what}. Where its licence has to be accepted first, do so at https://huggingface.co/{repository} and log "
            f"in: hf auth login. Without internet, download it elsewhere, hf download {repository} --local-dir FOLDER, "
            "and give its folder: model.name=hub/FOLDER"
        )
    if Path(preset).is_dir():
        return ConfigError(f"{what}: download or save the folder again")
    return ConfigError(
        f"{what}. Without internet, attach it to the kernel as a Kaggle model, or download it elsewhere and give its "
        "folder: model.name=hub/FOLDER"
    )


def require_readers(preset: str) -> None:
    """Raise ConfigError where a model in Hugging Face's layout is out of reach, or what reads it is not installed."""
    try:
        is_hugging_face = hugging_face.is_hugging_face(preset)
    except OSError as error:
        raise unavailable(preset, error) from error
    if is_hugging_face and importlib.util.find_spec("safetensors") is None:
        raise ConfigError(f"hub/{preset} is in Hugging Face's layout, which needs safetensors: pip install safetensors")


def to_unit_range(x: Any) -> Any:
    """RGB in 0..255 scaled to 0..1."""
    return layers.Rescaling(1 / 255, name="preprocess")(x)


def as_converted(x: Any, preset: str, image_mean: Any = None, image_std: Any = None) -> Any:
    """RGB in 0..255 scaled as the preset was trained, at the size it has.

    By `image_mean` and `image_std` (of values in 0..1) where they are given; otherwise as KerasHub's image converter
    or, in Hugging Face's layout, `preprocessor_config.json` says. Raises ConfigError where none of them does, unless
    the preset is KerasHub's own: one that was saved without a converter gets 0..1.
    """
    scaling = _preparation(preset, image_mean, image_std)
    if scaling is None:
        _note_no_converter(preset)
        return to_unit_range(x)
    height, width = x.shape[1:3]
    if scaling.side and (height, width) != (scaling.side, scaling.side):
        _note_size(preset, scaling.side, height, width)
    return layers.Rescaling(scaling.scale, offset=scaling.offset, name="preprocess")(x)


@cache
def _note_no_converter(preset: str) -> None:
    log.info(f"hub/{preset} was saved without an image converter: it gets images in 0..1")


@cache
def _note_size(preset: str, side: int, height: int, width: int) -> None:
    log.info(f"hub/{preset} was made for images of {side}x{side}; these are {height}x{width}")


def _preparation(preset: str, image_mean: Any, image_std: Any) -> Preparation | None:
    if image_mean is not None or image_std is not None:
        return hugging_face.normalisation(image_mean, image_std)
    try:
        if hugging_face.is_hugging_face(preset):
            return hugging_face.preparation(preset)
    except OSError as error:
        raise unavailable(preset, error) from error
    try:
        converter = library().layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:  # no image_converter.json
        return None
    except ValueError as error:
        if "Unable to find a subclass" in str(error):  # no converter for such a backbone
            return None
        raise unavailable(preset, error) from error  # Kaggle did not answer, for one
    except ImportError as error:  # KerasHub before 0.32 needs tensorflow-text for this
        raise ConfigError(f"hub/{preset}: {first_line(error)} Or: pip install keras-hub") from error
    except OSError as error:
        raise unavailable(preset, error) from error
    if converter is None:  # of a layout that is not KerasHub's
        raise ConfigError(f"hub/{preset}: nothing says how its images are scaled; {hugging_face.BY_HAND}")
    scale = 1.0 if converter.scale is None else converter.scale
    return Preparation(scale, converter.offset or 0.0)


def first_line(error: Exception) -> str:
    """The first line of an error's message, not too much of it, or its class."""
    return shorten((str(error).splitlines() or [type(error).__name__])[0], 300, placeholder=" ...")

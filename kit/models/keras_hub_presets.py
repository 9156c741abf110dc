"""What KerasHub's backbones and detectors have in common: the package, presets and their scaling."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras import layers

from kit.errors import ConfigError
from kit.runtime.session import KAGGLE_INPUT


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


def kaggle_model(preset: str) -> str | None:
    """The Kaggle Model that holds a preset, owner/model/framework/variation/version; None for a folder or another host.

    That is where KerasHub downloads it from, and where `find_preset` looks for it when it is mounted.
    """
    models = library().models
    known = {**models.Backbone.presets, **models.ObjectDetector.presets}
    handle = str(known.get(preset, {}).get("kaggle_handle", "")).removeprefix("kaggle://")
    return handle if handle.count("/") == 4 else None


@contextmanager
def explained(preset: str) -> Iterator[None]:
    """Turn whatever stops KerasHub from reading a preset at its own size into a ConfigError."""
    try:
        yield
    except Exception as error:  # no kagglehub, no network, no file, a broken config
        raise unavailable(preset, error) from error


def unavailable(preset: str, error: Exception) -> ConfigError:
    """What to say, and to do, about a preset that cannot be read."""
    return ConfigError(
        f"the KerasHub preset {preset} is not available ({first_line(error)}). Without internet, attach it to the "
        "kernel as a Kaggle model, or download it elsewhere and give its folder: model.name=hub/FOLDER"
    )


def to_unit_range(x: Any) -> Any:
    """RGB in 0..255 scaled to 0..1."""
    return layers.Rescaling(1 / 255, name="preprocess")(x)


def as_converted(x: Any, preset: str) -> Any:
    """RGB in 0..255 scaled like the preset's image converter does it (which would also resize); 0..1 without one."""
    try:
        converter = library().layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError):  # no image_converter.json; no converter for such a backbone
        return to_unit_range(x)
    except ImportError as error:  # KerasHub before 0.32 needs tensorflow-text for this
        raise ConfigError(f"hub/{preset}: {first_line(error)} Or: pip install keras-hub") from error
    except OSError as error:
        raise unavailable(preset, error) from error
    scale = 1.0 if converter.scale is None else converter.scale
    return layers.Rescaling(scale, offset=converter.offset or 0.0, name="preprocess")(x)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    return (str(error).splitlines() or [type(error).__name__])[0]

"""TensorFlow-Hub models, loaded without a network where that is possible."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from packaging.version import parse as parse_version

from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow
from kit.runtime.session import KAGGLE_INPUT


def load(handle: str, user: str) -> Any:
    """The object that TensorFlow-Hub restores from `handle`; keep it, as its variables are deleted with it.

    `handle` is a TensorFlow-Hub address or a folder with a SavedModel, in it or below; a model that is mounted below
    /kaggle/input is taken from there. Raises ConfigError when there is none, naming its `user` and how to get it.
    """
    import_tensorflow()
    hub = import_hub(user)
    try:
        return hub.load(find_saved_model(handle) or handle)
    except (OSError, ValueError, RuntimeError) as error:  # no such file, no network, a broken archive
        cached = os.environ.get("TFHUB_CACHE_DIR", "not set")
        raise ConfigError(
            f"{user} cannot load {handle!r} ({type(error).__name__}). Without internet, download the model elsewhere "
            "and name its folder (with saved_model.pb) instead, or attach it to the kernel as a Kaggle model, or put "
            f"it into $TFHUB_CACHE_DIR ({cached})"
        ) from error


def import_hub(user: str) -> Any:
    """TensorFlow-Hub. Its last version (0.16.1) needs one function of `pkg_resources`, which setuptools 82 dropped."""
    stands_in = "pkg_resources" not in sys.modules
    if stands_in:
        sys.modules["pkg_resources"] = SimpleNamespace(parse_version=parse_version)  # type: ignore[assignment]
    try:
        import tensorflow_hub
    except ImportError as error:
        raise ConfigError(f"{user} needs tensorflow-hub: pip install tensorflow-hub") from error
    finally:
        if stands_in:
            del sys.modules["pkg_resources"]
    return tensorflow_hub


def find_saved_model(handle: str, kaggle: Path = KAGGLE_INPUT) -> str | None:
    """The folder with `saved_model.pb` in or below `handle`, or mounted on Kaggle under its name; None without one.

    Raises ConfigError when there are several.
    """
    name = handle.rstrip("/").removesuffix("/1").rsplit("/", 1)[-1]
    for place in (Path(handle), *sorted(kaggle.glob(f"models/*/{name}")), kaggle / name):
        models = [path.parent for path in sorted(place.rglob("saved_model.pb"))] if place.is_dir() else []
        if len(models) > 1:
            raise ConfigError(f"{place} holds {len(models)} SavedModels: name one, such as {models[-1]}")
        if models:
            return str(models[0])
    return None

"""The build step that enlarges images with a TensorFlow-Hub model, such as ESRGAN (x4)."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from packaging.version import parse as parse_version

from kit.config import SuperResolution
from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow
from kit.runtime.host import KAGGLE_INPUT


def enlarged(images: Iterable[np.ndarray], step: SuperResolution) -> Iterator[np.ndarray]:
    """Every (H, W, 1 or 3) uint8 image as (F·H, F·W, 3), in order; the model sees batches of equal shapes."""
    enlarge = load_model(step.model)
    batch: list[np.ndarray] = []
    for image in images:
        if batch and (len(batch) == step.batch_size or image.shape != batch[0].shape):
            yield from enlarge(np.stack(batch))
            batch = []
        batch.append(image)
    if batch:
        yield from enlarge(np.stack(batch))


@cache  # loaded once, not once a shard
def load_model(handle: str) -> Callable[[np.ndarray], np.ndarray]:
    """The model behind `handle` as a function: uint8 [B, H, W, 1 or 3] -> uint8 [B, F·H, F·W, 3].

    `handle` is a TensorFlow-Hub address or a folder with a SavedModel, maybe some levels down; an address whose model
    is mounted below /kaggle/input is taken from there. The model takes and gives float32 RGB in 0..255, as
    tfhub.dev/captain-pool/esrgan-tf2/1 does. Raises ConfigError, saying how to get it, when there is none.
    """
    tf, tensorflow_hub = import_tensorflow(), _import_hub()
    try:
        loaded = tensorflow_hub.load(find_saved_model(handle) or handle)
    except (OSError, ValueError, RuntimeError) as error:  # no such file, no network, a broken archive
        cached = os.environ.get("TFHUB_CACHE_DIR", "not set")
        raise ConfigError(
            f"super_resolution cannot load {handle!r} ({type(error).__name__}). Without internet, download the model "
            "elsewhere and give its folder (with saved_model.pb) as the step's `model`, or attach it to the kernel as "
            f"a Kaggle model, or unpack it where $TFHUB_CACHE_DIR ({cached}) is looked in"
        ) from error
    function = loaded if callable(loaded) else loaded.signatures["serving_default"]
    # Some exports take one image at a time, and say so in their signature.
    inputs = [signature.structured_input_signature for signature in loaded.signatures.values()]
    one_by_one = any(spec.shape.rank == 4 and spec.shape[0] == 1 for spec in tf.nest.flatten(inputs))

    def call(pixels: np.ndarray) -> np.ndarray:
        made = function(tf.constant(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), tf.float32))
        return np.asarray(next(iter(made.values())) if isinstance(made, dict) else made)

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        made = [call(pixels[n : n + 1]) for n in range(len(pixels))] if one_by_one else [call(pixels)]
        return np.clip(np.rint(np.concatenate(made)), 0, 255).astype(np.uint8)

    enlarge.__dict__["loaded"] = loaded  # a SavedModel's variables die with the object it was loaded as
    return enlarge


def _import_hub() -> Any:
    """TensorFlow-Hub, whose last version (0.16.1) needs of `pkg_resources`, gone with setuptools 82, one function."""
    stands_in = "pkg_resources" not in sys.modules
    if stands_in:
        sys.modules["pkg_resources"] = SimpleNamespace(parse_version=parse_version)  # type: ignore[assignment]
    try:
        import tensorflow_hub
    except ImportError as error:
        raise ConfigError("super_resolution needs tensorflow-hub: pip install 'kit[hub]'") from error
    finally:
        if stands_in:
            del sys.modules["pkg_resources"]
    return tensorflow_hub


def find_saved_model(handle: str, kaggle: Path = KAGGLE_INPUT) -> str | None:
    """The folder with `saved_model.pb` that `handle` means: itself or below it, or mounted on Kaggle; None otherwise.

    Raises ConfigError when there are several.
    """
    name = handle.rstrip("/").removesuffix("/1").rsplit("/", 1)[-1]
    for place in (Path(handle), *sorted(kaggle.glob(f"models/*/{name}")), kaggle / name):
        found: list[Any] = sorted(place.rglob("saved_model.pb")) if place.is_dir() else []
        if len(found) > 1:
            raise ConfigError(f"{place} holds {len(found)} SavedModels: name one, such as {found[-1].parent}")
        if found:
            return str(found[0].parent)
    return None

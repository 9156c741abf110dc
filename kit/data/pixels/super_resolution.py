"""The build step that enlarges images with a TensorFlow-Hub model, such as ESRGAN (x4)."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from kit.config import SuperResolution
from kit.runtime import tfhub
from kit.runtime.devices import import_tensorflow


def enlarged(images: Iterable[np.ndarray], step: SuperResolution) -> Iterator[np.ndarray]:
    """Each (H, W, 1 or 3) uint8 image as (F·H, F·W, 3), in order; images of one shape are enlarged in batches."""
    enlarge = load_model(step.model, _stamp(step.model))
    batch: list[np.ndarray] = []
    for image in images:
        if batch and (len(batch) == step.batch_size or image.shape != batch[0].shape):
            yield from enlarge(np.stack(batch))
            batch = []
        batch.append(image)
    if batch:
        yield from enlarge(np.stack(batch))


@cache  # loaded once, not once a shard
def load_model(handle: str, stamp: tuple[object, ...] = ()) -> Callable[[np.ndarray], np.ndarray]:
    """The model of a TensorFlow-Hub `handle` as a function: uint8 [B, H, W, 1 or 3] -> uint8 [B, F·H, F·W, 3].

    `handle` is what `tfhub.load` takes; with another `stamp` it is loaded again. The model maps float32 RGB in 0..255
    to the same, as tfhub.dev/captain-pool/esrgan-tf2/1 does. Raises ConfigError, with how to get it, without one.
    """
    tf, loaded = import_tensorflow(), tfhub.load(handle, "super_resolution")
    function = loaded if callable(loaded) else loaded.signatures["serving_default"]
    # The signatures of some exports take one image at a time.
    inputs = [signature.structured_input_signature for signature in loaded.signatures.values()]
    one_by_one = any(spec.shape.rank == 4 and spec.shape[0] == 1 for spec in tf.nest.flatten(inputs))

    def call(pixels: np.ndarray) -> np.ndarray:
        output = function(tf.constant(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), tf.float32))
        return np.asarray(next(iter(output.values())) if isinstance(output, dict) else output)

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        parts = [call(pixels[n : n + 1]) for n in range(len(pixels))] if one_by_one else [call(pixels)]
        return np.clip(np.rint(np.concatenate(parts)), 0, 255).astype(np.uint8)

    enlarge.__dict__["loaded"] = loaded  # a SavedModel's variables die with the object it was loaded as
    return enlarge


def _stamp(handle: str) -> tuple[object, ...]:
    """Names, sizes and times of the files of a model that is a folder: it may be exported again between two builds."""
    files = sorted(path for path in Path(handle).rglob("*") if path.is_file()) if Path(handle).is_dir() else []
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)

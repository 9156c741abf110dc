"""One Keras model in formats that need no kit: SavedModel, ONNX, LiteRT; written, read back and compared."""

import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import joblib
import keras
import numpy as np

from kit import files
from kit.errors import ConfigError, KitError
from kit.runtime import keras_private
from kit.runtime.devices import import_tensorflow, muted

TOLERANCE = 1e-4  # the largest difference of a probability
_GRAINS = (2, 5, 12, 30, 1000)  # places of noise along a side, of the images by which a file is compared
_SIDE = 160  # pixels of these, where a model takes any

Function = Callable[[np.ndarray], np.ndarray]  # images uint8 [B, H, W, C] -> probabilities float32 [B, labels]


class Format(NamedTuple):
    """A format: how a model is written, how what was written is run, how its path ends ("": a folder), what it needs.

    `packages` are those that writing and checking take.
    """

    write: Callable[[keras.Model, Path], None]
    ending: str
    load: Callable[[Path], Function]
    packages: tuple[str, ...] = ()


def require(name: str) -> None:
    """Raise ConfigError where a format cannot be written: by the backend, or for want of packages."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"--format {name} is written by Keras on TensorFlow, which loads what was trained on any "
            "backend: set KERAS_BACKEND=tensorflow, or restart the session"
        )
    if missing := [package for package in FORMATS[name].packages if find_spec(package) is None]:
        pip = " ".join(package.replace("_", "-") for package in missing)
        raise ConfigError(f"--format {name} needs packages that are not installed: pip install {pip}")


def write(model: keras.Model, name: str, path: Path) -> float:
    """Write a model in the format of that name, to a folder (SavedModel) or a file that replaces what is at `path`.

    Returns the largest difference of a probability from the model's, on random images. Raises ConfigError where it
    cannot be written, or comes out as another model, with the reason; then nothing is written.
    """
    require(name)
    kind = FORMATS[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=files.PART) as folder:
        part = Path(folder) / f"model{kind.ending}"
        try:
            _hold_constants(model)
            images = _images(model)
            expected = keras.ops.convert_to_numpy(
                model(images, training=False)
            )  # Keras exports models that were called
            with muted(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the converters' own, on NumPy
                kind.write(model, part)
                difference = float(np.abs(kind.load(part)(images) - expected).max())
        except (KitError, OSError):
            raise
        except Exception as error:  # converters and run-times raise anything over an operation that they do not know
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise ConfigError(f"--format {name} cannot hold this model ({reason}): choose another format") from error
        if not difference <= TOLERANCE:
            raise ConfigError(
                f"--format {name} cannot hold this model: what was written says something else, by up to "
                f"{difference:.2g}: choose another format"
            )
        part.replace(path)
    return difference


def _hold_constants(model: keras.Model) -> None:
    """Make what layers of normalisation were built with NumPy arrays: tf2onnx takes tensors for further inputs."""
    for layer in keras_private.layers_of(model, keras.layers.Normalization):
        layer.mean, layer.variance = (keras.ops.convert_to_numpy(each) for each in (layer.mean, layer.variance))


def _images(model: keras.Model) -> np.ndarray:
    """Noise from coarse to fine, uint8: several images, so that the size of a batch is seen to be open."""
    height, width = (side or _SIDE for side in model.input_shape[1:3])
    rng, channels = np.random.default_rng(0), model.input_shape[3]
    grains = [(min(grain, height), min(grain, width)) for grain in _GRAINS]
    noise = [rng.integers(0, 256, (*grain, channels), np.uint8) for grain in grains]
    return np.stack([cv2.resize(each, (width, height)).reshape(height, width, channels) for each in noise])


def write_saved_model(model: keras.Model, path: Path) -> None:
    """Write a SavedModel of one function, `serve`; Keras's own export would hold all weights twice (3.15)."""
    tf = import_tensorflow()
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8, name="images")
    module.serve = tf.function(lambda images: model(images, training=False), input_signature=[images])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def _by_keras(format: str) -> Callable[[keras.Model, Path], None]:
    return lambda model, path: model.export(path, format=format, verbose=False)


def _saved_model(path: Path) -> Function:
    loaded = import_tensorflow().saved_model.load(str(path))
    return lambda images: np.asarray(loaded.serve(images))


def _onnx(path: Path) -> Function:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def run_litert(path: Path) -> Function:
    """What a LiteRT file says, on all cores."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=joblib.cpu_count())
    (image,), (p,) = interpreter.get_input_details(), interpreter.get_output_details()

    allocated: list[tuple[int, ...]] = []  # the last shape that memory was made for

    def function(images: np.ndarray) -> np.ndarray:
        if allocated[-1:] != [images.shape]:
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            allocated[:] = [images.shape]
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        values: Any = interpreter.get_tensor(p["index"])
        return np.array(values)

    return function


FORMATS = {
    "savedmodel": Format(write_saved_model, "", _saved_model),
    "onnx": Format(_by_keras("onnx"), ".onnx", _onnx, ("onnx", "tf2onnx", "onnxruntime")),
    "litert": Format(_by_keras("litert"), ".tflite", run_litert, ("ai_edge_litert",)),
}

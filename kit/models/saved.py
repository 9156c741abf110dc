"""A model on disk: `model.json` (builder and arguments) and `model.weights.h5`, which load across Keras versions.

(A `.keras` file written by a newer Keras does not load in an older one.) The saved model holds its preprocessing and
never augmentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import kit
from kit import files
from kit.errors import DataError
from kit.lazy import lazy
from kit.models import registry
from kit.run import MODEL, WEIGHTS

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")


def save_model(model: keras.Model, spec: dict[str, Any], folder: Path) -> list[Path]:
    """Write the two files of a model that `registry.build(**spec)` built; returns their paths."""
    with files.replacing(folder / WEIGHTS) as part:
        model.save_weights(part)
    image_format = "uint8 images [batch, height, width, channels]; preprocessing is part of the model"
    versions = {"keras": keras.__version__, "kit": kit.__version__}
    files.write_json(folder / MODEL, {"build": spec, "input": image_format, "versions": versions})
    return [folder / MODEL, folder / WEIGHTS]


def load_model(folder: Path) -> keras.Model:
    """The model that `save_model` wrote; raises DataError when it is missing or its weights do not fit."""
    spec = files.read_json(folder / MODEL)["build"]
    model = registry.build(**{**spec, "shape": tuple(spec["shape"])})
    try:
        model.load_weights(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / WEIGHTS} does not hold the weights of {spec['name']}: {error}") from error
    return model

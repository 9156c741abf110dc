"""A model on disk: `model.json` (builder and arguments) and `model.weights.h5`, which load across Keras versions.

(A `.keras` file written by a newer Keras does not load in an older one.) The saved model holds its preprocessing and
never augmentation. Both files may come from someone else: loading them runs nothing but builders of kit, and reads
nothing but these files, unless that is trusted; a builder of one's own is in the run's folder of code.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

import kit
from kit import extensions, files
from kit.errors import DataError
from kit.lazy import lazy
from kit.models import registry
from kit.models.boosted import Boosted, BoostedModel
from kit.models.trust import require_own
from kit.run import BOOSTED, MODEL, WEIGHTS, Run

if TYPE_CHECKING:
    import h5py
    import keras
else:
    keras, h5py = lazy("keras"), lazy("h5py")

_HEADER = 2048  # bytes at most that HDF5 needs for a variable beside its values
_Side = Annotated[int, Field(ge=1, le=8192)]


class Build(BaseModel):
    """What `registry.build` takes; further fields are the builder's own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    shape: tuple[_Side, _Side, _Side]
    outputs: int = Field(ge=1, le=100_000)
    activation: Literal["sigmoid", "softmax"] = "sigmoid"


class SavedModel(BaseModel):
    """`model.json`: what the network is built from, whether trees follow it; its input in words, and versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    build: Build
    boosted: bool = False
    input: str = ""
    versions: dict[str, str] = {}


def save_model(model: keras.Model, spec: dict[str, Any], folder: Path, trees: Boosted | None = None) -> list[Path]:
    """Write the files of a model that `registry.build(**spec)` built, and of trees after it; returns their paths."""
    (folder / BOOSTED).unlink(missing_ok=True)  # of another head
    write_weights(model, folder / WEIGHTS)
    image_format = "uint8 images [batch, height, width, channels]; preprocessing is part of the model"
    versions = {"keras": keras.__version__, "kit": kit.__version__}
    boosted = {"boosted": True} if trees else {}
    files.write_json(folder / MODEL, {"build": spec, **boosted, "input": image_format, "versions": versions})
    if trees is None:
        return [folder / MODEL, folder / WEIGHTS]
    files.write_json(folder / BOOSTED, trees.model_dump(mode="json"))
    return [folder / MODEL, folder / WEIGHTS, folder / BOOSTED]


def write_weights(model: keras.Model, path: Path) -> None:
    """Write the weights of a model, and what its optimiser keeps; raises FullDisk."""
    optimizer = getattr(model, "optimizer", None)  # absent, or None, where a model is not compiled
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    size = sum(4 * math.prod(variable.shape) + _HEADER for variable in variables)
    with files.replacing(path) as part:
        files.require_space(part, size)  # a full disk ends HDF5 with a segmentation fault
        model.save_weights(part)


def load_model(folder: Path, trust: bool | str = False) -> keras.Model | BoostedModel:
    """The model that `save_model` wrote; raises DataError when it is missing or its weights or trees do not fit.

    Raises ConfigError for a network that is built from something outside the folder; `trust` allows all, or the one of
    that name.
    """
    remedy, content = _remedy(folder), _read(folder)
    build, spec = content.build, content.build.model_dump()
    require_own(folder / MODEL, spec, trust)
    extensions.add(Run(folder.parent).code_path, trusted=trust is True)
    _check_weights(folder / WEIGHTS, remedy)
    model = registry.build(**spec)
    try:
        model.load_weights(folder / WEIGHTS)
    except Exception as error:  # h5py and Keras raise nearly everything over files of another network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{folder / WEIGHTS} does not hold the weights of {build.name} ({reason}): {remedy}") from error
    return BoostedModel(model, _read_trees(folder, build.outputs)) if content.boosted else model


def read_build(folder: Path) -> Build:
    """What the model in a folder is built from; raises DataError for a file that is missing or damaged."""
    return _read(folder).build


def _read(folder: Path) -> SavedModel:
    return files.read_model(folder / MODEL, SavedModel, _remedy(folder))


def _read_trees(folder: Path, outputs: int) -> Boosted:
    trees = files.read_model(folder / BOOSTED, Boosted, _remedy(folder))
    if len(trees.trees) != outputs:
        raise files.damaged(folder / BOOSTED, f"it is of {len(trees.trees)} labels, not {outputs}", _remedy(folder))
    return trees


def _remedy(folder: Path) -> str:
    return f"restore it, or delete {folder} to train it again"


def _check_weights(path: Path, remedy: str) -> None:
    """Raise DataError for an HDF5 file that refers to other files, or declares arrays larger than itself."""
    if not path.is_file():
        raise DataError(f"{path} does not exist: {remedy}")
    total = 0

    def walk(group: h5py.Group) -> None:
        nonlocal total
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise files.damaged(path, f"{name} is a link", remedy)
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise files.damaged(path, f"{name} lies in another file", remedy)
                total += item.nbytes

    try:
        with h5py.File(path, "r") as file:
            walk(file)
    except (OSError, ValueError, KeyError, RuntimeError, RecursionError) as error:
        raise files.damaged(path, error, remedy) from error
    if total > path.stat().st_size:
        raise files.damaged(path, f"it declares {total:,} bytes in {path.stat().st_size:,}", remedy)

"""Pre-trained weights: looked for without a network first, checked, loaded by name and shape, and accounted for.

`none` · `imagenet` · the path of a weights file · `kaggle:OWNER/NAME/FILE` (a dataset) · `run:RUN` (another run of the
kit, of which the backbone is taken) · for a library's network `preset` or `saved_model`: the weights it comes with.
Random weights never stand in for what was asked for.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

import kit
from kit.errors import ConfigError, some
from kit.runtime.session import KAGGLE_INPUT, find_mount, mounted

ENOUGH = 0.9  # share of the parameters that weights must fill; the rest would stay random


@dataclass(frozen=True)
class Published:
    """ImageNet weights that somebody published: the file's usual name, its MD5 or SHA-256, and how it is downloaded.

    `download()` returns a model that holds them, checked by Keras against the same sum, or None: not to be had so.
    """

    file: str
    checksum: str | None  # None: nobody published one
    download: Callable[[], keras.Model] | None = None


@dataclass(frozen=True)
class Provided:
    """Weights that a library's network comes with, and the `word` of `model.weights` that asks for them.

    `load(shape)` returns a model for images of `shape` that holds them; None: the builder has put them in already.
    """

    word: str
    load: Callable[[tuple[int, int, int]], keras.Model] | None = None


def load_weights(
    model: keras.Model,
    source: str,
    name: str,
    published: Published | Provided | None,
    say: Callable[[str], None],
) -> None:
    """Fill the backbone of `model` (the whole, where it has none) from `source`; says how much of it was filled.

    Raises ConfigError when the weights cannot be had, are not those that were published, or fill less than `ENOUGH`.
    """
    if source == "none":
        return
    target = _part(model)
    if isinstance(published, Provided) and source == published.word:
        filled = {id(v) for v in target.variables}
        if published.load is not None:
            filled = copy_weights(published.load(target.input_shape[1:]), target)
    elif source == "imagenet":
        if not isinstance(published, Published):
            own = f"{published.word}, " if published else ""
            raise ConfigError(f"model {name} has no ImageNet weights: use model.weights={own}none, or a file")
        path = find_offline(published.file)
        if path is None:
            filled = copy_weights(_downloaded(name, published), target)
        else:
            if published.checksum:
                check_sum(path, published.checksum)
            filled = read_weights(path, target)
        source = f"imagenet ({path or 'downloaded'})"
    elif source.startswith("run:"):
        from kit.models import saved

        filled = copy_weights(_part(saved.load_model(trained_fold(source))), target)
    else:
        path = file_of(source)
        filled = read_weights(path, target)
    share = _share(filled, target)
    rest = sorted({v.path for v in target.variables if id(v) not in filled and _counts(v)})
    if share < ENOUGH:
        raise ConfigError(
            f"model.weights = {source} fills {share:.0%} of the parameters of {name}: these are the weights of another "
            f"network (not filled: {some(rest)}). A cut one takes model.arguments.until=LAYER"
        )
    missed = f"; not {some(rest)}" if rest else ""
    say(f"weights of {source}: {share:.1%} of the {target.count_params():,} parameters of its {target.name}{missed}")


def trained_fold(source: str) -> Path:
    """The folder with a trained model that `run:RUN` (its first fold) or `run:RUN/fold2` means."""
    folder = Path(source.removeprefix("run:"))
    found = folder if (folder / "model.json").is_file() else folder / "fold0"
    if not (found / "model.weights.h5").is_file():
        raise ConfigError(f"model.weights = {source}: {folder} has no trained fold (fold0/model.weights.h5)")
    return found


def file_of(source: str) -> Path:
    """The weights file that `kaggle:OWNER/NAME/FILE` or a path means; `FILE#sha256=HEX` is checked."""
    address, _, wanted = source.partition("#sha256=")
    if address.startswith("kaggle:"):
        owner, _, rest = address.removeprefix("kaggle:").partition("/")
        name, _, file = rest.partition("/")
        if not file:
            raise ConfigError(f"model.weights = {source}: write it as kaggle:OWNER/NAME/FILE")
        path = _kaggle_dataset(f"{owner}/{name}") / file
    else:
        path = Path(address)
        if not path.is_file():  # of the machine that pushed this kernel: sent along, it lies in a mount
            path = next(mounted(path.name), path)
    if not path.is_file():
        raise ConfigError(
            f"model.weights = {source}: {path} does not exist (imagenet, none, the path of a weights file, "
            "kaggle:OWNER/NAME/FILE or run:RUN)"
        )
    if wanted:
        check_sum(path, wanted)
    return path


def find_offline(file: str, mounts: Path = KAGGLE_INPUT) -> Path | None:
    """A published file that is here already: in $KIT_WEIGHTS, Keras's cache, `weights/` beside kit, a Kaggle mount."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    folders = [home / "models", Path(kit.__file__).parents[1] / "weights"]
    if os.environ.get("KIT_WEIGHTS"):
        folders.insert(0, Path(os.environ["KIT_WEIGHTS"]))
    here = [folder / file for folder in folders if (folder / file).is_file()]
    return next(iter(here), None) or next(mounted(file, mounts), None)


def to_send(source: str, name: str, published: Published | Provided | None, given: Sequence[Path]) -> list[Path]:
    """The files of weights that a machine without internet needs for `source`: `given`, and what is found here.

    Raises ConfigError where weights cannot be sent as files.
    """
    sent, names = list(given), {path.name for path in given}
    if absent := [path for path in given if not path.is_file()]:
        raise ConfigError(f"{absent[0]} does not exist: --weights takes files")
    if source == "imagenet" and isinstance(published, Published):
        found = None if published.file in names else find_offline(published.file)
        if published.file not in names and found is None:
            raise ConfigError(
                f"{name} starts from ImageNet weights, which a kernel without internet cannot download: give "
                f"{published.file} with --weights, or set model.weights=none"
            )
        return [*sent, *([found] if found else [])]
    if source.startswith("run:") or (isinstance(published, Provided) and source == published.word):
        raise ConfigError(f"model.weights = {source} is a folder, which cannot be sent to a kernel as a file")
    if source.startswith("kaggle:"):
        if len(source.removeprefix("kaggle:").split("/")) < 3:
            raise ConfigError(f"model.weights = {source}: write it as kaggle:OWNER/NAME/FILE")
    elif source != "none":
        path = Path(source.partition("#sha256=")[0])
        if path.name not in names and not path.is_file():
            raise ConfigError(f"model.weights = {source}: {path} does not exist")
        return [*sent, *([] if path.name in names else [path])]
    return sent


def check_sum(path: Path, wanted: str) -> None:
    """Raise ConfigError unless the file has that SHA-256 or, as Keras publishes them, MD5 (both as hex)."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256" if len(wanted) == 64 else "md5").hexdigest()
    if found != wanted.lower():
        raise ConfigError(f"{path} is not the published file (checksum {found}, not {wanted}): download it again")


def read_weights(path: Path, model: keras.Model) -> set[int]:
    """Fill `model` from a Keras weights file, old layouts too, where names and shapes agree; what fits not is left.

    Returns the `id()`s of the variables that were filled. Raises ConfigError when none was.
    """
    if path.name.endswith(".weights.h5"):
        filled, reason = _filled_by(lambda: model.load_weights(path, skip_mismatch=True), model)
    else:  # an old layout: layer by layer in order when all are there, as Keras named them otherwise; or else by name
        filled, reason = _filled_by(lambda: model.load_weights(path), model)
        if not filled:
            filled, reason = _filled_by(lambda: _assign(_old_layers(path), model), model)
    if not filled:
        raise ConfigError(f"{path} does not hold weights of such a network{reason}")
    return filled


def _filled_by(load: Callable[[], Any], model: keras.Model) -> tuple[set[int], str]:
    """The `id()`s of the variables that `load` fills, seen by what stays NaN; the others are left as they were."""
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in _floats(model)]
    for variable in _floats(model):
        variable.assign(np.full(variable.shape, np.nan))
    reason = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of every layer that does not fit; they are reported together
        try:
            load()
        except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
            reason = f": {str(error).splitlines()[0]}"
    filled = set()
    for variable, old in zip(_floats(model), before, strict=True):
        if np.isnan(keras.ops.convert_to_numpy(variable)).any():
            variable.assign(old)
        else:
            filled.add(id(variable))
    return filled, reason


def copy_weights(source: keras.Model, target: keras.Model) -> set[int]:
    """Fill `target` from the layers of `source` with the same name and shapes; returns as `read_weights` does."""
    return _assign({layer.name: layer.variables for layer in _leaves(source)}, target)


def _assign(given: Mapping[str, Sequence[Any]], model: keras.Model) -> set[int]:
    filled = set()
    for layer in _leaves(model):
        values = given.get(layer.name, [])
        if [tuple(value.shape) for value in values] == [tuple(v.shape) for v in layer.variables]:
            for value, variable in zip(values, layer.variables, strict=True):
                variable.assign(value)
                filled.add(id(variable))
    return filled


def _old_layers(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer of an old Keras file; a slash in a name, which Keras 3 has no more, is an underscore."""
    with h5py.File(path) as file:
        groups = {name.decode(): file[name] for name in file.attrs["layer_names"]}
        return {
            name.replace("/", "_"): [np.asarray(group[weight]) for weight in group.attrs["weight_names"]]
            for name, group in groups.items()
        }


def _part(model: keras.Model) -> keras.Model:
    from kit.models.registry import BACKBONE

    return next((layer for layer in model.layers if layer.name == BACKBONE), model)


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _counts(variable: Any) -> bool:
    return "float" in variable.dtype


def _floats(model: keras.Model) -> list[Any]:
    return [variable for variable in model.variables if _counts(variable)]


def _share(filled: set[int], model: keras.Model) -> float:
    sizes = {id(v): int(np.prod(v.shape)) for v in _floats(model)}
    return sum(size for key, size in sizes.items() if key in filled) / max(1, sum(sizes.values()))


def _downloaded(name: str, published: Published) -> keras.Model:
    reason = "nobody serves the file"
    if published.download is not None:
        try:
            return published.download()
        except Exception as error:  # Keras raises a plain Exception when a download fails
            reason = str(error).splitlines()[0]
    raise ConfigError(
        f"the ImageNet weights of {name} could not be downloaded ({reason}). Without internet, put {published.file} "
        "into $KIT_WEIGHTS or attach a dataset that holds it, or give its path as model.weights; model.weights=none "
        "starts from random ones"
    )


def _kaggle_dataset(slug: str) -> Path:
    """Where a dataset's files are: mounted, or fetched by kagglehub where that is installed and there is a network."""
    mounted = find_mount(slug)
    if mounted:
        return mounted
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(slug))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"model.weights: the Kaggle dataset {slug} is not mounted below {KAGGLE_INPUT}, and could not be fetched "
            f"({reason}): attach it to the kernel, or download the file and give its path"
        ) from error

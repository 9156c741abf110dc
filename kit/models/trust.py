"""Which models are built from kit's own code alone.

A run directory may come from someone else: opening it fetches nothing, unless that is trusted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import ConfigError

TRUST = "give --trust (in Python, trust=True) if you trust where the run comes from"
_CLASSES = ("class_name", "registered_name", "module")  # keys by which Keras's configs name code


def source_outside(name: str, arguments: Mapping[str, Any]) -> str | None:
    """The name of what a model reads or fetches that is not kit's: a preset, a folder, a SavedModel; None of most.

    It may be the model itself or the `backbone` among its arguments (of several, their names with a comma between
    them). A class of KerasHub is kit's, unless its config names further classes.
    """
    if name.startswith("hub/"):
        is_class = name.endswith(("Backbone", "ObjectDetector")) and name.count("/") == 1
        if not is_class or any(key in str(arguments) for key in _CLASSES):
            return name
    if name.startswith("tfhub:"):
        return name
    backbone, own = arguments.get("backbone"), arguments.get("backbone_arguments")
    names = backbone if isinstance(backbone, list | tuple) else [backbone] if backbone else []
    outside = [source_outside(str(each), own if isinstance(own, Mapping) else {}) for each in names]
    return ", ".join(each for each in outside if each) or None


def require_own(source: Path, build: Mapping[str, Any], trust: bool | str) -> None:
    """Raise ConfigError, naming the file that says so, for a model with a `source_outside`.

    `trust` allows all such models, or the one source of that name.
    """
    outside = source_outside(str(build["name"]), build)
    if outside is not None and trust is not True and trust != outside:
        raise ConfigError(f"{source} builds the model {outside!r} from files outside the run: {TRUST}")

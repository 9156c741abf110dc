"""Which models are built from kit's own code alone.

A run directory may come from someone else: opening it fetches nothing, unless that is trusted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit.errors import ConfigError

TRUST = "give --trust (in Python, trust=True) if you trust where the run comes from"
_CLASSES = ("class_name", "registered_name", "module")  # keys by which Keras's configs name code


def reaches_out(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether building this model reads or fetches something that is not kit's: a preset, a folder, a SavedModel.

    A class of KerasHub does not, unless its config names further classes.
    """
    if name.startswith("hub/"):
        is_class = name.endswith("Backbone") and name.count("/") == 1
        return not is_class or any(key in str(arguments) for key in _CLASSES)
    return name.startswith("tfhub:")


def require_own(source: Path, build: Mapping[str, Any], trust: bool | str) -> None:
    """Raise ConfigError, naming the file that says so, for a model that `reaches_out`.

    `trust` allows all such models, or the one of that name.
    """
    if trust is not True and trust != build["name"] and reaches_out(str(build["name"]), build):
        raise ConfigError(f"{source} builds the model {build['name']!r} from files outside the run: {TRUST}")

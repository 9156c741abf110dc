"""Modules that are imported when they are first used: a command that needs no SciPy does not wait for it."""

import importlib
from typing import Any


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") and attribute != "__version__":  # tools ask any object for such (inspect, pickle)
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """A stand-in for the module of that name, which is imported with the first of its attributes that is used."""
    return _Lazy(name)

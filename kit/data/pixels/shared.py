"""Process-wide settings, such as warnings filters, for a block that several threads may be in at the same time."""

import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal


class Shared:
    """A context manager that the first thread enters and the last one leaves; it can be nested, and entered again.

    `enter` returns the function that leaves. (`warnings.catch_warnings` in two threads leaves the filters of one to the
    other, for good.)
    """

    def __init__(self, enter: Callable[[], Callable[[], None]]) -> None:
        self._enter, self._lock, self._inside = enter, threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._leave = self._enter()
            self._inside += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._leave()


def add_warnings_filter(action: Literal["error", "ignore"], module: str = "") -> Callable[[], None]:
    """Filter the warnings of modules that match a regular expression; returns the function that takes this back."""
    warnings.filterwarnings(action, module=module)
    filters: Any = warnings.filters
    entry = filters[0]

    def remove() -> None:
        with suppress(ValueError):  # the filters were reset meanwhile
            filters.remove(entry)

    return remove

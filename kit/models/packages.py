"""Weights that pip packages bring, found where pip has installed them."""

import atexit
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

from kit.models.cards import Published

_copies = ExitStack()  # of files out of packages that are imported from an archive; kept until Python ends
atexit.register(_copies.close)


def find_in_package(published: Published) -> Path | None:
    """The published file in the installed package that brings it; None where it is not installed, or brings none."""
    if not published.package:
        return None
    try:
        file = resources.files(published.package.replace("-", "_")) / "models" / published.file
    except ModuleNotFoundError:
        return None
    return _copies.enter_context(resources.as_file(file)) if file.is_file() else None

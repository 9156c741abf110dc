"""Standard output and error that are closed, or that nobody reads any more (`kit models | head -3`)."""

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_closed() -> None:
    """Replace streams that were closed (`>&-`) by the null device: files opened later must not get their numbers."""
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)  # workers need them as much
        os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - it stays open as long as the process


def flush() -> None:
    """Write out what is buffered: raises OSError where that cannot be, which the end of Python would only mumble."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        discard()
        raise


def discard() -> None:
    """Send what streams that cannot be written to still hold, and all that follows, to the null device."""
    for stream in (sys.stdout, sys.stderr):
        if _failure(stream):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _failure(stream: TextIO) -> Exception | None:
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        return error
    return None

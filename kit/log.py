"""What the kit says while it works: `logging`, shown as plain lines on standard output.

A module says something with `log = logging.getLogger(__name__)` and `log.info(...)`. Nothing is shown until `show()` is
called, as the command line and `kit.run` do; a program of your own may configure the logger "kit" as it likes.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ROOT = logging.getLogger("kit")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)  # to what sys.stdout is now; flushed, so that a kernel's log shows it


def show() -> None:
    """Print what kit's loggers say, from INFO on; calling it again changes nothing.

    On a terminal that is not UTF-8, characters that it does not have are printed as `\\xe4`.
    """
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if not any(isinstance(handler, _Lines) for handler in _ROOT.handlers):
        _ROOT.addHandler(_Lines())
    _ROOT.setLevel(logging.INFO)
    _ROOT.propagate = False


@contextmanager
def timed(log: logging.Logger, stage: str) -> Iterator[None]:
    """After the block, say how long the stage took."""
    started = time.monotonic()
    yield
    log.info(f"{stage}: {time.monotonic() - started:.1f} s")


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """In the block, the loggers of these packages or modules say nothing below WARNING."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

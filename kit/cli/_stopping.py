"""How a command is stopped: by Ctrl-C, or the SIGTERM of a queue, a kernel or a container. Both mean the same.

A signal becomes a KeyboardInterrupt wherever Python is at that moment. That can be inside a destructor, or an import
that turns it into an error of its own; then it is raised again, or recognised by `requested`.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_PRESS = 1.0  # seconds in which a terminal, a shell and a `make` may each pass on the same Ctrl-C
_STOPPED = 130
LINE = "kit: stopped; run the same command again to continue"


class Stopping:
    """Whether a stop was requested, and when. `alone`: this process is the command's own, no notebook's."""

    def __init__(self, alone: bool) -> None:
        self.requested, self._since, self._alone = False, 0.0, alone

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: the first time an orderly end; if that takes too long for somebody, an immediate one."""
        if self.requested and time.monotonic() - self._since < _ONE_PRESS:
            return
        if self.requested and self._alone:
            leave(LINE)
        self.requested, self._since = True, time.monotonic()
        raise KeyboardInterrupt

    def on_lost_error(self, lost: Any) -> None:
        """In the place of `sys.unraisablehook`: what a destructor cannot raise is raised where the program goes on."""
        if issubclass(lost.exc_type, KeyboardInterrupt):
            self.requested = False
            _thread.start_new_thread(_interrupt_soon, ())  # here and now it would be lost again
        elif not self.requested:
            sys.__unraisablehook__(lost)

    def on_thread_error(self, lost: Any) -> None:
        """In the place of `threading.excepthook`: threads whose files and workers are gone have nothing to say."""
        if not self.requested:
            threading.__excepthook__(lost)


def _interrupt_soon() -> None:
    time.sleep(0.05)
    _thread.interrupt_main()


def leave(line: str = "", code: int = _STOPPED) -> None:
    """End the process at once; worker processes notice that and end, too."""
    try:
        if line:
            print(line, file=sys.stderr, flush=True)
    finally:
        os._exit(code)


@contextmanager
def stoppable(alone: bool) -> Iterator[Stopping]:
    """In the block, both signals raise KeyboardInterrupt; in a thread other than the main one, nothing changes."""
    stopping = Stopping(alone)
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    handlers = [signal.signal(number, stopping.on_signal) for number in _SIGNALS]
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = stopping.on_lost_error, stopping.on_thread_error
    try:
        yield stopping
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)


def end_quietly(code: int) -> None:
    """From here on the process only tidies up: a signal ends it at once, with the command's own exit code."""
    handler: Callable[[int, FrameType | None], None] = lambda *_: leave(code=code)  # noqa: E731
    for number in _SIGNALS:
        signal.signal(number, handler)

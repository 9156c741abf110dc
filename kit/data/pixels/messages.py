"""What libjpeg writes to stderr while it decodes: only there does OpenCV say that the data are corrupt."""

import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_STDERR = 2
# What the lines of libjpeg (jerror.h), libtiff, libpng and OpenCV begin with; others are not theirs.
_DECODERS = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Warning: unknown JFIF revision",
    "Invalid SOS parameters",
    "Inconsistent progression sequence",
    "Unknown Adobe color transform",
    "libpng",
    "JPEGLib: ",  # libtiff's
    "tempfile.tif: ",
    "[ WARN",
    "[ERROR",
)


class Messages:
    """Collects the messages of decoders, which several threads may use at the same time.

    While a decoder works, stderr leads to a file; the lines of anybody else are passed on.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._inside, self._alone = 0, False
        self._file = self._stderr = -1
        self._end = 0  # of what was read of the file
        self._lines: list[str] = []

    def during(self, decode: Callable[[], T]) -> tuple[T, list[str]]:
        """The result of `decode`, and the messages of its decoder. If there are any, it is called twice."""
        result, lines = self._run(decode, alone=False)
        return self._run(decode, alone=True) if lines else (result, lines)  # they may concern another thread's image

    def _run(self, decode: Callable[[], T], alone: bool) -> tuple[T, list[str]]:
        with self._turn:
            self._turn.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True  # nobody else begins
                self._turn.wait_for(lambda: not self._inside)
            before = len(self._lines) if self._inside else 0
            if not self._inside:
                self._redirect()
            self._inside += 1
        try:
            return decode(), self._heard(before)
        finally:
            with self._turn:
                self._inside -= 1
                self._alone = self._alone and not alone
                if not self._inside:
                    self._collect()
                    self._restore()
                self._turn.notify_all()

    def _heard(self, before: int) -> list[str]:
        with self._turn:
            self._collect()
            return self._lines[before:]

    def _redirect(self) -> None:
        self._lines, self._end, self._stderr = [], 0, -1
        with suppress(OSError):  # there may be no stderr
            self._stderr = os.dup(_STDERR)
        self._file = _temporary_file()
        os.dup2(self._file, _STDERR)

    def _restore(self) -> None:
        if self._stderr < 0:
            os.close(_STDERR)
        else:
            os.dup2(self._stderr, _STDERR)
            os.close(self._stderr)
        if self._file != _STDERR:  # as it is where there was no stderr
            os.close(self._file)

    def _collect(self) -> None:
        """Read what is new: lines of decoders are kept, others go to the real stderr."""
        text = os.pread(self._file, 2**20, self._end)
        self._end += len(text)
        others = b""
        for line in text.splitlines(keepends=True):
            words = line.decode(errors="replace")
            if words.startswith(_DECODERS):
                self._lines.append(words.strip())
            elif words.strip():
                others += line
        if others and self._stderr >= 0:
            with suppress(OSError):
                os.write(self._stderr, others)


def _temporary_file() -> int:
    """The descriptor of a new file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("messages")
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


MESSAGES = Messages()

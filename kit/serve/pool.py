"""Processes that read files (kit.serve.decoder): one that crashes or takes too long is replaced, and says so."""

import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.config import ImageSettings
from kit.errors import UnreadableImage
from kit.predict.predictor import Prepared
from kit.serve import decoder
from kit.serve.limits import Limits


@dataclass(frozen=True)
class Picture:
    """An image for people: width and height of the file's, JPEG or PNG, and of a grey DICOM its values as a PNG.

    `window` says what these are: `least`, `most`, `low`, `high`, `inverted` (kit.serve.decoder.picture).
    """

    width: int
    height: int
    shown: bytes
    values: bytes
    window: dict[str, Any] | None


class Pool:
    """Several processes that read files for a run's image settings. Threads may call it at the same time."""

    def __init__(self, image: ImageSettings, limits: Limits, workers: int) -> None:
        image = image.model_copy(update={"max_pixels": min(image.max_pixels, limits.pixels)})
        self._settings = {"image": image.model_dump(mode="json"), "seconds": limits.seconds}
        self._limits, self._closed, self.workers = limits, threading.Event(), workers
        self._idle: queue.LifoQueue[_Reader] = queue.LifoQueue()
        self._all = {_Reader(self._settings) for _ in range(workers)}
        for reader in self._all:
            self._idle.put(reader)
        threading.Thread(target=self._end_the_late, name="kit-readers", daemon=True).start()

    def prepare(self, data: bytes) -> Prepared:
        """The image in a file's bytes as the model takes it; raises UnreadableImage with the reason."""
        header, body = self._ask("prepare", data)
        width, height = header["size"]
        return Prepared(np.frombuffer(body, np.uint8).reshape(header["shape"]), (width, height))

    def picture(self, data: bytes) -> Picture:
        """The image in a file's bytes for people; raises UnreadableImage with the reason."""
        header, body = self._ask("picture", data)
        cut = header["shown"]
        return Picture(header["width"], header["height"], body[:cut], body[cut:], header["values"])

    def close(self) -> None:
        """End the processes."""
        self._closed.set()
        for reader in list(self._all):
            reader.end()

    def _ask(self, what: str, data: bytes) -> tuple[dict[str, Any], bytes]:
        reader = self._idle.get(timeout=self._limits.patience)
        reader = self._replaced(reader) if reader.ended else reader  # while it had nothing to do
        try:
            header, body = reader.ask(what, data, self._limits.seconds)
        except (EOFError, OSError) as error:
            late, reader = reader.late, self._replaced(reader)
            reason = f"it takes longer than {self._limits.seconds:.0f} seconds to read" if late else "it is damaged"
            raise UnreadableImage(reason) from error
        finally:
            self._idle.put(reader)
        if "error" in header:
            raise UnreadableImage(header["error"])
        return header, body

    def _replaced(self, reader: "_Reader") -> "_Reader":
        """Another one in the place of one that has ended; the same where all are to end."""
        reader.end()
        if self._closed.is_set():
            return reader
        self._all.discard(reader)
        another = _Reader(self._settings)
        self._all.add(another)
        return another

    def _end_the_late(self) -> None:
        """A thread's work: end each process that should have ended itself."""
        while not self._closed.wait(_LOOK):
            for reader in list(self._all):
                if time.monotonic() > reader.until:
                    reader.stop()


class _Reader:
    """A process, and the pipes to it. It is started at once, and ready some time after."""

    def __init__(self, settings: dict[str, Any]) -> None:
        path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        command = [sys.executable, "-m", decoder.__name__]
        environment = {**os.environ, "PYTHONPATH": path}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        self._process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, **pipes)
        self.late, self.until = False, math.inf  # `until`: when it has to have answered, by time.monotonic()
        decoder.send(self._streams[0], settings, b"")

    @property
    def _streams(self) -> Sequence[Any]:
        return self._process.stdin, self._process.stdout

    @property
    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def ask(self, what: str, data: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        """The answer; raises EOFError or OSError where the process ends, as it does when it takes too long (`late`)."""
        self.until = time.monotonic() + seconds + _START
        try:
            decoder.send(self._streams[0], {"do": what}, data)
            return decoder.receive(self._streams[1])
        except (EOFError, OSError):
            self.late |= self._process.wait() == -_ALARM
            raise
        finally:
            self.until = math.inf

    def end(self) -> None:
        """End the process now."""
        self._process.kill()
        for stream in self._streams:
            with suppress(OSError):
                stream.close()
        self._process.wait()

    def stop(self) -> None:
        """End the process, as it takes too long."""
        self.late = True
        self._process.kill()


_START = 10.0  # seconds that starting a process may take, in addition
_LOOK = 0.5  # seconds between looks for processes that take too long
_ALARM = 14  # SIGALRM

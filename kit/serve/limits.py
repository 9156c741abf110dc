"""How much a request may ask for, and what it is told when that is too much."""

import re
from dataclasses import dataclass

_PATH = re.compile(r"(?:[A-Za-z]:)?[/\\][^\s:'\"]+")
_PIXELS = re.compile(r"it declares ([\d,]+) pixels.*")
_FRAMES = re.compile(r"a DICOM with (\d+) frames.*")


@dataclass(frozen=True)
class Limits:
    """Of a request: bytes of its body and of what a zip in it holds, files of a zip. Of an image: pixels, seconds.

    `held` are the bytes of all bodies that are in memory at a time, `waiting` the requests; more are asked to come
    again. `patience`: the seconds that a body may take to arrive, and that its answer may take.
    """

    size: int = 100 * 2**20
    unpacked: int = 500 * 2**20
    files: int = 200
    pixels: int = 50_000_000
    seconds: float = 20.0
    held: int = 2**30
    waiting: int = 200
    patience: float = 300.0


def in_words(reason: str, limits: Limits) -> str:
    """Why a file cannot be read, for who sent it: without settings of the run, and without any path."""
    reason = _PIXELS.sub(rf"it has \1 pixels, more than the {limits.pixels:,} that are taken here", reason)
    reason = _FRAMES.sub(r"it has \1 frames: save one of them as a file of its own", reason)
    return _PATH.sub("…", reason)

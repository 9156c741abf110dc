"""Looking at image files: the work of one process. To start fast, it imports no TensorFlow, no pandas."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from kit.config import ImageSettings
from kit.data.pixels.arrays import reader
from kit.data.pixels.images import inspect, without_copies
from kit.data.pixels.remarks import counted
from kit.errors import UnreadableImage


class Look(NamedTuple):
    """Format, channels and size of an image file and a hash of its pixels; or the reason why it cannot be read.

    `remarks` are oddities of it.
    """

    path: str
    format: str | None = None
    channels: str | None = None
    width: int = 0
    height: int = 0
    pixels: str | None = None
    reason: str | None = None
    remarks: tuple[str, ...] = ()


def look(paths: list[str], root: Path, arrays: dict[str, Path], settings: ImageSettings) -> list[Look]:
    """A `Look` at each of some paths below `root`, in their order; `arrays` is what `arrays.unpacked` returned."""
    read, looks = reader(root, arrays), []
    for path in paths:
        try:
            with counted() as remarks:
                kind, channels, pixels = inspect(read(path), settings)
        except UnreadableImage as error:
            looks.append(Look(path, reason=str(error)))
            continue
        height, width = pixels.shape[:2]
        picture = without_copies(pixels)
        digest = hashlib.blake2b(f"{picture.shape}".encode(), digest_size=16)
        digest.update(picture.tobytes())
        looks.append(Look(path, kind, channels, width, height, digest.hexdigest(), None, tuple(remarks)))
    return looks

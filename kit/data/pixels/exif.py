"""TIFF directories (TIFF 6.0, section 2), which EXIF uses as well: just what decides how an image is shown."""

import struct
from collections.abc import Collection, Iterator
from mmap import mmap
from typing import NamedTuple

import numpy as np

# The types of unsigned integers, and their bytes.
_FORMATS = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 13: ("I", 4), 16: ("Q", 8), 18: ("Q", 8)}
_ORIENTATION, _KIND = 0x0112, 254
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType
_MOST_PAGES = 100  # that are counted


class Directory(NamedTuple):
    """A page of a TIFF, or EXIF: tag -> its unsigned integers (None where they lie outside of the data)."""

    tags: dict[int, tuple[int, ...] | None]
    entries: dict[int, bytes]  # as they stand in the file
    start: int  # where it stands
    whole: bool  # whether all entries lie within the data

    def value(self, tag: int, default: int = 0) -> int:
        """The first integer of a tag."""
        return (self.tags.get(tag) or (default,))[0]

    @property
    def is_page(self) -> bool:
        """Whether this is a picture of its own, neither a smaller copy of another one nor a mask."""
        return not self.value(_KIND) & _REDUCED_OR_MASK


def directories(data: bytes | mmap) -> Iterator[Directory]:
    """The directories of a TIFF, at most 100, or of an EXIF block; none where the data are something else."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    big = struct.unpack(f"{order}H", data[2:4])[0] == 43
    (offset,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        directory, offset = _directory(data, offset, order, big)
        yield directory


def _directory(data: bytes | mmap, offset: int, order: str, big: bool) -> tuple[Directory, int]:
    """A directory, and the offset of the next one (0: none)."""
    following = order + ("Q" if big else "I")  # an offset
    entry = struct.Struct(order + ("HHQ" if big else "HHI"))
    inline, width = (8, 8) if big else (4, 2)
    tags: dict[int, tuple[int, ...] | None] = {}
    entries: dict[int, bytes] = {}
    start, size = offset + width, entry.size + inline
    if start > len(data):
        return Directory(tags, entries, offset, False), 0
    count = int.from_bytes(data[offset:start], "little" if order == "<" else "big")
    held = min(count, (len(data) - start) // size)
    for n in range(held):
        at = start + n * size
        tag, kind, values = entry.unpack_from(data, at)
        entries[tag] = data[at : at + size]
        if kind not in _FORMATS:
            continue
        code, length = _FORMATS[kind]
        at, length = at + size - inline, values * length
        if length > inline:
            (at,) = struct.unpack_from(following, data, at)
        inside = at + length <= len(data)
        tags[tag] = tuple(struct.unpack_from(f"{order}{values}{code}", data, at)) if inside else None
    end = start + held * size
    more = end + inline <= len(data) and held == count
    directory = Directory(tags, entries, offset, held == count)
    return directory, struct.unpack_from(following, data, end)[0] if more else 0


def page_alone(data: bytes, page: Directory, tags: Collection[int]) -> bytes:
    """A TIFF that begins with this page, has no other, and of its entries those with these tags."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    kept = [entry for tag, entry in page.entries.items() if tag in tags]
    count, offset, first = ("Q", "Q", 8) if big else ("H", "I", 4)
    directory = struct.pack(order + count, len(kept)) + b"".join(kept) + struct.pack(order + offset, 0)
    result = bytearray(data)
    result[first : first + struct.calcsize(f"={offset}")] = struct.pack(order + offset, page.start)
    result[page.start : page.start + len(directory)] = directory
    return bytes(result)


def orientation(exif: bytes) -> int:
    """How the pixels are turned, 1 (upright) to 8 (EXIF 2.32, 4.6.4), in a whole block; 1 in one that does not say."""
    first = next(directories(exif.removeprefix(b"Exif\0\0")), None)
    return first.value(_ORIENTATION, 1) if first else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The image as it is shown: (height, width, channels), turned and mirrored as EXIF says, if it does."""
    if not 2 <= orientation <= 8:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):  # after the swap
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)

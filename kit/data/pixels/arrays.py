"""Images that are rows of an array in a NumPy `.npz`: their path is `file.npz/array/row`. Nothing is ever unpickled.

The middle of a `.npz`, a zip file, cannot be read quickly. So arrays are unpacked to files before their images are read
(streamed: memory holds one buffer), and mapped.
"""

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from kit.errors import DataError, UnreadableImage
from kit.files import PART, below

_PATH = re.compile(r"(?P<npz>.+\.npz)/(?P<array>[^/]+)/(?P<row>\d+)")
_MAGIC = b"\x93NUMPY"
ReadBytes = Callable[[str], bytes]


class Header(NamedTuple):
    """Shape and dtype of an array in a `.npz`, and the CRC-32 of its bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    crc: int


def lies_in_array(path: str) -> bool:
    """Whether a path of the example table names a row of an array in a `.npz`."""
    return _PATH.fullmatch(path) is not None


def is_array(data: bytes) -> bool:
    """Whether a file starts as a `.npy`."""
    return data.startswith(_MAGIC)


def read_array(data: bytes) -> np.ndarray:
    """The (height, width, 1 or 3) pixels of a `.npy` file's bytes; raises UnreadableImage unless they are uint8."""
    try:
        return as_pixels(np.load(io.BytesIO(data), allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise UnreadableImage(f"not a .npy that can be read: {error}") from error


def as_pixels(array: np.ndarray) -> np.ndarray:
    """A uint8 array (height, width) or (height, width, 1 or 3) with three axes; raises UnreadableImage for others."""
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        expected = "uint8, (height, width) or (height, width, 1 or 3)"
        raise UnreadableImage(f"an array of {array.dtype}, shape {array.shape}; expected {expected}")
    return pixels


def headers(npz: Path) -> dict[str, Header]:
    """Name -> header of all arrays in a `.npz`; raises DataError for other files and arrays of pickled objects."""
    try:
        with zipfile.ZipFile(npz) as archive:
            arrays = {}
            for info in archive.infolist():
                with archive.open(info) as member:
                    shape, _, dtype = _read_header(member)
                if dtype.hasobject:
                    raise DataError(f"{npz}: {info.filename} holds pickled objects, which are never unpacked")
                arrays[info.filename.removesuffix(".npy")] = Header(shape, dtype, info.CRC)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {npz} as .npz: {error}") from error
    return arrays


def read_small(npz: Path, name: str) -> np.ndarray:
    """A whole array, such as labels; raises DataError when it is broken or holds pickled objects."""
    try:
        with np.load(npz, allow_pickle=False) as arrays:
            return arrays[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {name} of {npz}: {error}") from error


@contextmanager
def unpacked(root: Path, paths: Iterable[str], scratch: Path) -> Iterator[dict[str, Path]]:
    """The arrays that `paths` name as files in `scratch`, by `file.npz/array`; they are removed when the block ends."""
    matches = (_PATH.fullmatch(path) for path in paths)
    arrays = sorted({(match["npz"], match["array"]) for match in matches if match})
    files = {f"{npz}/{array}": scratch / f"{PART}array-{n}.npy" for n, (npz, array) in enumerate(arrays)}
    try:
        for (npz, array), file in zip(arrays, files.values(), strict=True):
            with (
                zipfile.ZipFile(root / npz) as archive,
                archive.open(f"{array}.npy") as member,
                file.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, 2**20)
        yield files
    except zipfile.BadZipFile as error:
        raise DataError(f"a .npz below {root} is damaged: {error}") from error
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def reader(root: Path, unpacked: dict[str, Path]) -> ReadBytes:
    """A function from a path of the example table to the bytes of an image file."""

    def read(path: str) -> bytes:
        match = _PATH.fullmatch(path) if unpacked else None
        if match is None:
            return below(root, path).read_bytes()
        buffer = io.BytesIO()
        np.save(buffer, _mapped(unpacked[f"{match['npz']}/{match['array']}"])[int(match["row"])], allow_pickle=False)
        return buffer.getvalue()

    return read


@cache
def _mapped(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)

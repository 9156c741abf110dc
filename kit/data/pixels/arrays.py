"""Images that are rows of an array in a NumPy `.npz`: their path is `file.npz/array/row`. Nothing is ever unpickled.

The middle of a `.npz`, a zip file, cannot be read quickly. So arrays are unpacked to files before their images are read
(streamed: memory holds one buffer), and mapped.
"""

import errno
import io
import math
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from kit.data.pixels.reading import read_file, require_size
from kit.errors import DataError, UnreadableImage
from kit.files import PART, below

_PATH = re.compile(r"(?P<npz>.+\.npz)/(?P<array>[^/]+)/(?P<row>\d+)")
_MAGIC = b"\x93NUMPY"
_SMALL = 2**30  # bytes
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


def read_array(data: bytes, max_pixels: int = 2**30) -> np.ndarray:
    """The (height, width, 1 or 3) pixels of a `.npy` file's bytes; raises UnreadableImage unless they are uint8."""
    try:
        file = io.BytesIO(data)
        shape, dtype = _read_header(file)
        if math.prod(shape) * dtype.itemsize != len(data) - file.tell():  # before memory is taken
            held = len(data) - file.tell()
            raise ValueError(f"its header says {shape} of {dtype}, but {held} bytes follow")
        file.seek(0)
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # a header is parsed as Python
        raise UnreadableImage(f"not a .npy that can be read: {error}") from error
    pixels = as_pixels(array)
    require_size(pixels.shape[0] * pixels.shape[1], max_pixels)
    return pixels


def as_pixels(array: np.ndarray) -> np.ndarray:
    """A uint8 array (height, width) or (height, width, 1 or 3) with three axes; raises UnreadableImage for others."""
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        expected = "uint8, (height, width) or (height, width, 1 or 3)"
        raise UnreadableImage(f"an array of {array.dtype}, shape {array.shape}; expected {expected}")
    return pixels


def headers(npz: Path) -> dict[str, Header]:
    """Name -> header of all arrays in a `.npz`; raises DataError for other files and arrays of pickled objects."""
    with _npz_errors(f"cannot read {npz} as .npz"), zipfile.ZipFile(npz) as archive:
        return {info.filename.removesuffix(".npy"): _header(archive, info, npz) for info in archive.infolist()}


def read_small(npz: Path, name: str) -> np.ndarray:
    """A whole array, such as labels, of at most 1 GiB; raises DataError when it is broken or holds pickled objects."""
    with _npz_errors(f"cannot read {name} of {npz}"), zipfile.ZipFile(npz) as archive:
        info = archive.getinfo(f"{name}.npy")
        _header(archive, info, npz)
        if info.file_size > _SMALL:
            raise DataError(f"{name} of {npz} takes {info.file_size / 2**30:.1f} GiB, too much for labels")
        return np.load(io.BytesIO(archive.read(info)), allow_pickle=False)


@contextmanager
def unpacked(root: Path, paths: Iterable[str], scratch: Path) -> Iterator[dict[str, Path]]:
    """The arrays that `paths` name as files in `scratch`, by `file.npz/array`; they are removed when the block ends.

    Raises DataError for a `.npz` that is damaged, holds something else than its headers say, or does not fit there.
    """
    matches = (_PATH.fullmatch(path) for path in paths)
    arrays = sorted({(match["npz"], match["array"]) for match in matches if match})
    files = {f"{npz}/{array}": scratch / f"{PART}array-{n}.npy" for n, (npz, array) in enumerate(arrays)}
    try:
        for (npz, array), file in zip(arrays, files.values(), strict=True):
            with _npz_errors(f"cannot read {array} of {root / npz}"), zipfile.ZipFile(root / npz) as archive:
                info = archive.getinfo(f"{array}.npy")
                _header(archive, info, root / npz)
                if info.file_size > (free := shutil.disk_usage(scratch).free):
                    raise DataError(
                        f"{array} of {root / npz} takes {info.file_size / 2**30:.1f} GiB unpacked, but "
                        f"{free / 2**30:.1f} GiB are free in {scratch}: free some space, or choose another folder"
                    )
                with archive.open(info) as member, file.open("wb") as out:
                    shutil.copyfileobj(member, out, 2**20)
        yield files
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)


def reader(root: Path, unpacked: dict[str, Path]) -> ReadBytes:
    """A function from a path of the example table to the bytes of an image file.

    It raises UnreadableImage for what is no regular file, and for a row that an array does not have. Its maps of the
    unpacked arrays end with it: the next build unpacks other arrays to files of the same names.
    """
    mapped = cache(lambda name: np.load(unpacked[name], mmap_mode="r", allow_pickle=False))

    def read(path: str) -> bytes:
        match = _PATH.fullmatch(path) if unpacked else None
        if match is None:
            return read_file(below(root, path))
        array, row = mapped(f"{match['npz']}/{match['array']}"), int(match["row"])
        if array.ndim == 0 or row >= len(array):
            raise UnreadableImage(f"an array of shape {array.shape} has no row {row}")
        buffer = io.BytesIO()
        np.save(buffer, array[row], allow_pickle=False)
        return buffer.getvalue()

    return read


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, npz: Path) -> Header:
    """The header of an array; raises DataError for pickled objects, and unless it has as many bytes as it should."""
    with archive.open(info) as member:
        shape, dtype = _read_header(member)
        held = info.file_size - member.tell()
    if dtype.hasobject:
        raise DataError(f"{npz}: {info.filename} holds pickled objects, which are never unpacked")
    if math.prod(shape) * dtype.itemsize != held:
        raise DataError(f"{npz}: the header of {info.filename} says {shape} of {dtype}, but {held} bytes follow")
    return Header(shape, dtype, info.CRC)


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    if any(length < 0 for length in shape):
        raise ValueError(f"a shape of {shape}")
    return shape, dtype


@contextmanager
def _npz_errors(what: str) -> Iterator[None]:
    """Whatever the parsers of zip files and of headers (which are Python) raise is a DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"{what}: {error}") from error
    except KeyError as error:
        raise DataError(f"{what}: there is no such array") from error
    except Exception as error:
        raise DataError(f"{what}: {error or type(error).__name__}") from error

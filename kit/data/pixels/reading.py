"""The bytes of image files. Only regular files are opened: a FIFO would block, a device may do anything."""

import errno
import stat
from pathlib import Path

from kit.errors import UnreadableImage

_NOT_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the fault of this process, not of a file
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; raises UnreadableImage, with the reason, for everything else."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind != stat.S_IFREG:
            raise UnreadableImage(f"{_KINDS.get(kind, 'something special')}, not a file")
        return path.read_bytes()
    except OSError as error:
        if error.errno in _NOT_THE_FILE:
            raise
        raise UnreadableImage(error.strerror or str(error)) from error
    except MemoryError as error:
        raise UnreadableImage("the file is larger than the free memory") from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableImage(f"not the name of a file: {error}") from error


def require_size(pixels: int, at_most: int) -> None:
    """Raise UnreadableImage if an image has more than `at_most` pixels: before memory is taken for them."""
    if pixels > at_most:
        raise UnreadableImage(
            f"it declares {pixels:,} pixels, more than image.max_pixels = {at_most:,}: shrink it, or raise the setting"
        )

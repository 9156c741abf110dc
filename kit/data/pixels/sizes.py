"""Width and height of image files as they are shown, from their headers: no pixel is decoded."""

import mmap
from collections.abc import Callable
from pathlib import Path

from kit.data.pixels import dicom, elements, formats, jpeg
from kit.errors import UnreadableImage
from kit.parallel import count_workers, in_processes

_HEAD = 2**16  # bytes, which hold the header of most JPEGs
_AT_ONCE = 500  # images per call of a worker

Size = tuple[int, int]  # width and height in pixels


def sizes_of(paths: list[Path]) -> list[Size | None]:
    """The sizes of image files, in order; None of those that are no images, which decoding will reject."""
    calls = [(start, paths[start : start + _AT_ONCE]) for start in range(0, len(paths), _AT_ONCE)]
    sizes = dict(in_processes(_sizes, calls, count_workers(len(paths) // 10)))
    return [size for start in sorted(sizes) for size in sizes[start]]


def _sizes(start: int, paths: list[Path]) -> tuple[int, list[Size | None]]:
    return start, [_size_or_none(path) for path in paths]


def _size_or_none(path: Path) -> Size | None:
    try:
        return size_of(path)
    except UnreadableImage:
        return None


def size_of(path: Path) -> Size:
    """Width and height of the image in a file as it is decoded, turned as EXIF says; raises UnreadableImage."""
    try:
        if not path.is_file():
            raise UnreadableImage("not a file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if dicom.is_dicom(head):
                return _of_dicom(path)
            if jpeg.is_jpeg(head):
                return _of_jpeg(head, file.read)
            if len(head) < _HEAD:
                return formats.size(head)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return formats.size(data)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error


def size_in(data: bytes) -> Size:
    """As `size_of`, of the image in a file's bytes."""
    if dicom.is_dicom(data):
        return _of_dicom(data)
    return _of_jpeg(data, lambda: b"") if jpeg.is_jpeg(data) else formats.size(data)


def _of_dicom(source: Path | bytes) -> Size:
    with dicom.opened(source, ["Rows", "Columns"]) as dataset:
        height, width = (elements.short(dataset, keyword) for keyword in ("Rows", "Columns"))
    if not (width and height and width > 0 and height > 0):
        raise UnreadableImage("a DICOM without a size in its header")
    return width, height


def _of_jpeg(head: bytes, rest: Callable[[], bytes]) -> Size:
    try:
        header = jpeg.parse(head)
    except UnreadableImage:  # cut off here: metadata, such as thumbnails, may be long
        header = jpeg.parse(head + rest())
    return (header.height, header.width) if 5 <= header.orientation <= 8 else (header.width, header.height)

"""Images of all formats but JPEG and DICOM: one page, of any depth of values, upright.

Metadata reject nothing: PNGs are read without them, and Pillow's remarks are not heeded. What concerns pixels is an
error of Pillow, or is looked up here: Pillow would read a TIFF whose directory is cut off. It also drops the low bytes
of colours of 16 bit; those, and TIFFs of more than 8 bit, are decoded by OpenCV.
"""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from kit.config import ImageSettings
from kit.data.pixels.exif import Directory, directories, orientation, page_alone, upright
from kit.data.pixels.messages import MESSAGES
from kit.data.pixels.reading import require_size
from kit.data.pixels.shared import Shared, add_warnings_filter
from kit.data.pixels.values import shown
from kit.errors import UnreadableImage

# The formats in which medical images come, by their first bytes. Others are not tried: some would run a program.
_KINDS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WEBP"}
_KINDS |= {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
_KINDS |= {b"\xff\x4f\xff\x51": "JPEG2000", b"\0\0\0\x0cjP": "JPEG2000", b"Pf": "PPM", b"PF": "PPM"}
_KINDS |= {b"P%d" % n: "PPM" for n in range(1, 7)}
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _FORMAT = 256, 257, 258, 262, 277, 284, 339  # tags of a TIFF
_COMPRESSION, _ORIENTATION = 259, 274
# What decides pixels: also strips and tiles, palettes, predictors, and the tables of JPEG and fax.
_PIXELS = {
    _WIDTH,
    _HEIGHT,
    _BITS,
    _COMPRESSION,
    _PHOTOMETRIC,
    266,
    273,
    _SAMPLES,
    278,
    279,
    _PLANES,
    292,
    293,
    317,
    320,
}
_PIXELS |= {322, 323, 324, 325, 332, 338, _FORMAT, 340, 341, 347, *range(512, 522), 529, 530, 531, 532}
_NO_IMAGE = "not an image file that kit reads, or its header is cut off"
_OTHERS = {b"version https://git-lfs": "a pointer of Git LFS, not the file: fetch it with `git lfs pull`"}
_OTHERS |= dict.fromkeys(
    [b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"], "a web page, not an image: download it again"
)
_OTHERS |= dict.fromkeys([b"ftyphei", b"ftypmif1", b"ftypavif"], "HEIC or AVIF, which kit does not read: convert it")
_ONE_IMAGE = "not one image: split the file, or leave it out"


class Picture(NamedTuple):
    """Format and channels, such as PNG and RGBA, and (height, width, 1 or 3) uint8 pixels."""

    format: str
    channels: str
    pixels: np.ndarray


def read(data: bytes, settings: ImageSettings) -> Picture:
    """The image in a file's bytes, upright; raises UnreadableImage with the reason. Transparency is not used.

    Values of more than 8 bit become grey levels or colours as `values.shown` says.
    """
    with _reasons():
        kind = _kind(data[:40])
        if kind == "TIFF":
            return _tiff(data, settings)
        if kind == "PNG":
            return _png(data, settings)
        with _pillow(data, kind, settings) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1:
                raise UnreadableImage(f"{pages} pages, {_ONE_IMAGE}")
            image.load()
            exif = image.info.get("exif", b"") if kind == "WEBP" else b""
            return Picture(kind, image.mode, upright(_pixels(image, settings), orientation(exif)))


def size(data: bytes | mmap) -> tuple[int, int]:
    """Width and height of the image in a file's bytes, upright; reads its headers alone.

    Raises UnreadableImage with the reason. An image that has a size may still be one that cannot be decoded.
    """
    with _reasons():
        kind = _kind(data[:40])
        turned = 1
        if kind == "TIFF":
            page = next((page for page in directories(data) if page.is_page), None)
            if page is None:
                raise UnreadableImage("a TIFF without a page")
            width, height, turned = page.value(_WIDTH), page.value(_HEIGHT), page.value(_ORIENTATION, 1)
        elif kind == "PNG":
            width, height = struct.unpack_from(">II", data, 16)
            for name, start, end in _chunks(data):
                turned = orientation(data[start + 8 : end - 4]) if name == b"eXIf" else turned
        else:
            with _PILLOW, Image.open(io.BytesIO(data[:]), formats=(kind,)) as image:
                width, height = image.size
                turned = orientation(image.info.get("exif", b"")) if kind == "WEBP" else 1
        if width < 1 or height < 1:
            raise UnreadableImage(f"its header says {width} x {height} pixels")
        return (height, width) if 5 <= turned <= 8 else (width, height)


def _kind(start: bytes) -> str:
    """The format of a file that starts so; raises UnreadableImage for one that is none of an image."""
    if not start:
        raise UnreadableImage("the file is empty")
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
    if kind is None:
        raise UnreadableImage(next((why for magic, why in _OTHERS.items() if magic in start), _NO_IMAGE))
    return kind


def _png(data: bytes, settings: ImageSettings) -> Picture:
    data, exif, pages = _without_metadata(data)
    if pages > 1:
        raise UnreadableImage(f"{pages} pages, {_ONE_IMAGE}")
    with _pillow(data, "PNG", settings) as image:
        image.load()
        is_deep = data[24] == 16 and len(image.getbands()) > 1  # byte 24 is the depth
        pixels = _deep(data, settings) if is_deep else _pixels(image, settings)
        return Picture("PNG", image.mode, upright(pixels, orientation(exif)))


def _without_metadata(data: bytes) -> tuple[bytes, bytes, int]:
    """A PNG of its critical chunks alone, its EXIF block, and how many images it is an animation of (1: of none).

    Where the chunks are cut off, the rest stays as it is, for the decoder to refuse.
    """
    parts, rest, exif, pages = [data[:8]], 8, b"", 1
    for name, start, end in _chunks(data):
        if name[:1].isupper():
            parts.append(data[start:end])
        elif name == b"eXIf":
            exif = data[start + 8 : end - 4]
        elif name == b"acTL" and end - start == 20:
            pages = int.from_bytes(data[start + 8 : start + 12], "big")
        rest = len(data) if name == b"IEND" else end
    return b"".join([*parts, data[rest:]]), exif, pages


def _chunks(data: bytes | mmap) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG that are whole, to the one that ends it: name, start and end."""
    start, name = 8, b""
    while start + 12 <= len(data) and name != b"IEND":
        (length,) = struct.unpack_from(">I", data, start)
        name, end = data[start + 4 : start + 8], start + 12 + length
        if end > len(data) or not name.isalpha():
            return
        yield name, start, end
        start = end


def _tiff(data: bytes, settings: ImageSettings) -> Picture:
    pages = [*directories(data)]
    if (count := sum(page.is_page for page in pages)) > 1:
        raise UnreadableImage(f"{count} pages, {_ONE_IMAGE}")
    page = next((page for page in pages if page.is_page), pages[0] if pages else None)
    if page is None or not page.whole or any(page.tags.get(tag, ()) is None for tag in _PIXELS):
        raise UnreadableImage("the TIFF is truncated: its directory is cut off")
    turned = page.value(_ORIENTATION, 1)
    if len(pages) > 1 or not page.entries.keys() <= _PIXELS:
        data = page_alone(data, page, _PIXELS)
    require_size(page.value(_WIDTH) * page.value(_HEIGHT), settings.max_pixels)
    samples = page.value(_SAMPLES, 1)
    if page.value(_BITS, 1) > 8 or page.value(_FORMAT, 1) != 1:
        if samples > 1 and page.value(_PLANES, 1) != 1:
            raise UnreadableImage("a TIFF of more than 8 bit with each colour apart, which kit does not read")
        pixels = _deep(data, settings)
        if page.value(_PHOTOMETRIC, 1) == 0 and page.value(_BITS, 1) > 8:  # white is zero; OpenCV turns 8 bit itself
            pixels = 255 - pixels
        return Picture("TIFF", _depth(page), upright(pixels, turned))
    with _pillow(data, "TIFF", settings) as image:
        if page.value(_COMPRESSION, 1) == 1:
            image.load()
        else:
            MESSAGES.during(image.load)  # libtiff's
        return Picture("TIFF", image.mode, upright(_pixels(image, settings), turned))


def _depth(page: Directory) -> str:
    kind = {1: "unsigned", 2: "signed", 3: "float"}.get(page.value(_FORMAT, 1), "unknown")
    return f"{page.value(_SAMPLES, 1)} x {page.value(_BITS, 1)} bit {kind}"


def _deep(data: bytes, settings: ImageSettings) -> np.ndarray:
    """The pixels of an image whose values have more than 8 bit."""
    buffer = np.frombuffer(data, np.uint8)
    values, _ = MESSAGES.during(lambda: cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED))
    if values is None:
        raise UnreadableImage("its values of more than 8 bit cannot be decoded: truncated, corrupt, or a rare kind")
    values = values if values.ndim == 3 else values[..., None]
    if values.shape[2] not in (1, 3, 4):
        raise UnreadableImage(f"{values.shape[2]} channels of more than 8 bit, which kit does not read")
    values = values if values.shape[2] == 1 else values[..., 2::-1]  # OpenCV's order is BGR; no transparency
    return shown(np.ascontiguousarray(values), settings.percentiles)


def _pixels(image: Image.Image, settings: ImageSettings) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        return shown(np.asarray(image)[..., None], settings.percentiles)
    grey = image.mode in ("1", "L")
    image.info.pop("transparency", None)  # it is not used, and Pillow warns of a palette's
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


@contextmanager
def _pillow(data: bytes, kind: str, settings: ImageSettings) -> Iterator[Image.Image]:
    with _PILLOW, Image.open(io.BytesIO(data), formats=(kind,)) as image:
        require_size(image.width * image.height, settings.max_pixels)
        yield image


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a decoder raises over a file is an UnreadableImage."""
    try:
        yield
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(_NO_IMAGE) from error
    except MemoryError as error:
        raise UnreadableImage("it does not fit in memory: lower image.max_pixels, or the workers") from error
    except Exception as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error


def _settings_of_pillow() -> Callable[[], None]:
    """Let Pillow keep its remarks, and check what it decodes; returns the function that ends this."""
    remove_filter = add_warnings_filter("ignore", r"PIL\b")
    limit, lenient = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS = None  # image.max_pixels is the limit here
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # whatever a notebook has set

    def end() -> None:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, lenient
        remove_filter()

    return end


_PILLOW = Shared(_settings_of_pillow)

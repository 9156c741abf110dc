"""Any image file -> uint8 array; resizing; encoding. The one place that decodes pixels when records are built."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from kit.config import DicomSettings, ImageSettings
from kit.data.pixels import arrays, dicom
from kit.data.pixels.shared import Shared, add_warnings_filter
from kit.errors import UnreadableImage

_JPEG_QUALITY = 95
_DRAFT = 2  # JPEGs that must shrink are decoded at a scale that leaves at least this many times the final size
# zlib's run-length strategy after the filter "average" (libpng's 0x40): 1 % larger than level 6 on tissue, 5 to 25 % on
# X-rays, but encoded 2 to 10 times as fast and decoded as fast (scripts/bench/encodings.py).
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
_PNG += [cv2.IMWRITE_PNG_FILTER, 0x40]
# Of some truncated files Pillow only warns before it misreads them.
_WARNINGS_ARE_ERRORS = Shared(lambda: add_warnings_filter("error", r"PIL\b"))


def read_image(path: Path) -> np.ndarray:
    """A (height, width, 3) RGB or (height, width, 1) grey uint8 array; raises UnreadableImage with the reason."""
    return decode(path.read_bytes())


def load(data: bytes, settings: ImageSettings) -> np.ndarray | bytes:
    """The pixels of an image file's bytes, ready for the steps; or JPEG bytes that are to be stored as they are.

    With an encoding `auto`, without steps, an 8-bit JPEG (a file, or the frame of a DICOM) that has the final size and
    is not cut off is not decoded at all. Raises UnreadableImage with the reason.
    """
    content = _opened(data, settings.dicom)
    if isinstance(content, np.ndarray):
        return content
    if settings.steps:
        first = settings.steps[0]
        return _decode(content, size=first.size if first.name == "resize" else None)
    if settings.encoding.startswith("auto") and _is_whole_jpeg(content, settings.size):
        return content
    return _decode(content, settings.size, grey=settings.color == "gray")


def decode(
    data: bytes,
    settings: DicomSettings = DicomSettings(),  # noqa: B008 (it is frozen)
    grey: bool = False,
) -> np.ndarray:
    """All pixels of an image file's bytes: (height, width, 3) RGB or (height, width, 1) grey, uint8.

    With `grey`, a colour JPEG gives its luma plane.
    """
    content = _opened(data, settings)
    return content if isinstance(content, np.ndarray) else _decode(content, grey=grey)


def inspect(data: bytes, settings: DicomSettings) -> tuple[str, str, np.ndarray]:
    """Format, channels and pixels (as from `decode`) of an image file's bytes.

    Format and channels are such as ("PNG", "RGBA") or ("array", "L"); for a DICOM they are the transfer syntax and the
    photometric interpretation. Raises UnreadableImage with the reason.
    """
    if dicom.is_dicom(data):
        return *dicom.describe(data), decode(data, settings)
    if arrays.is_array(data):
        pixels = arrays.read_array(data)
        return "array", "L" if pixels.shape[2] == 1 else "RGB", pixels
    with _pillow(data) as image:
        return str(image.format), image.mode, _pixels(image)


def _opened(data: bytes, settings: DicomSettings) -> np.ndarray | bytes:
    """The pixels of a DICOM or a NumPy array; other bytes are returned for Pillow to decode."""
    if dicom.is_dicom(data):
        return dicom.read(data, settings)
    return arrays.read_array(data) if arrays.is_array(data) else data


def _decode(data: bytes, size: int | None = None, grey: bool = False) -> np.ndarray:
    """Pixels as Pillow decodes them: unlike OpenCV it refuses truncated files instead of filling them up with grey.

    With `grey`, a colour JPEG gives its luma plane. With `size`, the pixels will be shrunk to size x size: a JPEG is
    then decoded at 1/2, 1/4 or 1/8 (in the DCT, by libjpeg) as long as that leaves 2 · size. Against decoding
    in full and averaging areas this moves 1024 px X-rays at 224 px by .18 grey levels in the mean, 99.9 % of the pixels
    by at most 5, and takes two thirds of the time (scripts/bench/encodings.py).
    """
    with _pillow(data) as image:
        if isinstance(image, JpegImageFile):
            at_least = (_DRAFT * size, _DRAFT * size) if size else image.size
            image.draft("L" if grey and image.mode == "RGB" else image.mode, at_least)
        return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        raise UnreadableImage(f"{image.mode} pixels have more than 8 bit, which kit does not read")
    grey = image.mode in ("1", "L")
    image.info.pop("transparency", None)  # it is not used, and Pillow warns of a palette's
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels


def _is_whole_jpeg(data: bytes, size: int) -> bool:
    """Whether this is an 8-bit grey or colour JPEG of size x size pixels that is not cut off."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    with _pillow(data) as image:
        fits = image.format == "JPEG" and image.mode in ("L", "RGB") and image.size == (size, size)
    return fits and data[-64:].rstrip(b"\0\r\n").endswith(b"\xff\xd9")  # the end-of-image marker, maybe padded


def conform(image: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The (size, size, 1 or 3) uint8 array that the records hold: colour as set, resized (the shape is not kept).

    Shrinking averages areas, which does not alias; enlarging uses Lanczos.
    """
    channels = 1 if settings.color == "gray" else 3
    if image.shape[2] != channels:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB)
        image = image.reshape(*image.shape[:2], channels)
    size = settings.size
    if image.shape[:2] != (size, size):
        image = resize(image, size, "area" if min(image.shape[:2]) >= size else "lanczos")
    return image


def resize(image: np.ndarray, size: int, method: str) -> np.ndarray:
    """A (size, size, channels) uint8 array: the mean over areas (for shrinking), or Lanczos of three lobes."""
    if method == "area":
        resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    else:
        resized = np.asarray(_to_pillow(image).resize((size, size), Image.Resampling.LANCZOS))
    return resized.reshape(size, size, image.shape[2])


def encode(image: np.ndarray, encoding: str) -> bytes:
    """A (height, width, 1 or 3) uint8 array as bytes, by encoding: raw, png, jpeg:Q; auto is png, auto:Q is jpeg:Q."""
    kind, _, quality = encoding.partition(":")
    if kind == "raw":
        return image.tobytes()
    image = without_copies(image)  # a third to store and to decode
    if kind == "png" or (kind == "auto" and not quality):
        success, png = cv2.imencode(".png", image if image.shape[2] == 1 else image[..., ::-1], _PNG)
        assert success
        return png.tobytes()
    buffer = io.BytesIO()
    _to_pillow(image).save(buffer, "JPEG", quality=int(quality or _JPEG_QUALITY))
    return buffer.getvalue()


def is_lossy(encoding: str) -> bool:
    """Whether `encode` changes pixels."""
    return encoding.startswith("jpeg") or encoding.startswith("auto:")


def without_copies(image: np.ndarray) -> np.ndarray:
    """One channel of an image whose three are equal, as in many X-rays; other images are returned as they are."""
    if image.shape[2] == 1:
        return image
    first, *others = cv2.split(image)
    return first[..., None] if all(np.array_equal(first, other) for other in others) else image


def write_tif(path: Path, image: np.ndarray) -> None:
    """Write a (height, width, 3) uint8 RGB array as an uncompressed TIFF, as PCam's are."""
    Image.fromarray(image).save(path, "TIFF")


def _to_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


@contextmanager
def _pillow(data: bytes) -> Iterator[Image.Image]:
    """Pillow's image of a file's bytes; whatever Pillow raises or warns of in the block is an UnreadableImage."""
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        with _WARNINGS_ARE_ERRORS, Image.open(io.BytesIO(data), formats=_formats(data)) as image:
            yield image
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image file, or its header is cut off") from error
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise UnreadableImage(str(error)) from error


def _formats(data: bytes) -> tuple[str, ...] | None:
    """Pillow's name of the format that the first bytes show; None where it has to try (four plugins on a TIFF)."""
    kinds = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    return next(((kind,) for magic, kind in kinds.items() if data.startswith(magic)), None)

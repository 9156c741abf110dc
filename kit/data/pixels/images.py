"""Any image file -> uint8 array; resizing; encoding. The one place that decodes pixels when records are built."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kit.config import ImageSettings
from kit.data.pixels import arrays, dicom, formats, jpeg
from kit.data.pixels.exif import upright
from kit.data.pixels.reading import read_file, require_size

_DEFAULT = ImageSettings()
_JPEG_QUALITY = 95
_DRAFT = 2  # JPEGs that must shrink are decoded at a scale that leaves at least this many times the final size
# zlib's run-length strategy after the filter "average" (libpng's 0x40): 1 % larger than level 6 on tissue, 5 to 25 % on
# X-rays, but encoded 2 to 10 times as fast and decoded as fast (scripts/bench/encodings.py).
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
_PNG += [cv2.IMWRITE_PNG_FILTER, 0x40]


def read_image(path: Path) -> np.ndarray:
    """A (height, width, 3) RGB or (height, width, 1) grey uint8 array; raises UnreadableImage with the reason."""
    return decode(read_file(path))


def load(data: bytes, settings: ImageSettings) -> np.ndarray | bytes:
    """The pixels of an image file's bytes, ready for the steps; or JPEG bytes that are to be stored as they are.

    With an encoding `auto`, without steps, an 8-bit JPEG (a file, or the frame of a DICOM) that has the final size, is
    upright and whole is kept: it was decoded, but at an eighth of its size. Raises UnreadableImage with the reason.
    """
    content = _opened(data, settings)
    if isinstance(content, np.ndarray):
        return content
    if settings.steps:
        first = settings.steps[0]
        return _decode(content, settings, size=first.size if first.name == "resize" else None)
    if settings.encoding.startswith("auto") and jpeg.is_jpeg(content):
        header = jpeg.parse(content)
        if (header.width, header.height) == (settings.size, settings.size) and jpeg.can_be_kept(header):
            return content
    return _decode(content, settings, settings.size, grey=settings.color == "gray")


def decode(data: bytes, settings: ImageSettings = _DEFAULT, grey: bool = False) -> np.ndarray:
    """All pixels of an image file's bytes, upright: (height, width, 3) RGB or (height, width, 1) grey, uint8.

    With `grey`, a colour JPEG gives its luma plane.
    """
    content = _opened(data, settings)
    return content if isinstance(content, np.ndarray) else _decode(content, settings, grey=grey)


def inspect(data: bytes, settings: ImageSettings) -> tuple[str, str, np.ndarray]:
    """Format, channels and pixels (as from `decode`) of an image file's bytes.

    Format and channels are such as ("PNG", "RGBA") or ("array", "L"); for a DICOM they are the transfer syntax and the
    photometric interpretation. Raises UnreadableImage with the reason.
    """
    if dicom.is_dicom(data):
        return *dicom.describe(data), decode(data, settings)
    if jpeg.is_jpeg(data):
        channels = {1: "L", 3: "RGB", 4: "CMYK"}.get(jpeg.parse(data).components, "unknown")
        return "JPEG", channels, decode(data, settings)
    if arrays.is_array(data):
        pixels = arrays.read_array(data, settings.max_pixels)
        return "array", "L" if pixels.shape[2] == 1 else "RGB", pixels
    return formats.read(data, settings)


def _opened(data: bytes, settings: ImageSettings) -> np.ndarray | bytes:
    """The pixels of a DICOM or a NumPy array; other bytes are returned as they are."""
    if dicom.is_dicom(data):
        return dicom.read(data, settings.dicom, settings.max_pixels)
    return arrays.read_array(data, settings.max_pixels) if arrays.is_array(data) else data


def _decode(data: bytes, settings: ImageSettings, size: int | None = None, grey: bool = False) -> np.ndarray:
    """The pixels of a file that is neither DICOM nor array, upright.

    With `grey`, a colour JPEG gives its luma plane. With `size`, the pixels will be shrunk to size x size: a JPEG is
    then decoded at 1/2, 1/4 or 1/8 (in the DCT, by libjpeg) as long as that leaves 2 · size. Against decoding
    in full and averaging areas this moves 1024 px X-rays at 224 px by .18 grey levels in the mean, 99.9 % of the pixels
    by at most 5, and takes two thirds of the time (scripts/bench/encodings.py).
    """
    if not jpeg.is_jpeg(data):
        return formats.read(data, settings).pixels
    header = jpeg.parse(data)
    require_size(header.width * header.height, settings.max_pixels)
    if header.components in (1, 3):
        pixels = jpeg.decode(header, jpeg.scale_for(header, size and _DRAFT * size), grey)
    else:
        jpeg.decode(header, 8, grey=True)  # damage
        pixels = formats.read(header.data, settings).pixels
    return upright(pixels, header.orientation)


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

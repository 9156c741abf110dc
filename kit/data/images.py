"""Any image file -> uint8 array; resizing; encoding. The one place that decodes pixels when records are built."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from kit.config import ImageSettings

_JPEG_QUALITY = 95


class UnreadableImage(Exception):
    """Why one file is not an image; the records build notes it and goes on."""


def read_image(path: Path) -> np.ndarray:
    """A (height, width, 3) RGB or (height, width, 1) grey uint8 array; raises UnreadableImage with the reason.

    Pillow decodes: unlike OpenCV it refuses truncated files instead of filling them up with grey.
    """
    if path.stat().st_size == 0:
        raise UnreadableImage("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow only warns of some truncated files before it misreads them
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise UnreadableImage(f"{image.mode} pixels (more than 8 bit) are not read yet")
                grey = image.mode in ("1", "L")
                pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image file, or its header is cut off") from error
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise UnreadableImage(str(error)) from error
    return pixels[..., None] if grey else pixels


def prepare(image: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The (size, size, 1 or 3) uint8 array that the records hold: colour as set, resized (the shape is not kept).

    Shrinking averages areas, which does not alias; enlarging uses Lanczos.
    """
    channels = 1 if settings.color == "gray" else 3
    if image.shape[2] != channels:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB)
    size = settings.size
    if image.shape[:2] != (size, size):
        shrinks = image.shape[0] >= size and image.shape[1] >= size
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    return image.reshape(size, size, channels)


def encode(image: np.ndarray, encoding: str) -> bytes:
    """The bytes of a (height, width, 1 or 3) uint8 array as png, jpeg (quality 95) or raw (rows of pixels)."""
    if encoding == "raw":
        return image.tobytes()
    buffer = io.BytesIO()
    pixels = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if encoding == "png":
        pixels.save(buffer, "PNG", compress_level=6)
    else:
        pixels.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def write_tif(path: Path, image: np.ndarray) -> None:
    """Write a (height, width, 3) uint8 RGB array as an uncompressed TIFF, as PCam's are."""
    Image.fromarray(image).save(path, "TIFF")

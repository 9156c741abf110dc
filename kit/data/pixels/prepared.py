"""One image as records with the same settings would give it to a model: uint8 [size, size, 1 or 3]."""

from pathlib import Path

import numpy as np

from kit.config import ImageSettings
from kit.data.pixels.images import decode, encode, fit, is_lossy, load
from kit.data.pixels.steps import prepare
from kit.errors import UnreadableImage


def prepare_file(path: Path, settings: ImageSettings) -> np.ndarray:
    """The image in a file; raises UnreadableImage with the reason."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    content = load(data, settings)
    if isinstance(content, bytes):  # a JPEG that records hold as it is
        return _decoded(content, settings)
    return _stored(prepare(content, settings), settings)


def prepare_array(pixels: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The image in an array, uint8 [height, width] or [height, width, 1 or 3]; raises UnreadableImage for others."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise UnreadableImage(f"an array of {pixels.dtype}, shape {pixels.shape}, is no 8-bit image")
    return _stored(prepare(pixels, settings), settings)


def _stored(image: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The pixels after they were stored and read again, which JPEG changes."""
    if not is_lossy(settings.encoding):
        return image
    return _decoded(encode(image, settings.encoding), settings)


def _decoded(data: bytes, settings: ImageSettings) -> np.ndarray:
    return fit(decode(data, settings.dicom, grey=settings.color == "gray"), settings)

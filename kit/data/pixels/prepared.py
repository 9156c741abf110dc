"""One image exactly as a model gets it from records with the same settings: uint8 [size, size, 1 or 3]."""

from pathlib import Path

import numpy as np

from kit.config import ImageSettings
from kit.data.pixels.arrays import as_pixels
from kit.data.pixels.images import conform, decode, encode, is_lossy, load
from kit.data.pixels.reading import read_file
from kit.data.pixels.steps import prepare
from kit.errors import DataError, UnreadableImage


def prepare_file(path: Path, settings: ImageSettings) -> np.ndarray:
    """The image in a file; raises UnreadableImage with the reason. Threads may call it at the same time."""
    return prepare_bytes(read_file(path), settings)


def prepare_bytes(data: bytes, settings: ImageSettings) -> np.ndarray:
    """The image in a file's bytes; raises UnreadableImage with the reason."""
    content = load(data, settings)
    if isinstance(content, bytes):  # a JPEG that records hold as it is
        return _decoded(content, settings)
    return _prepared(content, settings)


def prepare_array(pixels: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The image in an array, uint8 [height, width] or [height, width, 1 or 3]; raises UnreadableImage for others."""
    return _prepared(as_pixels(pixels), settings)


def _prepared(pixels: np.ndarray, settings: ImageSettings) -> np.ndarray:
    try:
        image = prepare(pixels, settings)
    except DataError as error:  # an image smaller than a crop, which stops a build, is one of many here
        raise UnreadableImage(str(error)) from error
    if is_lossy(settings.encoding):
        return _decoded(encode(image, settings.encoding), settings)
    return image


def _decoded(data: bytes, settings: ImageSettings) -> np.ndarray:
    return conform(decode(data, settings, grey=settings.color == "gray"), settings)

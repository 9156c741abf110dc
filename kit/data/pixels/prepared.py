"""One image exactly as a model gets it from records with the same settings: uint8 [size, size, 1 or 3]."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit.config import ImageSettings
from kit.data.pixels.arrays import as_pixels
from kit.data.pixels.images import conform, decode, encode, is_lossy, load
from kit.data.pixels.reading import read_file
from kit.data.pixels.steps import prepare as after_steps
from kit.errors import DataError, UnreadableImage


class Prepared(NamedTuple):
    """An image as records hold it, uint8 [size, size, 1 or 3], and the size in pixels of what it was made from."""

    image: np.ndarray
    height: int
    width: int


def prepare_file(path: Path, settings: ImageSettings) -> np.ndarray:
    """The image in a file; raises UnreadableImage with the reason. Threads may call it at the same time."""
    return prepare(path, settings).image


def prepare_array(pixels: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """The image in an array, uint8 [height, width] or [height, width, 1 or 3]; raises UnreadableImage for others."""
    return prepare(pixels, settings).image


def prepare(source: Path | np.ndarray, settings: ImageSettings) -> Prepared:
    """The image of a file or an array, with the size of its source."""
    if isinstance(source, np.ndarray):
        return _prepared(as_pixels(source), settings)
    content = load(read_file(source), settings)
    if isinstance(content, bytes):  # a JPEG that records hold as it is
        image = _decoded(content, settings)
        return Prepared(image, *image.shape[:2])
    return _prepared(content, settings)


def _prepared(pixels: np.ndarray, settings: ImageSettings) -> Prepared:
    try:
        image = after_steps(pixels, settings)
    except DataError as error:  # an image smaller than a crop, which stops a build, is one of many here
        raise UnreadableImage(str(error)) from error
    if is_lossy(settings.encoding):
        image = _decoded(encode(image, settings.encoding), settings)
    return Prepared(image, *pixels.shape[:2])


def _decoded(data: bytes, settings: ImageSettings) -> np.ndarray:
    return conform(decode(data, settings, grey=settings.color == "gray"), settings)

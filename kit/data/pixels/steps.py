"""The image steps that a config can name, between decoding and the final size; each maps a stream of uint8 images."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np

from kit.config import ImageSettings, SuperResolution
from kit.data.pixels.images import conform, resize
from kit.data.pixels.remarks import remark
from kit.data.pixels.staining import macenko, reinhard
from kit.data.pixels.super_resolution import enlarged
from kit.data.pixels.values import scaled
from kit.errors import DataError

Image = np.ndarray  # (height, width, 1 or 3) uint8


def apply_steps(images: Iterable[Image | bytes], settings: ImageSettings) -> Iterator[Image | bytes]:
    """The images after all steps of `settings`, in order, with the final size and colour.

    Bytes (images that are already encoded) pass through unchanged.
    """
    stream: Iterator[Any] = iter(images)
    for step in settings.steps:
        stream = enlarged(stream, step) if isinstance(step, SuperResolution) else map(_STEPS[step.name](step), stream)
    return (image if isinstance(image, bytes) else conform(image, settings) for image in stream)


def prepare(image: Image, settings: ImageSettings) -> Image:
    """One image after all steps, as records with these settings hold it before it is encoded."""
    (result,) = apply_steps([image], settings)
    assert isinstance(result, np.ndarray)
    return result


def center_crop(image: Image, size: int) -> Image:
    """The central size x size pixels; raises DataError when the image is smaller."""
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise DataError(f"center_crop to {size} pixels, but the image has only {width}x{height}: make the crop smaller")
    top, left = crop_starts(np.array([height, width]), size)
    return image[top : top + size, left : left + size]


def crop_starts(sides: np.ndarray, size: int) -> np.ndarray:
    """The first pixels (int) of the central `size` of so many."""
    return (sides - size) // 2


def grayscale(image: Image) -> Image:
    """One channel: the luma of ITU-R BT.601, rounded as by OpenCV."""
    return image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def clahe(image: Image, clip_limit: float, tiles: int) -> Image:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994); of colour images the lightness."""
    equalise = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply
    if image.shape[2] == 1:
        return equalise(image[..., 0])[..., None]
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)  # the L of CIELAB is the lightness
    lab[..., 0] = equalise(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def percentile(image: Image, low: float, high: float) -> Image:
    """Two percentiles (interpolated) of all channels' grey levels become black and white."""
    black, white = np.percentile(image, (low, high))
    if black == white:
        remark("images of a single grey level for percentile: unchanged")
        return image
    return cv2.LUT(image, scaled(np.arange(256, dtype=np.uint8), black, white)).reshape(image.shape)


_STEPS: dict[str, Callable[[Any], Callable[[Image], Image]]] = {
    "center_crop": lambda step: lambda image: center_crop(image, step.size),
    "resize": lambda step: lambda image: resize(image, step.size, step.method),
    "grayscale": lambda step: grayscale,
    "clahe": lambda step: lambda image: clahe(image, step.clip_limit, step.tiles),
    "percentile": lambda step: lambda image: percentile(image, step.low, step.high),
    "reinhard": lambda step: lambda image: reinhard(image, step),
    "macenko": lambda step: lambda image: macenko(image, step),
}

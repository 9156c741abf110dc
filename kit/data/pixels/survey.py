"""Statistics of the pixels of images: the work of one process. To start fast, it imports no TensorFlow, no pandas."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from kit.config import ImageSettings
from kit.data.pixels.arrays import reader
from kit.data.pixels.images import decode, without_copies
from kit.data.pixels.remarks import counted
from kit.errors import UnreadableImage

BINS = 64  # of the 256 grey levels
SIDE = 96  # pixels of the images that are averaged
_EDGES_AT = 256  # pixels of the longer side, at most, where edges are looked for
_Shape = tuple[int, int]


class Statistics(NamedTuple):
    """Of one image: shares of its pixels by grey level and by level of R, G, B, and small images to be averaged.

    `grey` float32 [BINS] · `colour` float32 [3, BINS], None of a grey image · `small` uint8 [SIDE, SIDE, 3], squeezed
    into a square · `edges` float32 [SIDE, SIDE], where they were asked for.
    """

    grey: np.ndarray
    colour: np.ndarray | None
    small: np.ndarray
    edges: np.ndarray | None


def survey(
    rows: list[int], paths: list[str], root: Path, arrays: dict[str, Path], settings: ImageSettings, edges: bool
) -> list[tuple[int, Statistics]]:
    """The statistics of images, each with its row; those that cannot be read are left out."""
    read, found = reader(root, arrays), []
    for row, path in zip(rows, paths, strict=True):
        try:
            with counted():  # oddities are told elsewhere
                found.append((row, statistics(decode(read(path), settings), edges)))
        except UnreadableImage:
            continue
    return found


def statistics(image: np.ndarray, edges: bool = False) -> Statistics:
    """The statistics of an image uint8 [H, W, 1 or 3]; three equal channels are grey."""
    image = without_copies(image)
    grey = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(SIDE, SIDE, image.shape[2])
    return Statistics(
        grey=_shares(grey),
        colour=None if image.shape[2] == 1 else np.stack([_shares(channel) for channel in cv2.split(image)]),
        small=np.repeat(small, 3, axis=2) if image.shape[2] == 1 else small,
        edges=cv2.resize(sobel(grey), (SIDE, SIDE), interpolation=cv2.INTER_AREA) if edges else None,
    )


def sobel(grey: np.ndarray) -> np.ndarray:
    """Strength of the edges of a grey image uint8 [H, W], float32 of its size, or of at most 256 pixels a side.

    The length of the gradient as Sobel's 3 x 3 filters give it, in grey levels per pixel.
    """
    scale = _EDGES_AT / max(grey.shape)
    if scale < 1:
        size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=1 / 8) for dx in (1, 0))
    return np.hypot(across, down)


def thumbnails(
    paths: list[str], root: Path, arrays: dict[str, Path], settings: ImageSettings, side: int
) -> list[tuple[str, np.ndarray, _Shape]]:
    """Path, image uint8 [h, w, 1 or 3] of at most `side` pixels a side, height and width before; of readable files."""
    read, found = reader(root, arrays), []
    for path in paths:
        try:
            with counted():
                image = without_copies(decode(read(path), settings))
        except UnreadableImage:
            continue
        height, width = image.shape[:2]
        scale = side / max(height, width)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
        found.append((path, image, (height, width)))
    return found


def _shares(channel: np.ndarray) -> np.ndarray:
    levels = np.bincount(channel.ravel(), minlength=256).reshape(BINS, -1).sum(axis=1)
    return (levels / channel.size).astype(np.float32)

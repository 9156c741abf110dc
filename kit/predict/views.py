"""Test-time augmentation: the views of an image over which probabilities are averaged."""

from collections.abc import Callable

import cv2
import numpy as np

View = Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, C] -> the same shape

_CROP, _SCALES = 0.875, (0.9, 1.1)  # side of a crop (as 224 of 256), and enlargements, relative to the image


def _turned(quarter: int, mirrored: bool) -> View:
    def view(images: np.ndarray) -> np.ndarray:
        images = images[:, :, ::-1] if mirrored else images
        return np.ascontiguousarray(np.rot90(images, quarter, axes=(1, 2)))

    return view


def _cropped(top: float, left: float) -> View:
    """A crop enlarged to the image's size; 0 and 0 is the upper left corner, .5 and .5 the centre."""

    def view(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        crop_height, crop_width = round(height * _CROP), round(width * _CROP)
        y, x = round((height - crop_height) * top), round((width - crop_width) * left)
        return _resized(images[:, y : y + crop_height, x : x + crop_width], height, width)

    return view


def _scaled(factor: float) -> View:
    """The image enlarged about its centre; where it becomes smaller, mirrored at its edges."""

    def view(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        large = _resized(images, round(height * factor), round(width * factor))
        if factor < 1:
            y, x = height - large.shape[1], width - large.shape[2]
            return np.pad(large, ((0, 0), (y // 2, y - y // 2), (x // 2, x - x // 2), (0, 0)), mode="symmetric")
        y, x = (large.shape[1] - height) // 2, (large.shape[2] - width) // 2
        return np.ascontiguousarray(large[:, y : y + height, x : x + width])

    return view


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) for image in images]
    return np.stack(resized).reshape(len(images), height, width, images.shape[3])  # OpenCV drops a single channel


# A patch of tissue has no up or down, so all 8 views are as likely.
_AS_IT_IS = _turned(0, False)
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_AS_IT_IS,),
    "mirror": (_AS_IT_IS, _turned(0, True)),
    "flips": (_AS_IT_IS, _turned(0, True), _turned(2, False), _turned(2, True)),
    "dihedral": tuple(_turned(quarter, mirrored) for quarter in range(4) for mirrored in (False, True)),
    "crops": (_AS_IT_IS, *(_cropped(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5)))),
    "scales": (_AS_IT_IS, *map(_scaled, _SCALES)),
}

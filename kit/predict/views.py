"""Test-time augmentation: the views of an image over which probabilities are averaged."""

from collections.abc import Callable

import numpy as np

View = Callable[[np.ndarray], np.ndarray]


def _turned(quarter: int, mirrored: bool) -> View:
    def view(images: np.ndarray) -> np.ndarray:
        images = images[:, :, ::-1] if mirrored else images
        return np.ascontiguousarray(np.rot90(images, quarter, axes=(1, 2)))

    return view


# Square images [B, H, W, C] -> the same shape. A patch of tissue has no up or down, so all 8 views are as likely.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_turned(0, False),),
    "flips": (_turned(0, False), _turned(0, True), _turned(2, False), _turned(2, True)),
    "dihedral": tuple(_turned(quarter, mirrored) for quarter in range(4) for mirrored in (False, True)),
}

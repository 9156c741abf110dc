"""Synthetic tissue for the demo and the tests: patches in which texture, not colour, depends on the label."""

import cv2
import numpy as np

_BACKGROUND = np.array([228.0, 180.0, 208.0])  # RGB of eosin-like pink
_NUCLEUS = np.array([112.0, 72.0, 150.0])  # RGB of haematoxylin-like purple


def tissue_patch(rng: np.random.Generator, tumour: bool, size: int = 96) -> np.ndarray:
    """A (size, size, 3) uint8 RGB patch with nuclei; in tumour most are larger and more elongated (the kinds overlap).

    Nuclei cover about the same area in both kinds, and the mean of every channel is drawn regardless of the label: only
    shapes depend on it.
    """
    radius, stretch = (rng.normal(4.4, 0.6), 1.35) if tumour else (rng.normal(3.0, 0.6), 1.2)
    nuclei = _nuclei_mask(rng, size, max(1.5, radius), stretch)
    grain = cv2.GaussianBlur(rng.normal(0, 30, (size, size, 3)), (0, 0), 1.5)
    patch = _BACKGROUND + nuclei[..., None] * (_NUCLEUS - _BACKGROUND) + grain
    mean = np.array([196.0, 150.0, 186.0]) + rng.normal(0, 12, 3)
    for _ in range(8):  # clipping to 0..255 moves the mean a little; a few rounds settle it
        patch = np.clip(patch + mean - patch.mean((0, 1)), 0, 255)
    return np.rint(patch).astype(np.uint8)


def _nuclei_mask(rng: np.random.Generator, size: int, radius: float, stretch: float) -> np.ndarray:
    """A (size, size) float mask in [0, 1], with ellipses added until a quarter or so of the patch is covered."""
    mask = np.zeros((size, size), np.uint8)
    cover = rng.uniform(0.2, 0.35)
    while mask.mean() < 255 * cover:
        center = rng.integers(0, size, 2)
        spread = rng.uniform(0.8, 1.2) * radius
        axes = (max(1, round(spread * stretch)), max(1, round(spread / stretch)))
        cv2.ellipse(mask, center.tolist(), axes, rng.uniform(0, 180), 0, 360, 255, -1)
    return cv2.GaussianBlur(mask, (0, 0), 0.8) / 255.0

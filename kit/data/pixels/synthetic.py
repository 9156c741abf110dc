"""Made-up images for the demo and the tests: tissue whose texture, not colour, tells the label; chests with boxes."""

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


def chest_picture(rng: np.random.Generator, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A (size, size) uint8 picture like a chest X-ray, and the boxes of 0 to 4 bright ellipses in its lungs.

    Boxes are float64 [n, 4]: x, y, width, height in pixels, where an ellipse is at least half as bright as in its
    middle. A third of the pictures have none; boxes of one picture do not overlap.
    """
    y, x = (np.mgrid[:size, :size] + 0.5) / size  # shares, of the middles of pixels
    across, down = x - 0.5 - rng.normal(0, 0.02), y - 0.5 - rng.normal(0, 0.02)
    body = _inside(across, down, 0.46, 0.62, 0.05)
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        width, height = rng.uniform(0.13, 0.16), rng.uniform(0.3, 0.36)
        lungs = np.maximum(lungs, _inside(across - 0.21 * side, down + 0.02, width, height, 0.12))
    ribs = np.cos(np.pi * (down * rng.uniform(7, 9) + 6 * across**2 + rng.random())) ** 2
    light = 12 + 110 * body - 70 * lungs + 18 * ribs**2 * body
    light += cv2.GaussianBlur(rng.normal(0, 60, (size, size)), (0, 0), size / 16)
    boxes: list[list[float]] = []
    for _ in range(0 if rng.random() < 1 / 3 else rng.integers(1, 5)):
        center, axes = rng.uniform([-0.08, -0.3], [0.08, 0.28]), rng.uniform(0.045, 0.12, 2)
        center[0] += 0.21 * rng.choice([-1, 1])
        turn, strength = rng.uniform(0, np.pi), rng.uniform(45, 80)
        turned = np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        half = np.hypot(*(axes * turned).T)  # of the box around the ellipse
        box = [*(center + 0.5 - half), *(2 * half)]
        if any(_overlap(box, other) for other in boxes):
            continue
        right, below = x - 0.5 - center[0], y - 0.5 - center[1]
        along = right * np.cos(turn) + below * np.sin(turn)
        aside = below * np.cos(turn) - right * np.sin(turn)
        light += strength * _inside(along, aside, axes[0], axes[1], 0.12)
        boxes.append(box)
    light += rng.normal(0, 6, (size, size))
    return np.rint(np.clip(light, 0, 255)).astype(np.uint8), np.array(boxes).reshape(-1, 4) * size


def _inside(x: np.ndarray, y: np.ndarray, width: float, height: float, softness: float) -> np.ndarray:
    """1 in an ellipse with these half axes, 0 outside, 1/2 at its edge."""
    return 1 / (1 + np.exp((np.hypot(x / width, y / height) - 1) / softness))


def _overlap(box: list[float], other: list[float]) -> bool:
    return all(box[n] < other[n] + other[n + 2] and other[n] < box[n] + box[n + 2] for n in (0, 1))

"""Values of more than 8 bit -> uint8."""

import numpy as np

_BLOCK = 2**22  # values that are scaled at a time, which keeps the memory small


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: `low` becomes 0 and `high` 255, values beyond are clipped, NaN is 0; rounded to the nearest."""
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values.copy()
    low, high = float(low), float(high)
    pixels = np.empty(values.shape, np.uint8)
    half, range_of_halves = low / 2, (high / 2 - low / 2) or 1  # halves: the whole range of doubles has no double
    rows = max(1, _BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        share = (values[start : start + rows].astype(np.float64) / 2 - half) / range_of_halves
        pixels[start : start + rows] = np.rint(np.nan_to_num(np.clip(share, 0, 1), nan=0) * 255)
    return pixels


def shown(values: np.ndarray, percentiles: tuple[float, float] | None = None) -> np.ndarray:
    """uint8: the smallest value of an image is black and the largest white, or two percentiles of its values are.

    All channels share the range. Only the image decides it, not how many bits its file has: 12 bit in a file of 16 are
    not dark. NaN and infinite values have no part in it; an image of one value is black.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    if percentiles is not None:
        low, high = (float(value) for value in np.percentile(finite, percentiles))
    else:
        low, high = float(finite.min()), float(finite.max())
    return scaled(values, low, high)

"""Colour normalisation of stained tissue: an image's colours become those of a reference, which numbers describe.

An image in which there is nothing to normalise (no colour, hardly any stain) is left as it is, with a remark.
"""

import cv2
import numpy as np

from kit.config import Macenko, Reinhard
from kit.data.pixels.remarks import remark

_FLAT = 1.0  # standard deviation, of L*, a* or b*, below which there is nothing but noise to stretch
# The constants of Macenko et al. 2009 and of the implementations that followed (mitkovetta/staining-normalization):
_LIGHT = 240  # grey level of the background
_CLEAR = 0.15  # optical density: pixels with less, in any channel, are background
_EXTREME = 1  # percentile of the angles, from either end, at which a stain is
_MAXIMUM = 99  # percentile of a stain's concentrations that stands for their maximum
_STAINED = 0.01  # share of pixels that have to be stained, or stains cannot be told apart
_PARALLEL = np.cos(np.radians(3))  # two stains with a smaller angle between them are one
_DENSITIES = -np.log((np.arange(256, dtype=np.float32) + 1) / _LIGHT)  # of the 256 grey levels
_BRIGHTEST = int(np.flatnonzero(_DENSITIES >= _CLEAR)[-1])  # grey level of stained pixels


def reinhard(image: np.ndarray, step: Reinhard) -> np.ndarray:
    """uint8 RGB with the step's means and standard deviations of L*, a* and b* (CIELAB; after Reinhard et al. 2001).

    Colours beyond those of RGB are clipped.
    """
    if image.shape[2] == 3:
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        means, deviations = cv2.meanStdDev(lab)
        if deviations.min() >= _FLAT:
            factors = np.array(step.deviations) / deviations.ravel()
            offsets = np.array(step.means) - means.ravel() * factors
            lab = cv2.transform(lab, np.column_stack([np.diag(factors), offsets]).astype(np.float32))
            return _as_levels(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 255)
    remark("images without enough colour for reinhard: unchanged")
    return image


def macenko(image: np.ndarray, step: Macenko) -> np.ndarray:
    """uint8 RGB with the step's stains, in concentrations up to the step's.

    Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis": the image's own stains
    are the extreme directions of its optical densities in the plane of their two principal components.
    """
    stains = _stains(image) if image.shape[2] == 3 else None
    if stains is not None:
        densities, separation = cv2.LUT(image, _DENSITIES), np.linalg.pinv(stains)
        concentrations = cv2.transform(densities, separation.astype(np.float32))
        maxima = np.percentile(concentrations.reshape(-1, 2), _MAXIMUM, axis=0)
        if maxima.min() > 0:
            mixing = np.array([step.haematoxylin, step.eosin]).T * (np.array(step.concentrations) / maxima)
            return _as_levels(cv2.exp(cv2.transform(densities, (-mixing @ separation).astype(np.float32))), _LIGHT)
    remark("images without two stains for macenko: unchanged")
    return image


def _stains(image: np.ndarray) -> np.ndarray | None:
    """The optical densities of haematoxylin and eosin, float64 [3, 2] of unit length; None if there are no two."""
    channels = cv2.split(image)
    stained = np.flatnonzero(cv2.max(cv2.max(*channels[:2]), channels[2]) <= _BRIGHTEST)
    if len(stained) < max(3, _STAINED * channels[0].size):
        return None
    densities = cv2.LUT(np.stack([channel.ravel()[stained] for channel in channels]), _DENSITIES)
    mean = densities.mean(axis=1, keepdims=True)
    spread = densities - mean
    plane = np.linalg.eigh((spread @ spread.T).astype(np.float64))[1][:, 1:]
    # Angles from the direction of the mean: from an axis of the plane, whose sign is arbitrary, they could wrap.
    ahead = plane.T @ mean[:, 0]
    ahead = ahead / (np.linalg.norm(ahead) or 1)
    axes = plane @ np.array([ahead, [-ahead[1], ahead[0]]]).T
    x, y = axes.T.astype(np.float32) @ densities
    angles = np.percentile(np.arctan2(y, x), (_EXTREME, 100 - _EXTREME))
    stains = axes @ np.array([np.cos(angles), np.sin(angles)])
    if abs(stains[:, 0] @ stains[:, 1]) > _PARALLEL:
        return None
    return stains[:, ::-1] if stains[0, 0] < stains[0, 1] else stains  # haematoxylin absorbs more red


def _as_levels(values: np.ndarray, white: float) -> np.ndarray:
    """Values from 0 up as uint8: `white` times as many grey levels, rounded and clipped."""
    return cv2.convertScaleAbs(cv2.max(values, 0), alpha=white)

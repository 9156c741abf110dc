"""Statistics of single images, against arithmetic and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from kit.data.pixels.survey import BINS, SIDE, sobel, statistics

pytestmark = pytest.mark.once


def test_shares_of_levels():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:5, :, 0] = 255  # half of the red channel
    found = statistics(image)
    assert found.colour is not None and found.edges is None
    np.testing.assert_allclose(found.colour[0], np.eye(BINS)[0] / 2 + np.eye(BINS)[-1] / 2)
    np.testing.assert_allclose(found.colour[1:], np.eye(BINS)[[0, 0]])
    assert found.grey[round(0.299 * 255) // 4] == pytest.approx(0.5)  # the luma of red (ITU-R BT.601)
    assert found.small.shape == (SIDE, SIDE, 3) and found.small[0, 0].tolist() == [255, 0, 0]


def test_three_equal_channels_are_grey():
    grey = np.random.default_rng(0).integers(0, 256, (30, 40, 1), np.uint8)
    one, three = statistics(grey, edges=True), statistics(np.repeat(grey, 3, axis=2), edges=True)
    assert one.colour is None and three.colour is None
    for a, b in zip((one.grey, one.small, one.edges), (three.grey, three.small, three.edges), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.grey.sum() == pytest.approx(1)


def test_edges_are_those_of_sobel():
    image = np.random.default_rng(1).integers(0, 256, (40, 50), np.uint8)
    across, down = (ndimage.sobel(image.astype(float), axis, mode="mirror") / 8 for axis in (1, 0))
    np.testing.assert_allclose(sobel(image), np.hypot(across, down), rtol=1e-4)
    ramp = np.tile(np.arange(0, 200, 2, np.uint8), (100, 1))
    np.testing.assert_allclose(sobel(ramp)[1:-1, 1:-1], 2, rtol=1e-6)  # grey levels per pixel
    assert sobel(np.zeros((1000, 500), np.uint8)).shape == (256, 128)

"""Checks: what a perfect map and one that says nothing get."""

import numpy as np
import pytest

from kit.explain import checks

RNG = np.random.default_rng(0)


def mean_of_a_corner(images):
    """A score that looks at the upper left quarter alone."""
    bright = images[:, :16, :16].mean(axis=(1, 2, 3)) / 255
    return np.stack([bright, 1 - bright], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    """Ten images, bright in a part of the upper left quarter."""
    images = RNG.integers(0, 60, (10, 32, 32, 3), dtype=np.uint8)
    images[:, 4:12, 4:12] = 255
    return images


def corner():
    heat = np.zeros((10, 8, 8), np.float32)
    heat[:, 1:3, 1:3] = 1
    return heat


def test_a_map_that_does_not_depend_on_the_weights_fails():
    constant = np.ones((3, 4, 4), np.float32)
    same = checks.randomisation(constant, constant)
    assert (same.value, same.passed) == (1.0, False)
    edges = RNG.random((3, 4, 4)).astype(np.float32)
    assert checks.randomisation(edges, 2 * edges + 1).passed is False
    assert checks.randomisation(edges, constant).value == 0
    other = checks.randomisation(edges, RNG.random((3, 4, 4)).astype(np.float32))
    assert other.passed
    from scipy.stats import spearmanr

    one, two = RNG.random((2, 1, 4, 4))
    assert np.isclose(checks.randomisation(one, two).value, spearmanr(one.ravel(), two.ravel()).statistic)


def test_deletion(images):
    found = checks.deletion(mean_of_a_corner, images, corner(), [0] * 10)
    assert found.passed
    assert found.value < found.reference
    constant = checks.deletion(mean_of_a_corner, images, np.zeros((10, 8, 8), np.float32), [0] * 10)
    assert constant.passed is False
    few = checks.deletion(mean_of_a_corner, images[:3], corner()[:3], [0] * 3)
    assert few.passed is None
    assert few.sentence == "Too few images to tell: 3."


def test_the_area_is_that_of_the_trapezia():
    assert checks._area(np.array([1.0, 0.5, 0.0])) == 0.5
    assert checks._area(np.array([1.0, 0.0, 0.0])) == 0.25


def test_pointing_and_overlap_with_boxes():
    box = [np.array([[0.125, 0.125, 0.25, 0.25]])] * 10
    hit = checks.pointing(corner(), box)
    assert (hit.value, hit.passed) == (1.0, True)
    assert np.isclose(hit.reference, 1 / 16)
    missed = checks.pointing(corner()[:, ::-1], box)
    assert (missed.value, missed.passed) == (0.0, False)
    overlap = checks.overlap(corner(), box)
    assert overlap.passed
    assert overlap.value > 0.6 > 0.15 > overlap.reference
    assert checks.overlap(corner()[:, ::-1], box).value == 0
    constant = np.zeros((10, 8, 8), np.float32)
    assert checks.overlap(constant, box).passed is False
    assert checks.pointing(constant, box).passed is False


def test_the_mask_of_boxes():
    inside = checks.mask(np.array([[0, 0, 0.5, 0.25], [0.5, 0.5, 0.5, 0.5]]))
    assert np.isclose(inside.mean(), 0.5 * 0.25 + 0.25)
    assert inside[0, 0]
    assert not inside[0, -1]
    assert inside[-1, -1]

import numpy as np
import pytest

from kit.data.pixels.appearance import NAMES, appearance


def numbers(image):
    return dict(zip(NAMES, appearance(image[None])[0], strict=True))


def plain(*colour, side=32):
    return np.tile(np.array(colour, np.uint8), (side, side, 1))


@pytest.mark.parametrize(
    ("colour", "lab"),  # of sRGB under D65, as colour calculators give it
    [
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_means_are_those_of_cielab(colour, lab):
    found = numbers(plain(*colour))
    assert [found[name] for name in ("lightness", "redness", "yellowness")] == pytest.approx(lab, abs=0.05)
    assert found["chroma"] == pytest.approx(np.hypot(lab[1], lab[2]), abs=0.1) and found["lightness_sd"] < 1e-3


def test_angles_are_those_of_the_stains():
    haematoxylin, eosin = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
    image = np.full((32, 32, 3), 255, np.uint8)
    image[:16] = 256 * 10 ** (-0.8 * haematoxylin) - 1
    image[16:24] = 256 * 10 ** (-0.8 * eosin) - 1
    found = numbers(image)
    cosine = haematoxylin @ eosin / np.linalg.norm(haematoxylin) / np.linalg.norm(eosin)
    assert (found["stain_low"], found["stain_high"]) == pytest.approx((0, np.arccos(cosine)), abs=0.03)
    more_background = image.copy()
    more_background[20:] = 255
    assert numbers(more_background)["stain_high"] == pytest.approx(found["stain_high"], abs=0.01)


def test_grey_values_and_border():
    image = np.zeros((40, 40, 1), np.uint8)
    image[10:30, 10:40] = 200
    found = numbers(image)
    assert found["border"] == pytest.approx(1 - 20 * 30 / 1600)
    assert found["mean"] == pytest.approx(200 * 600 / 1600) and (found["grey_5%"], found["grey_95%"]) == (0, 200)
    assert found["chroma"] < 0.01
    assert numbers(np.zeros((8, 8, 1), np.uint8))["border"] == 1


def test_any_size_and_no_image_at_all():
    images = np.random.default_rng(0).integers(0, 256, (3, 97, 150, 3), dtype=np.uint8)
    assert np.isfinite(appearance(images)).all()
    assert appearance(images[:0]).shape == (0, len(NAMES))

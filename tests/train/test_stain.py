import numpy as np
import pytest

from kit.config import AugmentSettings, check_augment
from kit.errors import ConfigError

PIXELS = np.array([[[[200, 150, 190], [90, 50, 120]], [[240, 240, 240], [10, 0, 255]]]], np.float32)


def as_arrays(*values):
    return [np.array([value], np.float32) for value in values]


def test_stains_are_those_of_scikit_image(keras):
    from kit.train.stain import stained

    # combine_stains(separate_stains(x, hed_from_rgb) * factors + shifts, rgb_from_hed) of scikit-image 0.14.5, whose
    # logarithm is that of 2 + x, clipped to 0..255
    factors, shifts = as_arrays([1.04, 0.97, 1.1], [0.03, -0.05, 0.02])
    expected = [[[226.125, 231.138, 238.244], [107.301, 112.200, 158.849]], [[255, 255, 255], [25.524, 64.456, 255]]]
    out = keras.ops.convert_to_numpy(stained(PIXELS, factors, shifts))
    assert out == pytest.approx(np.array([expected]), abs=0.005)


def test_factors_of_1_and_shifts_of_0_change_nothing(keras):
    from kit.train.stain import stained

    levels = np.arange(256, dtype=np.float32)
    images = np.stack([levels, levels[::-1], np.roll(levels, 99)], axis=1).reshape(1, 16, 16, 3)
    out = keras.ops.convert_to_numpy(stained(images, *as_arrays([1, 1, 1], [0, 0, 0])))
    assert out == pytest.approx(images, abs=0.01)


def test_each_image_has_its_own_stains_within_the_strength(keras):
    from kit.train.stain import STAINS, Stain

    grey = np.full((500, 1, 1, 3), 100, np.float32)
    out = keras.ops.convert_to_numpy(Stain(0.02, 1)(grey))[:, 0, 0]
    separation = np.linalg.inv(STAINS)
    before, after = (-np.log(x / 255 + 2) @ separation for x in (grey[0, 0, 0].astype(float), out.astype(float)))
    bounds = 0.02 * (np.abs(before) + 1)
    assert (np.abs(after - before) <= bounds + 1e-4).all()
    assert (np.abs(after - before).max(axis=0) > 0.9 * bounds).all()
    assert len(np.unique(out.round(3), axis=0)) == 500


@pytest.mark.once
def test_grey_images_have_no_stains():
    settings = AugmentSettings(stain=0.05)
    check_augment(settings, "probabilities", "rgb")
    with pytest.raises(ConfigError, match=r"augment\.stain changes the stains of colour images, but image\.color = gr"):
        check_augment(settings, "probabilities", "gray")


def test_the_layer_refuses_grey_images(keras):
    from kit.train.augment import Augment

    with pytest.raises(ConfigError, match=r"image\.color = gray: set it to 0"):
        Augment(AugmentSettings(stain=0.05))({"image": keras.Input((8, 8, 1), dtype="uint8")})

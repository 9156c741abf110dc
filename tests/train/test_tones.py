import numpy as np
import pytest

RAMP = np.linspace(0, 255, 256, dtype=np.float32).reshape(1, 16, 16, 1)


def tones(keras, images, seed=0, **strengths):
    from kit.train.tones import Tones

    layer = Tones(**{"contrast": 0.0, "gamma": 0.0, "histogram": 0.0, **strengths}, seed=seed)
    return keras.ops.convert_to_numpy(layer(images))


def test_contrast_moves_grey_levels_away_from_the_mean(keras):
    images = np.tile(np.array([80, 120], np.float32).reshape(1, 1, 2, 1), (500, 1, 1, 3))
    out = tones(keras, images, contrast=0.2)
    assert out.mean(axis=(1, 2, 3)) == pytest.approx(np.full(500, 100.0), abs=1e-3)
    factors = (out[:, 0, 1, 0] - out[:, 0, 0, 0]) / 40
    assert 0.8 <= factors.min() < 0.81 and 1.19 < factors.max() <= 1.2001
    assert np.ptp(out, axis=3).max() == 0  # all channels alike


def test_gamma_is_a_power_of_the_share_of_white(keras):
    out = tones(keras, np.tile(RAMP, (300, 1, 1, 1)), gamma=0.3)
    powers = np.log(out[:, 8, 0, 0] / 255) / np.log(RAMP[0, 8, 0, 0] / 255)
    assert 0.7 <= powers.min() < 0.71 and 1.29 < powers.max() <= 1.3001
    for image, power in zip(out, powers, strict=True):
        assert image == pytest.approx(255 * (RAMP[0] / 255) ** power, abs=0.02)


def test_a_curve_with_pieces_of_known_slopes(keras):
    from kit.train.tones import curved

    x = np.array([0, 0.125, 0.25, 0.5, 0.625, 1], np.float32).reshape(1, 1, 6, 1)
    slopes = np.array([[0.5, 1.5, 1, 1]], np.float32)
    assert keras.ops.convert_to_numpy(curved(x, slopes)).ravel() == pytest.approx([0, 0.0625, 0.125, 0.5, 0.625, 1])
    doubled = keras.ops.convert_to_numpy(curved(x, 2 * slopes)).ravel()
    assert doubled == pytest.approx([0, 0.0625, 0.125, 0.5, 0.625, 1])


@pytest.mark.parametrize("strength", [0.01, 0.99])
def test_curves_rise_from_black_to_white(keras, strength):
    out = tones(keras, np.tile(RAMP, (300, 1, 1, 1)), histogram=strength).reshape(300, 256)
    assert np.abs(out[:, [0, -1]] - [0, 255]).max() < 1e-3
    assert (np.diff(out) > 0).all()
    assert (np.abs(out - RAMP.ravel()).max(axis=1) > 0.01).all()

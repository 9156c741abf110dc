import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kit.config import ImageSettings, Macenko, Reinhard, load_config
from kit.data.pixels.remarks import counted
from kit.data.pixels.staining import macenko, reinhard
from kit.data.pixels.steps import prepare
from kit.errors import ConfigError
from tests.data.conftest import build

MACENKO, REINHARD = Macenko(name="macenko"), Reinhard(name="reinhard")
PLACES = [2, 5, 10, 15, 20, 23], [2, 7, 3, 15, 8, 23]


def tissue(haematoxylin=(0.6, 0.7, 0.35), eosin=(0.15, 0.9, 0.4), maxima=(1.0, 1.0)):
    """Two stains in random amounts on a background of 240, 24 x 24 pixels: some have none, some only one of them."""
    amounts = np.random.default_rng(0).gamma(1.5, 0.4, (24, 24, 2)) * maxima
    amounts[:4] = 0
    amounts[4:8, :, 1] = 0
    amounts[8:12, :, 0] = 0
    densities = amounts @ np.array([haematoxylin, eosin])
    return np.rint(240 * np.exp(-densities) - 1).clip(0, 255).astype(np.uint8)


def unit(*vector):
    return tuple(np.array(vector) / np.linalg.norm(vector))


def test_macenko_is_torchstains():
    # NumpyMacenkoNormalizer().normalize(image) of torchstain 1.4.1, which cuts off decimals
    expected = [[240, 240, 240], [213, 206, 220], [235, 222, 227], [116, 83, 129], [187, 127, 157], [207, 146, 170]]
    out = macenko(tissue(), MACENKO)
    assert out.dtype == np.uint8
    assert np.isin(out[PLACES].astype(int) - expected, [0, 1]).all()
    assert out.mean(axis=(0, 1)) == pytest.approx([189.15, 164.46, 187.32], abs=0.1)  # theirs + 0.5


def test_reinhard_is_torchstains():
    # NumpyReinhardNormalizer with the same means and deviations, of torchstain 1.4.1, which cuts off decimals
    expected = [[246, 208, 228], [224, 185, 215], [235, 180, 214], [140, 84, 144], [183, 88, 147], [197, 97, 156]]
    out = reinhard(tissue(), REINHARD)
    assert out.dtype == np.uint8
    assert np.isin(out[PLACES].astype(int) - expected, [-1, 0, 1, 2]).all()  # CIELAB by another approximation
    assert out.mean(axis=(0, 1)) == pytest.approx([197.99, 140.69, 184.64], abs=0.1)  # theirs + 0.5


def test_macenko_brings_two_scanners_together():
    one = tissue(unit(0.6, 0.7, 0.35), unit(0.15, 0.9, 0.4), maxima=(0.8, 0.7))
    other = tissue(unit(0.7, 0.6, 0.4), unit(0.2, 0.8, 0.55), maxima=(0.5, 1.0))
    assert np.abs(one.astype(int) - other).mean() > 10
    assert np.abs(macenko(one, MACENKO).astype(int) - macenko(other, MACENKO)).mean() < 1


def test_reinhard_gives_the_reference_its_means_and_deviations():
    step = Reinhard(name="reinhard", means=(60, 20, -10), deviations=(8, 5, 4))
    lab = cv2.cvtColor(reinhard(tissue(), step).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    assert lab.mean(axis=(0, 1)) == pytest.approx([60, 20, -10], abs=0.2)
    assert lab.std(axis=(0, 1)) == pytest.approx([8, 5, 4], abs=0.2)


def plain(level):
    return np.full((16, 16, 3), level, np.uint8)


GREY = np.random.default_rng(0).integers(0, 256, (16, 16, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [plain(255), plain(0), plain(128), plain([200, 100, 150]), GREY, np.repeat(GREY, 3, axis=2)],
    ids=["white", "black", "grey", "one colour", "one channel", "no colour"],
)
def test_what_cannot_be_normalised_is_left_and_counted(image):
    with counted() as remarks:
        assert np.array_equal(reinhard(image, REINHARD), image)
        assert np.array_equal(macenko(image, MACENKO), image)
    assert remarks == {
        "images without enough colour for reinhard: unchanged": 1,
        "images without two stains for macenko: unchanged": 1,
    }


def test_macenko_leaves_a_speck_of_stain_and_hues_around_grey():
    speck, hues = plain(250), plain(0)
    speck[0, 0] = 90, 30, 120
    assert np.array_equal(macenko(speck, MACENKO), speck)
    hues[:5], hues[5:10], hues[10:15] = (50, 90, 90), (90, 50, 90), (90, 90, 50)
    assert macenko(hues[:15], MACENKO).dtype == np.uint8  # the mean is at right angles to the plane of the stains


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]))))
def test_any_image_is_normalised_or_left(image):
    for out in (reinhard(image, REINHARD), macenko(image, MACENKO)):
        assert (out.shape, out.dtype) == (image.shape, np.uint8)


def test_settings_of_the_steps(toy_root, tmp_path):
    text = "image.steps=[{name: macenko, eosin: [0.2, 0.8, 0.5]}, {name: reinhard, means: [60, 20, -10]}]"
    macenko_step, reinhard_step = load_config("toy", [text]).image.steps
    assert (macenko_step.eosin, macenko_step.concentrations) == ((0.2, 0.8, 0.5), (1.9705, 1.0308))
    assert (reinhard_step.means, reinhard_step.deviations) == ((60, 20, -10), (15.80, 9.26, 6.02))
    with pytest.raises(ConfigError, match="deviations"):
        load_config("toy", ["image.steps=[{name: reinhard, deviations: [0, 1, 1]}]"])
    settings = ImageSettings.model_validate({"steps": [{"name": "reinhard"}], "size": 32})
    assert build(toy_root, tmp_path / "a", settings).fingerprint != build(toy_root, tmp_path / "b").fingerprint
    assert np.array_equal(prepare(tissue(), ImageSettings(steps=(REINHARD,), size=24)), reinhard(tissue(), REINHARD))

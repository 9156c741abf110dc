import cv2
import numpy as np
import pytest
from PIL import Image

from kit.config import Clahe, ImageSettings, load_config
from kit.data.pixels import super_resolution
from kit.data.pixels.remarks import counted
from kit.data.pixels.steps import apply_steps, center_crop, clahe, percentile, prepare
from kit.errors import ConfigError, DataError
from kit.runtime import tfhub
from kit.runtime.devices import import_tensorflow
from tests.data.conftest import build


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def settings(*steps, **more):
    return ImageSettings.model_validate({"steps": steps, **more})


def test_center_crop(pixels):
    assert np.array_equal(center_crop(pixels, 20), pixels[10:30, 5:25])
    with pytest.raises(
        DataError, match="center_crop to 32 pixels, but the image has only 30x40: make the crop smaller"
    ):
        center_crop(pixels, 32)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_area_is_the_mean_of_blocks(channels):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    result = prepare(
        image,
        settings({"name": "resize", "size": 16, "method": "area"}, size=16, color="gray" if channels == 1 else "rgb"),
    )
    blocks = image.reshape(16, 4, 16, 4, channels).mean((1, 3))
    assert result.shape == (16, 16, channels)
    assert np.abs(result - blocks).max() <= 0.5


def test_resize_lanczos_is_pillows(pixels):
    result = prepare(pixels, settings({"name": "resize", "size": 64, "method": "lanczos"}, size=64))
    assert np.array_equal(result, np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS)))


def test_grayscale_is_the_luma_of_bt601(pixels):
    result = prepare(pixels, settings({"name": "grayscale"}, {"name": "resize", "size": 16}, size=16, color="rgb"))
    assert (result[..., 0] == result[..., 1]).all()
    grey = prepare(pixels[:16, :16], settings({"name": "grayscale"}, size=16, color="gray"))
    assert np.abs(grey[..., 0] - pixels[:16, :16] @ [0.299, 0.587, 0.114]).max() <= 1


def test_clahe_of_grey_is_opencvs_and_of_colour_keeps_the_hue(pixels):
    grey = pixels[..., :1]
    assert np.array_equal(clahe(grey, 2.0, 8)[..., 0], cv2.createCLAHE(2.0, (8, 8)).apply(grey[..., 0]))
    dull = (pixels // 8 + 100).astype(np.uint8)
    vivid = clahe(dull, 4.0, 2)
    assert vivid.std() > 1.5 * dull.std() * 0.9
    lab, before = (cv2.cvtColor(i, cv2.COLOR_RGB2LAB).astype(int) for i in (vivid, dull))
    assert np.median(np.abs(lab[..., 1:] - before[..., 1:])) <= 2
    assert Clahe(name="clahe").tiles == 8


@pytest.mark.parametrize("channels", [1, 3])
def test_percentile_stretches_between_two_percentiles(pixels, channels):
    image = (pixels[..., :channels] // 3 + 60).astype(np.uint8)
    low, high = np.percentile(image, [2, 95])
    out = percentile(image, 2, 95)
    assert out.shape == image.shape
    assert np.array_equal(out, np.rint(((image - low) / (high - low)).clip(0, 1) * 255))
    step = {"name": "percentile", "low": 2, "high": 95}
    color = "gray" if channels == 1 else "rgb"
    assert np.array_equal(prepare(image[:30], settings(step, size=30, color=color)), percentile(image[:30], 2, 95))


def test_percentile_leaves_a_single_grey_level():
    image = np.full((8, 8, 1), 77, np.uint8)
    image[0, 0] = 255
    with counted() as remarks:
        assert np.array_equal(percentile(image, 1, 98), image)
    assert remarks == {"images of a single grey level for percentile: unchanged": 1}
    with pytest.raises(ConfigError, match="percentiles are two numbers from 0 to 100, the lower one first"):
        load_config("toy", ["image.steps=[{name: percentile, low: 50, high: 50}]"])


def test_steps_are_applied_in_order(pixels):
    crop, small = {"name": "center_crop", "size": 20}, {"name": "resize", "size": 20}
    assert not np.array_equal(prepare(pixels, settings(crop, small)), prepare(pixels, settings(small, crop)))


def test_bytes_pass_through():
    assert list(apply_steps([b"a jpeg"], ImageSettings())) == [b"a jpeg"]


def test_steps_are_part_of_the_fingerprint_and_of_the_records(toy_root, tmp_path):
    cropped = build(toy_root, tmp_path / "a", settings({"name": "center_crop", "size": 32}, size=32))
    plain = build(toy_root, tmp_path / "b", ImageSettings(size=32))
    assert cropped.fingerprint != plain.fingerprint
    assert cropped.image.steps[0].size == 32


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_is_too_small_for_a_step_is_named(toy_root, tmp_path, workers):
    crop = settings({"name": "center_crop", "size": 97}, size=32)
    with pytest.raises(
        DataError, match=r"(train|test)/\w+\.tif: center_crop to 97 pixels, but the image has only 96x96"
    ):
        build(toy_root, tmp_path / "r", crop, workers=workers)


def test_an_unknown_step_setting_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown setting .*sizze.*did you mean .*center_crop\.size"):
        load_config("toy", ["image.steps=[{name: center_crop, size: 3, sizze: 32}]"])
    with pytest.raises(ConfigError, match="'sharpen'"):
        load_config("toy", ["image.steps=[{name: sharpen}]"])


# --- super-resolution, with a stand-in that repeats every pixel 4 x 4 times ---


def save_stand_in(folder, batch):
    tf = import_tensorflow()

    class FourTimes(tf.Module):
        def __init__(self):
            super().__init__()
            self.scale = tf.Variable(1.0)

        @tf.function(input_signature=[tf.TensorSpec([batch, None, None, 3], tf.float32)])
        def __call__(self, x):
            return tf.repeat(tf.repeat(x, 4, axis=1), 4, axis=2) * self.scale

    tf.saved_model.save(FourTimes(), str(folder))
    return folder


@pytest.mark.parametrize("batch", [1, None])
def test_super_resolution_enlarges_every_image_in_order(tmp_path, batch):
    model = save_stand_in(tmp_path / "model", batch)
    images = list(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    images.insert(2, images[0][:20, :20])  # another shape ends the batch
    step = {"name": "super_resolution", "model": str(model), "batch_size": 2}
    result = list(apply_steps(images, settings(step, size=128)))
    for image, enlarged in zip(images, result, strict=True):
        four = image.repeat(4, 0).repeat(4, 1)
        if image.shape == (32, 32, 3):
            assert np.array_equal(enlarged, four)
        else:
            expected = Image.fromarray(four).resize((128, 128), Image.Resampling.LANCZOS)
            assert np.array_equal(enlarged, np.asarray(expected))


def test_the_pcam_recipe_32_to_128_to_224(tmp_path, toy_root):
    save_stand_in(tmp_path / "model", 1)
    model = f"{{name: super_resolution, model: {tmp_path / 'model'}}}"
    steps = f"[{{name: center_crop, size: 32}}, {model}, {{name: resize, size: 224, method: lanczos}}]"
    config = load_config("pcam_esrgan", [f"image.steps={steps}"])
    assert [step.name for step in load_config("pcam_esrgan").image.steps] == [
        "center_crop",
        "super_resolution",
        "resize",
    ]
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
    four = patch[32:64, 32:64].repeat(4, 0).repeat(4, 1)
    expected = Image.fromarray(four).resize((224, 224), Image.Resampling.LANCZOS)
    assert np.array_equal(prepare(patch, config.image), np.asarray(expected))
    records = build(toy_root, tmp_path / "r", config.image)
    assert len(records.table) == 150


def test_no_model_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    step = {"name": "super_resolution", "model": str(tmp_path / "none")}
    with pytest.raises(
        ConfigError, match=r"super_resolution cannot load .*download the model elsewhere .*TFHUB_CACHE_DIR"
    ):
        list(apply_steps([np.zeros((8, 8, 3), np.uint8)], settings(step)))
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_hub", None)
    super_resolution.load_model.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install tensorflow-hub"):
        super_resolution.load_model(str(tmp_path))


def test_where_a_saved_model_is_looked_for(tmp_path):
    find = tfhub.find_saved_model
    mounted = tmp_path / "models/captain-pool/esrgan-tf2/tensorflow2/default/1"
    mounted.mkdir(parents=True)
    (mounted / "saved_model.pb").touch()
    handle = "https://tfhub.dev/captain-pool/esrgan-tf2/1"
    assert find(handle, tmp_path) == str(mounted)
    assert find(str(tmp_path), tmp_path / "nowhere") == str(mounted)
    assert find(handle, tmp_path / "nowhere") is None
    (mounted.parent / "2").mkdir()
    (mounted.parent / "2" / "saved_model.pb").touch()
    with pytest.raises(ConfigError, match="holds 2 SavedModels"):
        find(handle, tmp_path)


def test_a_handle_in_the_cache_needs_no_network(tmp_path, monkeypatch):
    handle = "https://tfhub.dev/captain-pool/esrgan-tf2/1"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    save_stand_in(tmp_path / "f591ba671b05004f8d321dc431aa264a1ed374cc", 1)  # SHA-1 of the handle
    enlarge = super_resolution.load_model.__wrapped__(handle)
    assert enlarge(np.full((2, 3, 3, 1), 7, np.uint8)).shape == (2, 12, 12, 3)

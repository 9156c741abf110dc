import io

import cv2
import numpy as np
import pytest
from PIL import Image

from kit.config import ImageSettings
from kit.data.pixels.images import conform, encode, load, read_image
from kit.data.pixels.steps import prepare
from kit.errors import UnreadableImage
from kit.runtime.devices import import_tensorflow


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.bmp"])
def test_reads_what_was_written(tmp_path, pixels, name):
    Image.fromarray(pixels).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name), pixels)


def test_grey_palette_and_alpha(tmp_path, pixels):
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), pixels[..., :1])
    Image.fromarray(np.dstack([pixels, pixels[..., 0]])).save(tmp_path / "rgba.png")
    assert np.array_equal(read_image(tmp_path / "rgba.png"), pixels)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (40, 30, 3)


@pytest.mark.parametrize("transparency", [3, bytes([0, 128] + [255] * 14)])
def test_a_palette_with_transparency_is_read_without_it(tmp_path, pixels, transparency):
    palette = Image.fromarray(pixels).quantize(16)
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "transparent.png", transparency=transparency)
    assert np.array_equal(read_image(tmp_path / "transparent.png"), read_image(tmp_path / "plain.png"))


@pytest.mark.parametrize("format", ["TIFF", "PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, pixels, format, share):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    path = tmp_path / "x"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(UnreadableImage):
        read_image(path)


def test_what_is_no_image(tmp_path):
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(UnreadableImage, match="empty"):
        read_image(tmp_path / "empty.tif")
    with pytest.raises(UnreadableImage, match="not an image"):
        read_image(tmp_path / "text.tif")


def test_resizing_shrinks_by_area_and_leaves_the_right_size_alone(pixels):
    assert np.array_equal(
        prepare(pixels, ImageSettings(size=16)), cv2.resize(pixels, (16, 16), interpolation=cv2.INTER_AREA)
    )
    square = pixels[:30]
    assert np.array_equal(prepare(square, ImageSettings(size=30)), square)
    assert prepare(pixels, ImageSettings(size=64)).shape == (64, 64, 3)


def test_colour(pixels):
    assert prepare(pixels, ImageSettings(size=16, color="gray")).shape == (16, 16, 1)
    grey = np.full((16, 16, 1), 77, np.uint8)
    assert np.array_equal(prepare(grey, ImageSettings(size=16)), np.full((16, 16, 3), 77))
    # ITU-R BT.601 luma of pure green: 0.587 * 255
    green = np.zeros((16, 16, 3), np.uint8) + np.array([0, 255, 0], np.uint8)
    assert prepare(green, ImageSettings(size=16, color="gray"))[0, 0, 0] == 150


@pytest.mark.parametrize("channels", [1, 3])
def test_png_and_raw_lose_nothing_and_jpeg_little(channels):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8), (32, 32))[..., :channels]
    assert encode(smooth, "raw") == smooth.tobytes()
    for encoding, at_most in (("png", 0), ("jpeg", 24)):  # colour is subsampled
        with Image.open(io.BytesIO(encode(smooth, encoding))) as image:
            back = np.asarray(image).reshape(smooth.shape)
        assert np.abs(back.astype(int) - smooth).max() <= at_most


# --- JPEGs ---


@pytest.fixture
def photo():
    """A smooth (512, 512, 3) picture with some grain."""
    y, x = np.mgrid[:512, :512]
    waves = np.stack([127 + 50 * np.sin(x / 23 + c) + 50 * np.cos(y / 31 - c) for c in range(3)], axis=-1)
    return (waves + np.random.default_rng(0).normal(0, 4, waves.shape)).clip(0, 255).astype(np.uint8)


def jpeg_of(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "scale"), [(64, 4), (100, 2), (128, 2), (129, 1), (300, 1)])
def test_a_jpeg_that_shrinks_is_decoded_at_a_scale_that_leaves_twice_the_size(photo, size, scale):
    data = jpeg_of(photo)
    pixels = load(data, ImageSettings(size=size))
    assert pixels.shape == (512 // scale, 512 // scale, 3)
    whole = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    expected = cv2.resize(whole, (size, size), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(conform(pixels, ImageSettings(size=size)) - expected).mean() < 0.6


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_a_jpeg_of_the_wanted_size_is_kept_and_read_as_it_would_have_been_decoded(photo, options, color):
    data = jpeg_of(photo, **options)
    settings = ImageSettings(size=512, color=color)
    assert load(data, settings) == data
    decoded = load(data, ImageSettings(size=512, color=color, encoding="png"))
    tensorflow = import_tensorflow().io.decode_jpeg(data, decoded.shape[2], dct_method="INTEGER_ACCURATE")
    assert np.array_equal(tensorflow, decoded)


def test_jpegs_that_are_not_kept(photo):
    data = jpeg_of(photo)
    for settings in (
        ImageSettings(size=256),
        ImageSettings(size=512, encoding="jpeg:90"),
        ImageSettings(size=512, encoding="raw"),
        ImageSettings(size=512, steps=({"name": "clahe"},)),
    ):
        assert isinstance(load(data, settings), np.ndarray)
    with pytest.raises(UnreadableImage, match="truncated"):
        load(data[:-3000], ImageSettings(size=512))
    buffer = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(buffer, "JPEG")
    assert load(buffer.getvalue(), ImageSettings(size=512)).shape == (512, 512, 3)


def test_grey_in_three_channels_is_stored_as_one(photo):
    grey = photo[..., :1]
    for encoding in ("png", "jpeg:95"):
        assert encode(np.repeat(grey, 3, axis=2), encoding) == encode(grey, encoding)
    tf = import_tensorflow()
    assert np.array_equal(tf.io.decode_jpeg(encode(grey, "png"), 3), np.repeat(grey, 3, axis=2))


def test_jpeg_quality(photo):
    sizes = [len(encode(photo, encoding)) for encoding in ("jpeg:50", "jpeg:80", "jpeg", "auto:95", "jpeg:100")]
    assert sizes == sorted(sizes)
    assert encode(photo, "jpeg") == encode(photo, "auto:95") == encode(photo, "jpeg:95")
    assert encode(photo, "auto") == encode(photo, "png")

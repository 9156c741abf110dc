"""Damaged image files: the reader returns pixels or says why not, and keeps no JPEG that training would fail over."""

import io

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from kit.config import ImageSettings
from kit.data.pixels import jpeg
from kit.data.pixels.images import decode, load
from kit.errors import UnreadableImage
from kit.runtime.devices import import_tensorflow
from tests.fuzz import examples

SIZE = 64
AUTO = ImageSettings(size=SIZE)
KINDS = {
    "plain": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 3},
    "optimised": {"optimize": True, "quality": 60},
    "grey": {},
    "grey, progressive": {"progressive": True},
}


def picture(number):
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = np.stack([127 + 50 * np.sin(x / 9 + c + number) + 50 * np.cos(y / 11 - c) for c in range(3)], axis=-1)
    return (waves + rng.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


def saved(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


JPEGS = [
    saved(picture(n)[..., 0] if kind.startswith("grey") else picture(n), "JPEG", **{"quality": 90, **options})
    for n in range(3)
    for kind, options in KINDS.items()
]


def scan_of(data):
    """Where the entropy-coded data begin."""
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")


def flipped(data, at, bit):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@st.composite
def damaged_jpegs(draw):
    """A JPEG and what was done to it."""
    data = draw(st.sampled_from(JPEGS))
    start = draw(st.sampled_from([2, scan_of(data)]))
    at = draw(st.integers(start, len(data) - 3))
    marker = bytes([0xFF, draw(st.integers(1, 255))])
    some = draw(st.binary(min_size=1, max_size=40))
    return draw(
        st.sampled_from(
            [
                data,
                data + some,
                data + bytes(5000),
                data[:-2] + bytes(len(some)) + data[-2:],
                data[:-2] + some + data[-2:],
                data[:at] + some + data[at + len(some) :],
                data[:at] + data[at + len(some) :],
                data[:at] + bytes(16) + data[at + 16 :],
                data[:at],
                data[:at] + b"\xff\xd9",
                data[:at] + marker + data[at + 2 :],
                data[:at] + marker + data[at:],
                data[:at] + b"\xff\xc0\0\x0b" * 4 + data[at + 16 :],
                flipped(data, at, draw(st.integers(0, 7))),
                flipped(flipped(data, at, draw(st.integers(0, 7))), draw(st.integers(start, len(data) - 3)), 3),
                data[:at] + data[max(start, at - 50) :],
            ]
        )
    )


def tensorflow_decodes(data, channels):
    tf = import_tensorflow()
    try:
        return tf.io.decode_jpeg(data, channels, dct_method="INTEGER_ACCURATE").numpy()
    except tf.errors.InvalidArgumentError:
        return None


@seed(0)
@given(damaged_jpegs())
@settings(max_examples=examples(800), deadline=None, database=None)
def test_jpegs_that_are_kept_are_decoded_in_training_to_the_pixels_of_the_build(data):
    try:
        content = load(data, AUTO)
    except UnreadableImage as error:
        assert str(error)
        return
    if isinstance(content, bytes):
        assert content == data and jpeg.damage(data) is None
        for channels in (1, 3):
            pixels = tensorflow_decodes(data, channels)
            assert pixels is not None and pixels.shape == (SIZE, SIZE, channels)
            assert np.array_equal(pixels, np.broadcast_to(decode(data, grey=channels == 1), pixels.shape))


@seed(0)
@given(damaged_jpegs())
@settings(max_examples=examples(300), deadline=None, database=None)
def test_verifying_finds_every_jpeg_that_training_would_fail_over(data):
    if jpeg.is_jpeg(data) and jpeg.damage(data) is None:
        assert tensorflow_decodes(data, 1) is not None
        assert tensorflow_decodes(data, 3) is not None


# --- other formats ---

DEEP = (picture(0)[..., 0].astype(np.uint16) * 200).clip(0, 60_000).astype(np.uint16)
FILES = {
    "png": saved(picture(0), "PNG"),
    "png 16": saved(DEEP, "PNG"),
    "tiff": saved(picture(0), "TIFF"),
    "tiff lzw": saved(picture(0), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": saved(picture(0), "TIFF", compression="jpeg"),
    "tiff 16": saved(DEEP, "TIFF", compression="tiff_adobe_deflate"),
    "tiff float": saved(DEEP.astype(np.float32), "TIFF"),
    "tiff pages": saved(picture(0), "TIFF", save_all=True, append_images=[Image.fromarray(picture(1))]),
    "gif": saved(picture(0), "GIF"),
    "bmp": saved(picture(0), "BMP"),
    "ppm": saved(picture(0), "PPM"),
    "webp": saved(picture(0), "WEBP"),
    "jpeg": JPEGS[0],
    "cmyk": saved(np.dstack([picture(0), picture(1)[..., 0]]), "TIFF"),
}


@st.composite
def damaged_files(draw):
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data))))
        new = draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff"]))
        )
        match draw(st.sampled_from(["replace", "replace", "insert", "remove", "cut"])):
            case "replace":
                data[at : at + len(new)] = new
            case "insert":
                data[at:at] = new
            case "remove":
                del data[at : at + len(new)]
            case "cut":
                del data[max(1, at) :]
    return bytes(data)


@seed(0)
@given(st.one_of(damaged_files(), st.binary(max_size=60)))
@settings(max_examples=examples(1000), deadline=None, database=None)
@pytest.mark.filterwarnings("error")
def test_any_bytes_are_an_image_or_have_a_reason(data):
    try:
        pixels = decode(data, ImageSettings(max_pixels=10_000_000))
    except UnreadableImage as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size

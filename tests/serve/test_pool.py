"""Files are read as records read them, in processes that may die."""

import io
import os
import signal
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from kit.config import ImageSettings
from kit.data.pixels.prepared import prepare_file
from kit.errors import UnreadableImage
from kit.serve import pool as pools
from kit.serve.limits import Limits, in_words
from kit.serve.pool import Pool
from tests.data.pixels.test_dicom import dicom_of

pytestmark = pytest.mark.once
GREY = ImageSettings(size=48, color="gray")
LIMITS = Limits(pixels=1_000_000)


@pytest.fixture(scope="module")
def pool():
    made = Pool(GREY, LIMITS, 2)
    yield made
    made.close()


def values():
    return np.random.default_rng(0).integers(0, 4000, (90, 120)).astype(np.uint16)


def encoded(kind, size=(120, 90)):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


FILES = {"a.png": encoded("PNG"), "a.jpg": encoded("JPEG"), "a.tif": encoded("TIFF"), "a.dcm": dicom_of(values())}


@pytest.mark.parametrize("name", FILES)
def test_an_image_is_what_records_would_hold(pool, tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    prepared = pool.prepare(FILES[name])
    assert np.array_equal(prepared.image, prepare_file(tmp_path / name, GREY))
    assert tuple(prepared.size) == (120, 90)


def test_the_values_of_a_dicom_are_exact(pool):
    data = dicom_of(values(), RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400)
    picture = pool.picture(data)
    layers = cv2.imdecode(np.frombuffer(picture.values, np.uint8), cv2.IMREAD_COLOR)
    deep = layers[..., 2].astype(np.float64) * 256 + layers[..., 1]
    window = picture.window
    shown = window["least"] + deep / 65535 * (window["most"] - window["least"])
    assert np.abs(shown - (2.0 * values() - 1000)).max() <= (window["most"] - window["least"]) / 65535
    assert (window["low"], window["high"], window["inverted"]) == (-160, 240, False)
    assert (picture.width, picture.height) == (120, 90)
    assert pool.picture(FILES["a.png"]).window is None
    assert pool.picture(dicom_of(values(), PhotometricInterpretation="MONOCHROME1")).window["inverted"]


def test_a_large_picture_is_made_smaller(pool):
    picture = pool.picture(encoded("PNG", (1200, 600)))
    assert cv2.imdecode(np.frombuffer(picture.shown, np.uint8), cv2.IMREAD_COLOR).shape == (512, 1024, 3)
    assert (picture.width, picture.height) == (1200, 600)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x89PNG\r\n\x1a\n", FILES["a.dcm"][:3000], b"\x80\x04cos\nsystem\n"]
)
def test_what_is_no_image_is_said(pool, data):
    with pytest.raises(UnreadableImage):
        pool.prepare(data)
    assert pool.prepare(FILES["a.png"]).image.shape == (48, 48, 1)


def huge_png():
    """A PNG that says it has 10 000 x 10 000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0"), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def test_too_many_pixels_or_frames(pool):
    with pytest.raises(UnreadableImage) as error:
        pool.prepare(huge_png())
    text = in_words(str(error.value), LIMITS)
    assert text == "it has 100,000,000 pixels, more than the 1,000,000 that are taken here"
    with pytest.raises(UnreadableImage) as error:
        pool.prepare(dicom_of(np.zeros((4, 4), np.uint8), NumberOfFrames=3, PixelData=bytes(48)))
    assert in_words(str(error.value), LIMITS) == "it has 3 frames: save one of them as a file of its own"


def test_sentences_name_no_path():
    assert in_words("cannot open /tmp/kit-1/a.png: no", LIMITS) == "cannot open …: no"


def processes(pool):
    return [reader._process for reader in pool._all]


def test_a_reader_that_dies_is_replaced(pool):
    before = {process.pid for process in processes(pool)}
    for process in processes(pool):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(pool.prepare, [FILES["a.png"]] * 8))
    assert all(each.image.shape == (48, 48, 1) for each in images)
    assert not before & {process.pid for process in processes(pool)}


def test_a_file_at_which_a_reader_dies_is_damaged(pool):
    ids = [process.pid for process in processes(pool)]
    for pid in ids:
        os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in ids]).start()
    with pytest.raises(UnreadableImage, match="damaged"):
        pool.prepare(FILES["a.png"])
    assert pool.prepare(FILES["a.png"]).image.shape == (48, 48, 1)


def test_a_reader_that_takes_too_long_is_replaced(monkeypatch):
    monkeypatch.setattr(pools, "_START", 0.3)
    slow = Pool(GREY, Limits(seconds=0.2), 1)
    try:
        (process,) = processes(slow)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(UnreadableImage, match="takes longer than"):
            slow.prepare(FILES["a.png"])
        assert process.poll() is not None
    finally:
        slow.close()


def test_readers_end_with_their_pool():
    made = Pool(GREY, LIMITS, 2)
    ended = processes(made)
    made.close()
    assert all(process.poll() is not None for process in ended)

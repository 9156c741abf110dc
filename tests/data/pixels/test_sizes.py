"""Sizes from headers are those of the decoded images."""

import io

import numpy as np
import pytest
from PIL import Image

from kit.data.pixels.images import read_image
from kit.data.pixels.sizes import size_of, sizes_of
from kit.errors import UnreadableImage
from tests.competitions.conftest import write_dicom

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_turned_images_have_the_size_that_is_shown(tmp_path, kind, orientation):
    path = tmp_path / "image"
    Image.fromarray(PIXELS).save(path, kind, exif=turned(orientation))
    assert size_of(path) == read_image(path).shape[1::-1] == ((20, 30) if orientation > 4 else (30, 20))


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "JPEG2000"])
def test_other_formats(tmp_path, kind):
    path = tmp_path / "image"
    Image.fromarray(PIXELS).save(path, kind)
    assert size_of(path) == read_image(path).shape[1::-1] == (30, 20)


def test_dicoms_and_headers_longer_than_a_block(tmp_path):
    write_dicom(tmp_path / "a.dcm", PIXELS)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=turned(6))
    comment = b"\xff\xfe" + (60_000).to_bytes(2, "big") + b"x" * 59_998
    (tmp_path / "b.jpg").write_bytes(buffer.getvalue()[:2] + 2 * comment + buffer.getvalue()[2:])
    large = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)  # longer than what is read at once
    Image.fromarray(large).save(tmp_path / "c.png", exif=turned(6))
    assert sizes_of([tmp_path / name for name in ("a.dcm", "b.jpg", "c.png")]) == [(30, 20), (20, 30), (300, 400)]


def test_an_exif_block_behind_the_pixels_of_a_png_counts(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", exif=turned(6))
    data = buffer.getvalue()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    at = data.index(b"IEND") - 4
    block = data[start:end]
    moved = data[:start] + data[end:at] + block + data[at:] if end <= at else data
    (tmp_path / "a.png").write_bytes(moved)
    assert size_of(tmp_path / "a.png") == read_image(tmp_path / "a.png").shape[1::-1] == (20, 30)


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0\0\0\0\0"])
def test_what_is_no_image_has_no_size(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UnreadableImage):
        size_of(tmp_path / "a")
    assert sizes_of([tmp_path / "a", tmp_path / "none", tmp_path]) == [None, None, None]

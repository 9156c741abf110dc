import io
import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kit.config import DataSettings, ImageSettings
from kit.data.pixels import jpeg
from kit.data.pixels.images import decode, load
from kit.data.pixels.messages import Messages
from kit.data.records import batches as batches_module
from kit.data.records.batches import eval_batches, naming_damage, train_batches
from kit.data.records.build import build_records
from kit.data.records.manifest import verify_records
from kit.data.table.examples import Examples
from kit.errors import DataError, UnreadableImage
from kit.runtime.devices import import_tensorflow

SIZE = 64
AUTO = ImageSettings(size=SIZE)


def jpeg_of(number=0, **options):
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def damaged(data):
    """What was done -> the bytes of a JPEG whose pixels are lost in part, its end marker intact."""
    half = len(data) // 2
    return {
        "hole": data[:half] + b"\xff\xc0\0\x0b" * 4 + data[half + 16 :],
        "cut, with an end put back": data[:half] + b"\xff\xd9",
        "a scan in the scan": data[:half] + b"\xff\xda" + data[half + 2 :],
        "a segment in the scan": data[:half] + b"\xff\xe1" + data[half + 2 :],
        "bytes that are gone": data[:half] + data[half + 40 :],
    }


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_lost_pixels_are_refused_whether_a_jpeg_is_kept_or_decoded(options):
    for what, data in damaged(jpeg_of(**options)).items():
        for settings in (AUTO, ImageSettings(size=16), ImageSettings(size=SIZE, encoding="png", color="gray")):
            with pytest.raises(UnreadableImage, match=r"Corrupt JPEG data|JPEG cannot be decoded|truncated"):
                load(data, settings)
        assert jpeg.damage(data), what


@pytest.mark.parametrize("size", [SIZE, 16])
def test_a_progressive_jpeg_that_ends_between_two_scans_is_truncated(size):
    data = jpeg_of(progressive=True)
    scans = [n for n in range(len(data)) if data[n : n + 2] == b"\xff\xda"]
    tables = [n for n in range(scans[0], len(data)) if data[n : n + 2] == b"\xff\xc4"]  # in front of each scan
    for end in tables:
        with pytest.raises(UnreadableImage, match="its last scans are missing"):
            load(data[:end] + b"\xff\xd9", ImageSettings(size=size))


def test_a_colour_that_never_comes(tmp_path):
    """Components in scans of their own, of which the last is missing."""
    one = jpeg_of(subsampling=0)
    start = one.index(b"\xff\xda")
    header = jpeg.parse(one[:start] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + one[start + 14 :])
    with pytest.raises(UnreadableImage, match="its last scans are missing"):
        jpeg.decode(header)


def test_bytes_after_the_end_are_nothing():
    data, png = jpeg_of(), ImageSettings(size=SIZE, encoding="png")
    for tail in (bytes(30), bytes(5000), b"GIF89a" * 20):
        assert np.array_equal(load(data + tail, png), load(data, png))
    assert load(data + bytes(30), AUTO) == data + bytes(30)
    assert isinstance(load(data + bytes(5000), AUTO), np.ndarray)


def test_padding_before_the_end_is_no_damage_and_other_bytes_are():
    data, png = jpeg_of(), ImageSettings(size=SIZE, encoding="png")
    padded = data[:-2] + bytes(40) + data[-2:]
    assert np.array_equal(load(padded, png), load(data, png))
    assert isinstance(load(padded, AUTO), np.ndarray)  # TensorFlow would remark on it in every epoch
    with pytest.raises(UnreadableImage, match=r"\d+ extraneous bytes before marker 0xd9"):
        load(data[:-2] + bytes(range(40)) + data[-2:], png)


def test_damaged_metadata_are_nothing():
    data, png = jpeg_of(), ImageSettings(size=SIZE, encoding="png")
    for segment in (
        b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff",
        b"\xff\xe2\0\x0eMPF\0II*\0\x08\0\0\0",
        b"\xff\xe0\0\x10JFIF\0\x09\x09\0\0\1\0\1\0\0",  # an unknown revision
        b"\xff\xed\0\x08Photos",
        b"\xff\xfe\0\x05\xff\xd9\xff",
    ):
        assert np.array_equal(load(data[:2] + segment + data[2:], png), load(data, png))
        assert isinstance(load(data[:2] + segment + data[2:], AUTO), bytes)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"keep_rgb": True}])
@pytest.mark.parametrize("shape", [(96, 128), (97, 131), (37, 37)])
def test_the_pixels_are_those_of_pillow_at_every_scale(options, shape, scale):
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([127 + 60 * np.sin(x / 9 + c) + 60 * np.cos(y / 7 - c) for c in range(3)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", **options)
    for grey in (False, True):
        with Image.open(io.BytesIO(buffer.getvalue())) as image:
            image.draft("L" if grey else image.mode, (shape[1] // scale, shape[0] // scale))
            expected = np.asarray(image).reshape(*image.size[::-1], -1)
        assert np.array_equal(jpeg.decode(jpeg.parse(buffer.getvalue()), scale, grey), expected)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", jpeg_of()[:100], b"\xff\xd8\xff\xda\0\x02"])
def test_half_a_header(data):
    with pytest.raises(UnreadableImage, match="JPEG"):
        decode(data)


def test_cmyk():
    buffer = io.BytesIO()
    Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)).save(buffer, "JPEG", quality=95)
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(load(data, AUTO), np.asarray(image.convert("RGB")))
    with pytest.raises(UnreadableImage):
        load(data[:-100] + b"\xff\xd9", AUTO)


# --- messages of the decoder ---


def test_threads_learn_of_their_own_damage_alone():
    good, bad = [jpeg_of(n) for n in range(40)], [damaged(jpeg_of(n))["hole"] for n in range(40)]
    files = [data for pair in zip(good, bad, strict=True) for data in pair]
    barrier = threading.Barrier(4)

    def reasons(part):
        barrier.wait()
        return [jpeg.damage(data) for data in part]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(reasons, [files[n::4] + files for n in range(4)]):
            assert [reason is None for reason in found[-80:]] == [True, False] * 40


def test_what_others_write_to_stderr_meanwhile_comes_out(capfd):
    def work():
        os.write(2, b"a line of another thread\nCorrupt JPEG data: bad Huffman code\nand one more\n")
        return 7

    assert Messages().during(work) == (7, ["Corrupt JPEG data: bad Huffman code"])
    assert capfd.readouterr().err == "a line of another thread\nand one more\n" * 2  # it is asked twice
    with pytest.raises(ZeroDivisionError):
        Messages().during(lambda: 1 / 0)
    os.write(2, b"as before")
    assert capfd.readouterr().err == "as before"


def test_without_stderr(tmp_path):
    script = (
        "import os, sys; from kit.data.pixels import jpeg; data = open(sys.argv[1], 'rb').read(); os.close(2); "
        "print(jpeg.damage(data), os.dup(1) == 2)"  # 2 is free again
    )
    (tmp_path / "x.jpg").write_bytes(jpeg_of())
    result = subprocess.run([sys.executable, "-c", script, tmp_path / "x.jpg"], capture_output=True, text=True)
    assert result.stdout == "None True\n"


# --- in records ---


def records_of(root, files, out, max_rejected=0.5):
    root.mkdir(exist_ok=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    names = sorted(files)
    rows = {"id": [name[:-4] for name in names], "path": names, "bytes": 1, "split": "train", "group": names}
    examples = Examples(pd.DataFrame({**rows, "y_x": [0.0, 1.0] * (len(names) // 2)}), ("x",), "binary")
    return build_records("x", examples, root, out, AUTO, DataSettings(max_rejected=max_rejected), 1)


def test_a_build_rejects_what_training_would_fail_over(tmp_path):
    bad = {f"bad{n}.jpg": data for n, data in enumerate(damaged(jpeg_of()).values())}
    good = {f"good{n}.jpg": jpeg_of(n) for n in range(7)}
    records = records_of(tmp_path / "raw", good | bad, tmp_path / "r")
    assert sorted(entry.path for entry in records.rejected) == sorted(bad)
    assert all(entry.reason for entry in records.rejected)
    assert sum(batch.mask.sum() for batch in eval_batches(records, [*range(records.cells)], 4)) == 7
    assert verify_records(records) == 7


@pytest.fixture
def old_records(tmp_path, monkeypatch):
    """Records that hold a damaged JPEG, as builds of before may."""
    files = {f"good{n}.jpg": jpeg_of(n) for n in range(7)} | {"bad.jpg": damaged(jpeg_of(9))["hole"]}
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "can_be_kept", lambda header: True)
        return records_of(tmp_path / "raw", files, tmp_path / "r")


def test_an_image_that_cannot_be_decoded_is_named(old_records):
    cells = [*range(old_records.cells)]
    message = (
        r"tfrecord, record 0: the image of bad \(bad\.jpg\) cannot be decoded: .*: repair it or leave it out, delete"
    )
    with pytest.raises(DataError, match=message):
        verify_records(old_records)
    with pytest.raises(DataError, match=message):
        list(eval_batches(old_records, cells, 4))
    with pytest.raises(DataError, match=message), naming_damage(old_records):
        list(train_batches(old_records, cells, 4, 0).take(4).as_numpy_iterator())


def test_one_that_only_tensorflow_cannot_decode_is_named_too(old_records, monkeypatch):
    monkeypatch.setattr(batches_module, "verify_records", lambda records: None)
    with pytest.raises(DataError, match=r"TensorFlow cannot decode the image of bad \(bad\.jpg\)"):
        list(eval_batches(old_records, [*range(old_records.cells)], 4))


def test_tensorflow_fails_over_the_kinds_of_damage_that_are_tried():
    tf = import_tensorflow()
    for what in ("hole", "a scan in the scan", "a segment in the scan"):
        with pytest.raises(tf.errors.InvalidArgumentError):
            tf.io.decode_jpeg(damaged(jpeg_of())[what])


def test_arithmetic_coding_is_not_kept():
    data = jpeg_of()
    frame = data.index(b"\xff\xc0")
    header = jpeg.parse(data[:frame] + b"\xff\xc9" + data[frame + 2 :])
    assert header.frame == 0xC9 and not jpeg.can_be_kept(header)
    assert struct.unpack(">HH", data[frame + 5 : frame + 9]) == (header.height, header.width)

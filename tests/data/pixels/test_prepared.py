"""A prepared image is what a model gets from records of the same file, to the bit."""

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from kit.config import DataSettings, DicomSettings, ImageSettings
from kit.data.pixels.prepared import prepare_array, prepare_file
from kit.data.pixels.shared import Shared, add_warnings_filter
from kit.data.pixels.steps import prepare
from kit.data.records.batches import eval_batches
from kit.data.records.build import build_records
from kit.data.table.examples import Examples
from kit.errors import UnreadableImage

SIZE = 37  # odd: chroma of a JPEG at the edges

STEPS = {
    "none": (),
    "grey, crop": ({"name": "grayscale"}, {"name": "center_crop", "size": 35}),
    "resize, clahe": ({"name": "resize", "size": 64, "method": "lanczos"}, {"name": "clahe", "tiles": 4}),
}


def photo(height, width):
    y, x = np.mgrid[:height, :width]
    waves = np.stack([127 + 50 * np.sin(x / 7 + c) + 50 * np.cos(y / 9 - c) for c in range(3)], axis=-1)
    return (waves + np.random.default_rng(0).normal(0, 6, waves.shape)).clip(0, 255).astype(np.uint8)


def image_bytes(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def dicom_bytes(pixels, jpeg=None):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = 8 * pixels.itemsize - 1, 0
    dataset.PixelData = encapsulate([jpeg]) if jpeg else pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with one file of each kind."""
    small, large = photo(SIZE, SIZE), photo(201, 260)
    array = io.BytesIO()
    np.save(array, large)
    files = {
        "rgb.png": image_bytes(large, "PNG"),
        "grey.png": image_bytes(large[..., 0], "PNG"),
        "grey_in_three.png": image_bytes(np.repeat(large[..., :1], 3, axis=2), "PNG"),
        "exact.png": image_bytes(small, "PNG"),
        "small.png": image_bytes(photo(36, 50), "PNG"),
        "exact.jpg": image_bytes(small, "JPEG", quality=90),  # stored undecoded where nothing is to be done
        "exact_444.jpg": image_bytes(small, "JPEG", quality=90, subsampling=0, progressive=True),
        "exact_grey.jpg": image_bytes(small[..., 0], "JPEG", quality=90),
        "large.jpg": image_bytes(large, "JPEG", quality=90),
        "large_grey.jpg": image_bytes(large[..., 0], "JPEG", quality=90),
        "frame.dcm": dicom_bytes(small[..., 0], image_bytes(small[..., 0], "JPEG", quality=90)),
        "16_bit.dcm": dicom_bytes(large[..., 0].astype(np.uint16) * 16),
        "large.npy": array.getvalue(),
    }
    root = tmp_path_factory.mktemp("sources")
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def from_records(root, out, image):
    """Name -> the image that records of the files in `root` give to a model."""
    names = sorted(path.name for path in root.iterdir())
    rows = {"id": names, "path": names, "bytes": 1, "split": "train", "group": names, "y_x": np.float32(1)}
    examples = Examples(pd.DataFrame(rows), ("x",), "binary")
    records = build_records("x", examples, root, out, image, DataSettings(), workers=1)
    batches = eval_batches(records, [*range(records.cells)], 8)
    return {name: pixels for batch in batches for name, pixels in zip(batch.ids, batch.images, strict=False)}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg:80", "auto", "auto:80"])
def test_files_are_prepared_as_for_records(sources, tmp_path, encoding, color, steps):
    image = ImageSettings(size=SIZE, encoding=encoding, color=color, steps=STEPS[steps])
    expected = from_records(sources, tmp_path / "r", image)
    assert len(expected) == 13
    for name, pixels in expected.items():
        prepared = prepare_file(sources / name, image)
        assert prepared.dtype == np.uint8 and prepared.shape == (SIZE, SIZE, 1 if color == "gray" else 3)
        assert np.array_equal(prepared, pixels), name


@pytest.mark.parametrize("dicom", [{"percentiles": [5, 95]}, {"window": "first"}])
def test_the_settings_of_dicoms_apply(sources, tmp_path, dicom):
    image = ImageSettings(size=SIZE, color="gray", dicom=DicomSettings(**dicom))
    expected = from_records(sources, tmp_path / "r", image)
    for name in ("frame.dcm", "16_bit.dcm"):
        assert np.array_equal(prepare_file(sources / name, image), expected[name])


# --- arrays ---


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg:80", "auto", "auto:80"])
def test_arrays_are_prepared_as_files_of_the_same_pixels(tmp_path, encoding, color):
    image = ImageSettings(size=SIZE, encoding=encoding, color=color)
    for n, pixels in enumerate((photo(50, 40), photo(SIZE, SIZE), photo(90, 120)[..., 0])):
        (tmp_path / f"{n}.png").write_bytes(image_bytes(pixels, "PNG"))
        assert np.array_equal(prepare_array(pixels, image), prepare_file(tmp_path / f"{n}.png", image))


shapes = st.tuples(st.integers(1, 60), st.integers(1, 60), st.sampled_from([(), (1,), (3,)]))
uint8_arrays = shapes.flatmap(lambda shape: arrays(np.uint8, (*shape[:2], *shape[2])))


@given(uint8_arrays, st.sampled_from(["raw", "png", "auto"]), st.sampled_from(["rgb", "gray"]))
@settings(max_examples=60, deadline=None)
def test_any_array_has_the_final_shape_and_lossless_encodings_change_nothing(pixels, encoding, color):
    image = ImageSettings(size=16, encoding=encoding, color=color)
    prepared = prepare_array(pixels, image)
    assert prepared.shape == (16, 16, 1 if color == "gray" else 3)
    assert np.array_equal(prepared, prepare(pixels.reshape(*pixels.shape[:2], -1), image))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.int64),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_arrays_that_are_no_image(array):
    with pytest.raises(UnreadableImage, match=r"an array of \w+, shape .*; expected uint8, \(height, width\)"):
        prepare_array(array, ImageSettings(size=16))


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("absent.png", None, "No such file or directory"),
        ("text.png", b"dear diary", "not an image file"),
        ("empty.png", b"", "the file is empty"),
        ("cut.png", image_bytes(photo(64, 64), "PNG")[:500], "truncated"),
        ("cut.jpg", image_bytes(photo(64, 64), "JPEG")[:-300], "truncated"),
        ("cut.dcm", dicom_bytes(photo(64, 64)[..., 0])[:-100], "pixels cannot be decoded"),
        ("cut.npy", b"\x93NUMPY\x01", r"not a \.npy that can be read"),
        ("small.png", image_bytes(photo(8, 20), "PNG"), "center_crop to 16 pixels, but the image has only 20x8"),
    ],
)
def test_a_file_that_cannot_be_read_has_a_reason(tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    steps = ({"name": "center_crop", "size": 16},) if name == "small.png" else ()
    with pytest.raises(UnreadableImage, match=reason):
        prepare_file(tmp_path / name, ImageSettings(size=16, steps=steps))
    with pytest.raises(UnreadableImage):
        prepare_file(tmp_path, ImageSettings(size=16))  # a folder


# --- in threads ---


def test_threads_share_a_setting_until_the_last_one_leaves():
    events, barrier = [], threading.Barrier(2)
    shared = Shared(lambda: events.append("enter") or (lambda: events.append("leave")))

    def first():
        with shared:
            barrier.wait()  # the other is in as well
        events.append("first is out")
        barrier.wait()

    def second():
        with shared, shared:
            barrier.wait()
            barrier.wait()

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events == ["enter", "first is out", "leave"]


def test_files_are_read_in_threads_and_no_warnings_filter_is_left(sources, tmp_path):
    from pydicom import config

    before, mode = list(warnings.filters), config.settings.reading_validation_mode
    image = ImageSettings(size=SIZE, color="gray")
    whole = image_bytes(photo(64, 64), "TIFF")
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    paths = [*sources.iterdir(), tmp_path / "cut.tif"] * 20

    def read(path):
        try:
            return prepare_file(path, image)
        except UnreadableImage as error:
            return error

    alone = dict(zip(paths[:14], map(read, paths[:14]), strict=True))
    with ThreadPoolExecutor(8) as pool:
        for path, pixels in zip(paths, pool.map(read, paths), strict=True):
            if path.name == "cut.tif":
                assert isinstance(pixels, UnreadableImage)
            else:
                assert np.array_equal(pixels, alone[path])
    assert warnings.filters == before
    assert config.settings.reading_validation_mode == mode


def test_a_warnings_filter_can_be_taken_back_after_others_were_set():
    with warnings.catch_warnings():
        remove = add_warnings_filter("error", "somewhere")
        warnings.simplefilter("ignore")
        others = [entry for entry in warnings.filters if "somewhere" not in str(entry[3])]
        remove()
        assert warnings.filters == others
        remove()  # gone already

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from kit.config import ImageSettings
from kit.data import tfrecord
from kit.data.images import decode, load
from kit.data.shards import Job, Row, write_shard
from kit.errors import UnreadableImage


@pytest.fixture
def grey():
    y, x = np.mgrid[:64, :64]
    return (127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)).astype(np.uint8)


def jpeg_of(pixels, quality=95):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def dicom_of(pixels, jpeg=None, **header):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = encapsulate([jpeg]) if jpeg else pixels.tobytes()
    for name, value in header.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    data = buffer.getvalue()
    return data if data[128:132] == b"DICM" else bytes(128) + b"DICM" + data


def test_a_jpeg_frame_of_the_wanted_size_is_stored_undecoded(grey):
    jpeg = jpeg_of(grey)
    stored = load(dicom_of(grey, jpeg), ImageSettings(size=64, color="gray"))
    assert isinstance(stored, bytes)
    assert stored.rstrip(b"\0") == jpeg


def test_pixels_are_pydicoms(grey):
    data = dicom_of(grey, jpeg_of(grey))
    assert np.array_equal(decode(data)[..., 0], pydicom.dcmread(io.BytesIO(data)).pixel_array)
    assert np.array_equal(decode(dicom_of(grey))[..., 0], grey)
    colour = np.dstack([grey, grey.T, 255 - grey])
    assert np.array_equal(decode(dicom_of(colour)), colour)


@pytest.mark.parametrize(
    "header",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 40, "WindowWidth": 400},
        {"NumberOfFrames": 2},
        {"BitsStored": 12, "BitsAllocated": 16},
    ],
)
def test_what_is_not_shown_as_it_is_stored_is_refused(grey, header):
    with pytest.raises(UnreadableImage, match="is not read yet"):
        decode(dicom_of(grey, **header))


def test_broken_files(grey):
    whole = dicom_of(grey)
    with pytest.raises(UnreadableImage):
        decode(whole[:-1000])
    with pytest.raises(UnreadableImage):
        decode(whole[:200])
    dataset = pydicom.dcmread(io.BytesIO(dicom_of(grey, jpeg_of(grey))))
    del dataset.PixelData
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    with pytest.raises(UnreadableImage, match="pixels cannot be decoded"):
        decode(buffer.getvalue())


def test_a_shard_of_files_and_frames(grey):
    jpeg, small = jpeg_of(grey), jpeg_of(grey[:32, :32])
    files = {"a": jpeg, "b": dicom_of(grey, jpeg), "c": small, "d": jpeg[:-2], "e": dicom_of(grey)}
    out = io.BytesIO()
    job = Job("x", 0, [Row(name, name, name, [1.0]) for name in files], 0)
    image = ImageSettings(size=64, color="gray", encoding="auto")
    note = write_shard(out, job, files.__getitem__, image)
    assert note["shard"]["examples"] + len(note["rejected"]) == 5
    assert [entry["id"] for entry in note["rejected"]] in ([], ["d"])  # libjpeg may forgive a missing end marker
    path_bytes = out.getvalue()
    assert path_bytes.count(jpeg) == 2
    assert note["shard"]["bytes"] == len(path_bytes)
    assert tfrecord.parse(path_bytes[12 : 12 + int.from_bytes(path_bytes[:8], "little")])["image"] == [jpeg]

"""DICOMs whose header or pixels are damaged at random: pixels or a reason come out, and no black picture in silence."""

import io
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from kit.config import DicomSettings, ImageSettings
from kit.data.pixels import dicom, dicom_header
from kit.data.pixels.images import decode
from kit.data.pixels.remarks import counted
from kit.errors import UnreadableImage
from tests.data.pixels.test_dicom import dicom_of, jpeg_of, lut
from tests.fuzz import examples

pytestmark = pytest.mark.once

SMALL = {"first": DicomSettings(), "percentiles": DicomSettings(percentiles=(1, 99)), "frame": DicomSettings(frame=0)}
OFTEN = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "ModalityLUTSequence", "VOILUTSequence", "WindowCenterWidthExplanation"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "NumberOfFrames", "PlanarConfiguration", "PixelSpacing", "PatientAge", "PatientSex"),
    *("PixelData", "RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
)
CONTENTS = (
    *(
        b"",
        b"0",
        b"1",
        b"-1",
        b"0.5",
        b"nan",
        b"inf",
        b"1e308",
        b"1e-300",
        b"none",
        b"1\\2",
        b"1\\none",
        b"\\",
        b"5\\5",
    ),
    *(b"\0\0", b"\1\0", b"\xff\xff", b"\0\x80", b"\xff\xfe\xfd", bytes(40), b"9" * 5000, "Größe".encode()),
    *(b"MONOCHROME1", b"RGB", b"PALETTE COLOR", b"YBR_FULL", b"SIGMOID", b"LINEAR_EXACT"),
)
REPRESENTATIONS = ("US", "SS", "DS", "IS", "LO", "OB", "OW", "UN", "FD", "SQ", "CS", "AT", "PN")


def _sources():
    y, x = np.mgrid[:32, :32]
    grey = (127 + 60 * np.sin(x / 5) + 60 * np.cos(y / 7)).astype(np.uint8)
    deep = grey.astype(np.uint16) * 16
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 1, "RescaleIntercept": 0}
    yield "native", dicom_of(deep, PixelPaddingValue=0, **window)
    yield "signed", dicom_of(deep.astype(np.int16) - 1000, PixelPaddingValue=-1000)
    yield "jpeg", dicom_of(grey, jpeg_of(grey))
    yield (
        "luts",
        dicom_of(deep, ModalityLUTSequence=lut(0, 16, [*range(4096)]), VOILUTSequence=lut(9, 16, [*range(99)])),
    )
    yield "colour", dicom_of(np.dstack([grey, grey.T, 255 - grey]))
    names = ("MR_small_RLE", "MR_small_jp2klossless", "examples_palette", "MR_small_implicit")
    for name in (*names, "MR_small_jpeg_ls_lossless", "MR_small_bigendian", "image_dfl", "rtdose_1frame"):
        if path := get_testdata_file(f"{name}.dcm", download=False):
            yield name, Path(str(path)).read_bytes()


SOURCES = dict(_sources())


def _damaged(data, rng):
    """The DICOM with one to three elements deleted, emptied or of other content, or with other bytes."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    for _ in range(rng.randint(1, 3)):
        tag = Tag(pydicom.datadict.tag_for_keyword(rng.choice(OFTEN)))
        if rng.random() < 0.2:
            dataset.pop(tag, None)
            continue
        content = rng.choice(CONTENTS) if rng.random() < 0.8 else rng.randbytes(rng.randint(1, 9))
        vr = rng.choice(REPRESENTATIONS)
        implicit, little = dataset.original_encoding
        dataset._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, bool(implicit), bool(little))
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=False)
        whole = buffer.getvalue()
    except Exception:  # pydicom writes fewer kinds of damage than it reads
        whole = data
    if whole is data or rng.random() < 0.3:
        return _with_other_bytes(whole, rng)
    return whole


def _with_other_bytes(data, rng):
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        changed[rng.randrange(132, len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(132, len(changed))]) if rng.random() < 0.2 else bytes(changed)


def _varies(data):
    """Whether pydicom finds stored values that differ, with nothing of the header but what they are read with."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    for tag in [
        tag
        for tag in list(dataset._dict)
        if tag.group != 0x7FE0 and tag.elem not in (2, 4, 6, 8, 16, 17, *range(256, 260))
    ]:
        del dataset[tag]
    try:
        stored = pydicom.pixels.pixel_array(dataset, index=0, raw=True)
    except Exception:  # an element that kit has mended
        return len(set(dataset.PixelData)) > 1
    return stored.min() < stored.max()


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_dicoms_are_read_or_rejected_with_a_reason(name, tmp_path):
    rng, path = random.Random(name), tmp_path / "damaged.dcm"
    assert decode(SOURCES[name]).dtype == np.uint8
    for _ in range(examples(60)):
        data = _damaged(SOURCES[name], rng)
        path.write_bytes(data)
        try:
            dicom_header.header(path)
            dicom.describe(data)
        except UnreadableImage as error:
            assert str(error)
        if not dicom.is_dicom(data):
            continue
        for settings in SMALL.values():
            with counted() as remarks:
                try:
                    pixels = decode(data, ImageSettings(dicom=settings))
                except UnreadableImage as error:
                    assert str(error)
                    continue
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            if pixels.max() == 0:
                assert remarks or not _varies(data)


def test_every_window_shows_what_varies():
    rng = random.Random(0)
    values = np.arange(0, 4000, 40, dtype=np.uint16).reshape(10, 10)
    numbers = (*range(-3, 4), 0.5, 1e-3, -1e-3, 40, 400, 1024, 4095, 1e6, 1e29, 1e31)
    for _ in range(examples(300)):
        names = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")
        header = {name: f"{rng.choice(numbers):.6g}" for name in names if rng.random() < 0.8}
        header["VOILUTFunction"] = rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID"])
        with counted() as remarks:
            pixels = decode(dicom_of(values, **header))
        assert remarks or pixels.min() < pixels.max()

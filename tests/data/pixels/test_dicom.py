import io
import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from kit.config import DataSettings, DicomSettings, ImageSettings
from kit.data.pixels import dicom, dicom_header, images
from kit.data.pixels.images import load
from kit.data.pixels.remarks import counted
from kit.data.records import tfrecord
from kit.data.records.build import build_records
from kit.data.records.shards import Row, ShardRows, write_shard
from kit.data.table.check import as_text, check_images
from kit.data.table.examples import Examples
from kit.errors import DataError, UnreadableImage


def decode(data, settings=None):
    return images.decode(data, ImageSettings(dicom=settings or DicomSettings()))


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
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = 8 * pixels.itemsize - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = encapsulate([jpeg]) if jpeg else pixels.tobytes()
    for name, value in header.items():
        if isinstance(value, pydicom.DataElement):
            dataset[value.tag] = value
        else:
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
    expected = pixel_array(io.BytesIO(data), decoding_plugin="pillow")
    assert np.array_equal(decode(data)[..., 0], expected)
    assert np.array_equal(decode(dicom_of(grey))[..., 0], grey)
    colour = np.dstack([grey, grey.T, 255 - grey])
    assert np.array_equal(decode(dicom_of(colour)), colour)


def shown(pixels, settings=None, **header):
    """What a DICOM of these stored values shows, by the kit: (height, width) or (height, width, 3) uint8."""
    data = decode(dicom_of(pixels, **header), DicomSettings(**(settings or {})))
    return data[..., 0] if data.shape[2] == 1 else data


def ramp(dtype, *values):
    return np.array([values], dtype)


def test_monochrome1_is_inverted(grey):
    assert np.array_equal(shown(grey, PhotometricInterpretation="MONOCHROME1"), 255 - grey)


def test_a_linear_window_by_hand():
    # PS3.3, C.11.2.1.2.1: centre 40.5 and width 101 end at (40.5 - .5) -/+ 50: -10 is black, 90 white, 40 in the middle
    values = ramp(np.int16, -2000, -10, 15, 40, 65, 90, 2000)
    header = {"WindowCenter": 40.5, "WindowWidth": 101}
    assert shown(values, **header).tolist() == [[0, 0, 64, 128, 191, 255, 255]]
    inverted = shown(values, PhotometricInterpretation="MONOCHROME1", **header)
    assert inverted.tolist() == [[255, 255, 191, 127, 64, 0, 0]]


def test_the_rescale_comes_before_the_window():
    # stored 0..100 are -1000..-800 after slope 2 and intercept -1000; the window ends at -1000 and -800
    header = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": -899.5, "WindowWidth": 201}
    assert shown(ramp(np.uint16, 0, 50, 100, 400), **header).tolist() == [[0, 128, 255, 255]]
    falling = {**header, "RescaleSlope": -2, "RescaleIntercept": -800}  # stored 0 is -800: white
    assert shown(ramp(np.uint16, 0, 50, 100, 400), **falling).tolist() == [[255, 128, 0, 0]]


def test_windows_of_other_functions():
    values = ramp(np.uint16, 0, 100, 200, 4095)
    exact = {"WindowCenter": 100, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}
    assert shown(values, **exact).tolist() == [[0, 128, 255, 255]]  # C.11.2.1.3.2: from centre - 100 to centre + 100
    sigmoid = {"WindowCenter": 100, "WindowWidth": 200, "VOILUTFunction": "SIGMOID"}
    expected = np.rint(255 / (1 + np.exp(-4 * (np.array([[0, 100, 200, 4095]]) - 100) / 200)))  # C.11.2.1.3.1
    assert np.array_equal(shown(values, **sigmoid), expected)


def test_a_window_by_name_and_percentiles():
    values = ramp(np.uint16, 0, 110, 200, 1000)
    header = {"WindowCenter": [100.5, 500.5], "WindowWidth": [201, 1001]}
    header["WindowCenterWidthExplanation"] = ["BONE", "LUNG"]
    assert shown(values, **header).tolist() == [[0, 140, 255, 255]]
    assert shown(values, {"window": "lung"}, **header).tolist() == [[0, 28, 51, 255]]
    with pytest.raises(UnreadableImage, match="no window is named 'brain'; the file has 'BONE', 'LUNG'"):
        shown(values, {"window": "brain"}, **header)
    assert shown(values, {"percentiles": [0, 100]}, **header).tolist() == [[0, 28, 51, 255]]
    many = np.arange(101, dtype=np.uint16)[None]
    assert shown(many, {"percentiles": [10, 60]})[0, [0, 10, 35, 60, 100]].tolist() == [0, 0, 128, 255, 255]
    eight = np.arange(101, dtype=np.uint8)[None]  # also of 8-bit files, which would else be as they are
    assert shown(eight, {"percentiles": [10, 60]})[0, [0, 10, 35, 60, 100]].tolist() == [0, 0, 128, 255, 255]


def lut(first, bits, data):
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [len(data), first, bits], data
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    return pydicom.Sequence([item])


def test_lookup_tables_go_before_windows():
    voi = lut(10, 16, [0, 65535, 32768])
    header = {"VOILUTSequence": voi, "WindowCenter": 1, "WindowWidth": 2}
    assert shown(ramp(np.uint16, 0, 10, 11, 12, 99), **header).tolist() == [[0, 0, 255, 128, 128]]
    modality = lut(0, 16, [300, 200, 100])  # then from smallest to largest, as no window is given
    assert shown(ramp(np.uint16, 0, 1, 2), ModalityLUTSequence=modality).tolist() == [[255, 128, 0]]


def test_without_a_window_values_reach_from_black_to_white():
    assert shown(ramp(np.int16, -5, 0, 5)).tolist() == [[0, 128, 255]]
    assert shown(ramp(np.uint16, 7, 7)).tolist() == [[0, 0]]
    assert shown(ramp(np.uint8, 3, 9)).tolist() == [[3, 9]]  # 8 bit: as it is


def test_padding_is_black_and_moves_no_other_value():
    header = {"PixelPaddingValue": -2000}
    assert shown(ramp(np.int16, -2000, 0, 50, 100), **header).tolist() == [[0, 0, 128, 255]]
    inverted = {**header, "PhotometricInterpretation": "MONOCHROME1"}
    assert shown(ramp(np.int16, -2000, 0, 50, 100), **inverted).tolist() == [[0, 255, 127, 0]]
    limited = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9}
    assert shown(ramp(np.uint16, 0, 9, 10, 20), **limited).tolist() == [[0, 0, 0, 255]]
    assert shown(ramp(np.uint16, 5, 5), PixelPaddingValue=5).tolist() == [[0, 0]]
    assert shown(ramp(np.uint8, 5, 90, 100), PixelPaddingValue=5).tolist() == [[0, 90, 100]]


def test_padding_in_a_jpeg_frame_is_black_too(grey):
    data, value = dicom_of(grey, jpeg_of(grey)), int(grey[0, 0])
    padded = dicom_of(grey, jpeg_of(grey), PixelPaddingValue=value)
    expected = decode(data).copy()
    expected[expected == value] = 0
    assert np.array_equal(decode(padded), expected)
    assert isinstance(load(padded, ImageSettings(size=64, color="gray")), np.ndarray)


def test_colour_of_other_kinds(grey):
    sixteen = np.dstack([grey, grey.T, 255 - grey]).astype(np.uint16) * 257
    assert np.array_equal(shown(sixteen), sixteen // 257)
    ybr = np.full((4, 4, 3), (76, 85, 255), np.uint8)  # red, by ITU-R BT.601 full range
    red = shown(ybr, PhotometricInterpretation="YBR_FULL").astype(int)
    assert np.abs(red - (254, 0, 0)).max() <= 1


def test_frames(grey):
    frames = np.stack([grey, 255 - grey])
    data = dicom_of(grey, NumberOfFrames=2, PixelData=frames.tobytes())
    with pytest.raises(
        UnreadableImage, match=r"2 frames: save one as a file of its own, or train with --set image\.dicom\.frame=0"
    ):
        decode(data)
    assert np.array_equal(decode(data, DicomSettings(frame=1))[..., 0], 255 - grey)
    with pytest.raises(UnreadableImage, match=r"image\.dicom\.frame = 2, but there are 2 frames, counted from 0"):
        decode(data, DicomSettings(frame=2))


def encapsulated(pixels, syntax, frame):
    dataset = pydicom.dcmread(io.BytesIO(dicom_of(pixels)))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", [pydicom.uid.MPEG2MPML, pydicom.uid.UID("1.2.3.4.5")])
def test_no_package_is_named_for_what_none_decodes(grey, tmp_path, syntax):
    (tmp_path / "a.dcm").write_bytes(encapsulated(grey, syntax, b"film"))
    with pytest.raises(UnreadableImage, match=r"no installed package decodes .*: convert them to another"):
        decode((tmp_path / "a.dcm").read_bytes())
    assert [each.remedy for each in dicom.undecodable([tmp_path / "a.dcm"])] == [dicom.CONVERT]


def test_a_reason_holds_no_address_in_memory(grey):
    with pytest.raises(UnreadableImage, match="cannot be decoded") as error:
        decode(encapsulated(grey, pydicom.uid.JPEG2000Lossless, bytes.fromhex("ff4fff51") * 50))
    assert "0x" not in str(error.value)


def test_files_without_a_preamble(grey):
    whole = dicom_of(grey)
    expected = decode(whole)
    assert dicom.is_dicom(whole[132:])
    assert np.array_equal(decode(whole[132:]), expected)
    for start in (b"\x02\0\x03\0text", b"\x08\0\x05\0text", b"\x02\0"):
        assert not dicom.is_dicom(start)


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
    with pytest.raises(UnreadableImage, match="a DICOM without pixels"):
        decode(buffer.getvalue())


@pytest.mark.parametrize(
    ("text", "years", "unit"),
    [
        ("058Y", 58, "Y"),
        ("011M", 11 / 12, "M"),
        ("052W", 52 * 7 / 365.25, "W"),
        ("730D", 730 / 365.25, "D"),
        ("62", 62, ""),
        ("7", 7, ""),
        *((text, float("nan"), None) for text in ("58Y", "", "0058Y", "0058", "058y", " 62", "6.2", "-62")),
    ],
)
def test_ages(text, years, unit):
    assert dicom_header.age_years(text) == (pytest.approx(years, nan_ok=True), unit)


def test_a_syntax_that_nothing_decodes_is_told_before_a_build(grey, tmp_path, monkeypatch, capsys):
    for n in range(3):
        (tmp_path / f"{n}.dcm").write_bytes(dicom_of(grey, jpeg_of(grey)))
    (tmp_path / "3.dcm").write_bytes(dicom_of(grey))
    (tmp_path / "4.dcm").write_bytes(b"no DICOM")
    paths = sorted(tmp_path.iterdir())
    assert dicom.undecodable(paths) == []
    names = [path.name for path in paths]
    rows = {"id": names, "path": names, "bytes": 1, "split": "train", "group": names, "y_x": [0.0, 1.0] * 2 + [0.0]}
    examples = Examples(pd.DataFrame(rows), ("x",), "binary")
    real = pydicom.pixels.get_decoder
    lacking = pydicom.pixels.decoders.base.Decoder(pydicom.uid.JPEGBaseline8Bit)  # no plugin was added to it
    choose = lambda uid: lacking if uid == pydicom.uid.JPEGBaseline8Bit else real(uid)  # noqa: E731
    monkeypatch.setattr(pydicom.pixels, "get_decoder", choose)
    assert dicom.undecodable(paths) == [("JPEG Baseline (Process 1)", 3, dicom.PACKAGES)]
    with pytest.raises(
        DataError, match=r"3 of 5 files: JPEG Baseline \(Process 1\) \(pip install .*max_rejected=0\.6$"
    ):
        build_records("x", examples, tmp_path, tmp_path / "r", ImageSettings(size=64), DataSettings())
    assert not (tmp_path / "r" / "manifest.json").exists()


SECRETS = {
    "PatientName": "Doe^Jane",
    "PatientID": "MRN-12345",
    "PatientBirthDate": "1967-13-99",  # breaks the rules of dates: pydicom warns of it, with the value
    "PatientAge": "61 years, Doe",
    "InstitutionName": "Saint Elsewhere",
    "AccessionNumber": "ACC-777-TOO-LONG-FOR-THIS-ELEMENT",
    "PatientComments": "lives at 5 Elm Street",
}


def test_nothing_that_tells_who_it_is_gets_out(grey, tmp_path, capfd):
    with pydicom.config.disable_value_validation():
        whole = dicom_of(grey, **SECRETS)
        strange = dicom_of(grey, WindowCenter=40.125, WindowWidth=80, **SECRETS).replace(b"40.125", b"Doe-Do")
    (tmp_path / "raw").mkdir()
    for n in range(4):
        (tmp_path / "raw" / f"{n}.dcm").write_bytes(whole)
    (tmp_path / "raw" / "4.dcm").write_bytes(strange)
    (tmp_path / "raw" / "5.dcm").write_bytes(whole[:-2000])
    names = [f"{n}.dcm" for n in range(6)]
    rows = {"id": names, "path": names, "bytes": 1, "split": "train", "group": names, "y_x": [0.0, 1.0] * 3}
    examples = Examples(pd.DataFrame(rows), ("x",), "binary")
    build_records("x", examples, tmp_path / "raw", tmp_path / "r", ImageSettings(size=64), DataSettings(max_rejected=1))
    report = check_images(examples, tmp_path / "raw", ImageSettings())
    assert [bad["path"] for bad in report["unreadable"]] == ["5.dcm"]
    assert report["remarks"] == {"DICOMs whose window cannot be used: passed over": 1}
    printed = "".join(capfd.readouterr())
    header = str(dicom_header.header(tmp_path / "raw" / "0.dcm"))
    written = b"".join(path.read_bytes() for path in (tmp_path / "r").iterdir())
    for secret in (*SECRETS.values(), "Doe", "Elm", "1967"):
        assert secret not in printed + header + json.dumps(report) + as_text(report)
        assert secret.encode() not in written


def test_a_shard_of_files_and_frames(grey):
    jpeg, small = jpeg_of(grey), jpeg_of(grey[:32, :32])
    files = {"a": jpeg, "b": dicom_of(grey, jpeg), "c": small, "d": jpeg[:-2], "e": dicom_of(grey)}
    out = io.BytesIO()
    job = ShardRows("x", 0, [Row(name, name, name, {"label": [1.0]}) for name in files], 0)
    image = ImageSettings(size=64, color="gray", encoding="auto")
    note = write_shard(out, job, files.__getitem__, image)
    assert note.shard.examples + len(note.rejected) == 5
    assert [entry.id for entry in note.rejected] in ([], ["d"])  # libjpeg may forgive a missing end marker
    path_bytes = out.getvalue()
    assert path_bytes.count(jpeg) == 2
    assert note.shard.bytes == len(path_bytes)
    assert tfrecord.parse(path_bytes[12 : 12 + int.from_bytes(path_bytes[:8], "little")])["image"] == [jpeg]


def with_remarks(pixels, settings=None, **header):
    """What a DICOM shows, and what was remarked."""
    with counted() as remarks:
        return shown(pixels, settings, **header).tolist(), dict(remarks)


def element(keyword, vr, value):
    """A keyword argument of `dicom_of` for an element with a VR or value that pydicom would not write by itself."""
    return {keyword: pydicom.DataElement(pydicom.datadict.tag_for_keyword(keyword), vr, value)}


def with_element(data, keyword, content):
    """The DICOM with an element of these bytes as a text, which pydicom would not write there."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    tag = pydicom.datadict.tag_for_keyword(keyword)
    dataset[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), "LO", len(content), content, 0, False, True)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


RAMP = np.array([[0, 50, 100]], np.uint16)
SPREAD = [[0, 128, 255]]  # RAMP as without a window
NO_RESCALE, NO_WINDOW = (
    "DICOMs whose rescale cannot be used: read as without",
    "DICOMs whose window cannot be used: passed over",
)


@pytest.mark.parametrize(
    ("header", "remark"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "DICOMs whose RescaleSlope is 0: read as without a rescale"),
        ({"RescaleSlope": 0, "RescaleIntercept": -1024}, "DICOMs whose RescaleSlope is 0: read as without a rescale"),
        ({"RescaleIntercept": -1024}, NO_RESCALE),
        ({"RescaleSlope": -2}, NO_RESCALE),
        ({"RescaleSlope": [-1, -2], "RescaleIntercept": 0}, NO_RESCALE),
        ({**element("RescaleSlope", "LO", "none"), "RescaleIntercept": 0}, NO_RESCALE),
        ({**element("RescaleSlope", "LO", "nan"), "RescaleIntercept": 0}, NO_RESCALE),
        ({**element("RescaleSlope", "LO", "1e300"), "RescaleIntercept": 0}, NO_RESCALE),
        ({"RescaleSlope": -1, **element("RescaleIntercept", "LO", "unknown")}, NO_RESCALE),
        ({"RescaleSlope": None, "RescaleIntercept": None}, None),
        ({"RescaleSlope": 1}, None),
        ({"RescaleSlope": [1, 1], "RescaleIntercept": 0}, None),
        ({"WindowCenter": 2000}, NO_WINDOW),
        ({"WindowWidth": 20}, NO_WINDOW),
        ({"WindowCenter": 10, "WindowWidth": 0}, NO_WINDOW),
        ({"WindowCenter": 10, "WindowWidth": -20}, NO_WINDOW),
        ({"WindowCenter": 10, "WindowWidth": 0.5}, NO_WINDOW),  # whole values
        ({"WindowCenter": 10, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, NO_WINDOW),
        ({"WindowCenter": [10, 20], "WindowWidth": 10}, NO_WINDOW),
        ({"WindowCenter": 10, "WindowWidth": [10, 20]}, NO_WINDOW),
        ({"WindowCenter": 10, **element("WindowWidth", "LO", "auto")}, NO_WINDOW),
        ({**element("WindowCenter", "LO", "NaN"), "WindowWidth": 10}, NO_WINDOW),
        ({"WindowCenter": "", "WindowWidth": ""}, None),
        ({"VOILUTSequence": lut(0, 16, [7, 7, 7])}, "DICOMs whose VOI LUT cannot be used: passed over"),
        (element("VOILUTSequence", "LO", "none"), "DICOMs whose VOI LUT cannot be used: passed over"),
        ({"ModalityLUTSequence": lut(0, 99, [7, 8, 9])}, "DICOMs whose modality LUT cannot be used: passed over"),
        ({"ModalityLUTSequence": [], "VOILUTSequence": [pydicom.Dataset()]}, None),
        (element("PixelPaddingValue", "LO", "none"), "DICOMs whose PixelPaddingValue cannot be used: passed over"),
        (element("PixelPaddingValue", "US", [0, 50]), "DICOMs whose PixelPaddingValue cannot be used: passed over"),
        (
            {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 100},
            "DICOMs whose padding would be the whole image: passed over",
        ),
        (element("NumberOfFrames", "LO", "one"), "DICOMs whose NumberOfFrames cannot be used: read as one frame"),
        (element("BitsStored", "LO", "?"), None),
        (element("HighBit", "LO", "?"), None),
    ],
)
def test_what_cannot_be_used_is_passed_over_with_a_remark(header, remark):
    assert with_remarks(RAMP, **header) == (SPREAD, {remark: 1} if remark else {})


def test_a_window_that_can_be_used_beside_one_that_cannot():
    header = {"WindowCenter": [10, 40.5], "WindowWidth": [0, 101], "WindowCenterWidthExplanation": ["BONE", "LUNG"]}
    assert with_remarks(ramp(np.uint16, 0, 40, 90), **header) == ([[26, 128, 255]], {NO_WINDOW: 1})
    assert shown(ramp(np.uint16, 0, 40, 90), {"window": "lung"}, **header).tolist() == [[26, 128, 255]]
    with pytest.raises(UnreadableImage, match="the window 'bone' cannot be used"):
        shown(RAMP, {"window": "bone"}, **header)
    assert with_remarks(RAMP, {"percentiles": [0, 100]}, **header) == (SPREAD, {})  # which need no window


def test_a_narrow_window_of_fractional_values():
    # stored 0 to 4000 are 0 to .4; a window of .5 around .2 goes from -.05 to .45 (LINEAR_EXACT, C.11.2.1.3.2)
    header = {"WindowCenter": 0.2, "WindowWidth": 0.5, "RescaleSlope": 0.0001, "RescaleIntercept": 0}
    expected = [[round(255 * (value / 10000 + 0.05) / 0.5) for value in (100, 2000, 3000, 4000)]]
    assert with_remarks(ramp(np.uint16, 100, 2000, 3000, 4000), **header) == (expected, {})


def test_an_unknown_window_function_is_linear():
    header = {"WindowCenter": 40.5, "WindowWidth": 101}
    expected = shown(RAMP, **header).tolist()
    remark = {"DICOMs whose VOILUTFunction is unknown: read as LINEAR": 1}
    assert with_remarks(RAMP, VOILUTFunction="CUBIC", **header) == (expected, remark)


def test_windows_are_pydicoms():
    values = np.arange(-300, 900, 7, dtype=np.int16)[None]
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        header = {"WindowCenter": 123.5, "WindowWidth": 456, "VOILUTFunction": function}
        dataset = pydicom.dcmread(io.BytesIO(dicom_of(values, **header)))
        shares = (apply_windowing(values, dataset) + 2**15) / (2**16 - 1)
        assert np.abs(shown(values, **header) - shares * 255).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("dtype", "vr", "value"), [(np.int16, "US", 63536), (np.uint16, "SS", -2000)])
def test_padding_of_the_other_sign_is_padding(dtype, vr, value):
    # -2000 and 63536 are the same 16 bits
    pixels = np.array([[-2000, 0, 50, 100]]).astype(dtype)
    assert shown(pixels, **element("PixelPaddingValue", vr, value)).tolist() == [[0, 0, 128, 255]]
    limit = element("PixelPaddingRangeLimit", vr, value + 5)
    assert shown(pixels, **element("PixelPaddingValue", vr, value), **limit).tolist() == [[0, 0, 128, 255]]
    as_bytes = element("PixelPaddingValue", "UN", int(value % 2**16).to_bytes(2, "little"))
    assert shown(pixels, **as_bytes).tolist() == [[0, 0, 128, 255]]


def test_a_lookup_table_of_signed_values_written_as_unsigned():
    voi = lut(2**16 - 10, 8, [0, 100, 200])
    assert shown(ramp(np.int16, -20, -10, -9, -8, 99), VOILUTSequence=voi).tolist() == [[0, 0, 100, 200, 200]]


def test_a_picture_that_its_window_makes_black_is_remarked():
    header = {"WindowCenter": 5000, "WindowWidth": 100}
    remark = "DICOMs that are shown in a single grey although their values differ"
    assert with_remarks(RAMP, **header) == ([[0, 0, 0]], {remark: 1})
    assert with_remarks(ramp(np.uint16, 7, 7)) == ([[0, 0]], {})


def test_float_pixels_that_are_not_finite_are_black():
    pixels = np.array([[np.nan, -1, 0, 1, np.inf]], np.float32)
    header = {"FloatPixelData": pixels.tobytes(), "BitsAllocated": 32, "PixelData": None}
    data = pydicom.dcmread(io.BytesIO(dicom_of(pixels, **header)))
    del data.PixelData, data.BitsStored, data.PixelRepresentation
    buffer = io.BytesIO()
    data.save_as(buffer)
    assert decode(buffer.getvalue())[..., 0].tolist() == [[0, 0, 128, 255, 0]]


def test_what_pixels_cannot_be_read_without_is_named():
    for keyword in ("Rows", "Columns", "BitsAllocated", "PixelRepresentation"):
        with pytest.raises(UnreadableImage, match=f"a DICOM whose {keyword} is missing or cannot be used"):
            decode(with_element(dicom_of(RAMP), keyword, b"?"))
    assert shown(RAMP, Rows=[1, 1]).tolist() == SPREAD
    assert shown(RAMP, SamplesPerPixel=None, PhotometricInterpretation="").tolist() == SPREAD


def test_sizes_are_checked_before_memory_is_taken(grey):
    with pytest.raises(UnreadableImage, match=r"it declares 4,096 pixels, more than image\.max_pixels = 4,095"):
        dicom.read(dicom_of(grey), max_pixels=4095)
    with pytest.raises(UnreadableImage, match="its frame has 64 x 64 pixels, but its header 16000 x 16000"):
        decode(dicom_of(grey, jpeg_of(grey), Columns=16000, Rows=16000))
    dataset = pydicom.dcmread(io.BytesIO(dicom_of(grey)))
    dataset.compress(RLELossless)
    dataset.Rows, dataset.Columns = 16000, 15000
    rle = io.BytesIO()
    dataset.save_as(rle)
    with pytest.raises(UnreadableImage, match=r"cut off: \d+ bytes for 15000 x 16000 pixels"):
        decode(rle.getvalue())


def test_a_deflated_bomb_is_not_inflated(monkeypatch):
    dataset = pydicom.dcmread(io.BytesIO(dicom_of(np.zeros((64, 64), np.uint8))))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated = io.BytesIO()
    dataset.save_as(deflated)
    assert decode(deflated.getvalue()).shape == (64, 64, 1)
    monkeypatch.setattr(dicom, "_LARGEST_DEFLATED", 2000)
    with pytest.raises(UnreadableImage, match="a deflated DICOM of more than"):
        decode(deflated.getvalue())


def test_only_a_jpeg_that_shows_the_image_itself_is_stored_undecoded(grey):
    settings = ImageSettings(size=64, color="gray")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated, which a DICOM's reader ignores
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=95, exif=exif)
    rotated = load(dicom_of(grey, buffer.getvalue()), settings)
    assert np.array_equal(rotated, decode(dicom_of(grey, jpeg_of(grey))))
    for header in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 100, "WindowWidth": 50},
        {"RescaleSlope": -1, "RescaleIntercept": 255},
        {"PixelPaddingValue": 0},
    ):
        assert isinstance(load(dicom_of(grey, jpeg_of(grey), **header), settings), np.ndarray)
    for header in ({"RescaleSlope": 0}, {"WindowCenter": 100}, {"WindowCenter": 100, "WindowWidth": 0}):
        assert isinstance(load(dicom_of(grey, jpeg_of(grey), **header), settings), bytes)


@pytest.mark.parametrize(
    ("header", "column", "value"),
    [
        ({"PixelSpacing": 0.168}, "pixel_spacing", 0.168),
        ({"PixelSpacing": [0.168, 0.2]}, "pixel_spacing", 0.168),
        ({"PixelSpacing": [0, 0]}, "pixel_spacing", None),
        (element("PixelSpacing", "LO", "wide\\narrow"), "pixel_spacing", None),
        ({"PatientAge": ["041Y", "042Y"]}, "age", float("nan")),
        ({"PatientSex": ["F", "M"]}, "sex", None),
        ({"PatientSex": "female"}, "sex", None),
        (element("ViewPosition", "OB", b"\xff\xfe"), "view_position", None),
        (element("PhotometricInterpretation", "FD", 1.5), "photometric_interpretation", None),
        (element("Columns", "LO", "many"), "width", None),
        (element("Rows", "US", [64, 65]), "height", None),
    ],
)
def test_a_broken_element_costs_its_own_column_alone(grey, tmp_path, header, column, value):
    whole = {"PatientSex": "F", "PatientAge": "041Y", "ViewPosition": "PA", "PixelSpacing": [0.2, 0.2]}
    (tmp_path / "whole.dcm").write_bytes(dicom_of(grey, **whole))
    with pydicom.config.disable_value_validation():
        (tmp_path / "odd.dcm").write_bytes(dicom_of(grey, **{**whole, **header}))
    expected, columns = (dicom_header.header(tmp_path / name) for name in ("whole.dcm", "odd.dcm"))
    assert columns.pop(column) == pytest.approx(value, nan_ok=True)
    columns.pop("age_unit")
    assert columns == {name: expected[name] for name in columns}


def test_remarks_are_counted_once_for_a_check_and_a_build(tmp_path, capsys):
    names = [f"{n}.dcm" for n in range(4)]
    for n, name in enumerate(names):
        (tmp_path / name).write_bytes(dicom_of(RAMP + np.uint16(n), RescaleSlope=n % 2, RescaleIntercept=0))
    rows = {"id": names, "path": names, "bytes": 1, "split": "train", "group": names, "y_x": [0.0, 1.0] * 2}
    examples = Examples(pd.DataFrame(rows), ("x",), "binary")
    report = check_images(examples, tmp_path, ImageSettings())
    remark = "DICOMs whose RescaleSlope is 0: read as without a rescale"
    assert report["remarks"] == {remark: 2}
    assert f"noticed    2 {remark}" in as_text(report)
    capsys.readouterr()
    build_records("x", examples, tmp_path, tmp_path / "r", ImageSettings(size=64), DataSettings())
    assert capsys.readouterr().out.count(f"noticed: 2 {remark}\n") == 1

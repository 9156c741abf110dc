import io
import json

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from kit.config import DataSettings, DicomSettings, ImageSettings
from kit.data.pixels import dicom, images
from kit.data.pixels.images import load
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
    with pytest.raises(UnreadableImage, match=r"2 frames: choose one with --set image\.dicom\.frame=0"):
        decode(data)
    assert np.array_equal(decode(data, DicomSettings(frame=1))[..., 0], 255 - grey)
    with pytest.raises(UnreadableImage, match=r"image\.dicom\.frame = 2, but there are 2 frames, counted from 0"):
        decode(data, DicomSettings(frame=2))


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
    assert dicom.age_years(text) == (pytest.approx(years, nan_ok=True), unit)


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
    assert dicom.undecodable(paths) == [("JPEG Baseline (Process 1)", 3)]
    with pytest.raises(DataError, match=r"3 of 5 files are JPEG Baseline \(Process 1\)\. pip install 'kit\[dicom\]'"):
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
    assert [bad["path"] for bad in report["unreadable"]] == ["4.dcm", "5.dcm"]
    printed = "".join(capfd.readouterr())
    header = str(dicom.header(tmp_path / "raw" / "0.dcm"))
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

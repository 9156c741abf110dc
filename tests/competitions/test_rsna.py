import numpy as np
import pytest
from pydicom.pixels import pixel_array

from kit.competitions import find_competition, rsna
from kit.config import DataSettings, ImageSettings, Source
from kit.data.pixels.images import read_image
from kit.data.records.manifest import fingerprint, fingerprints
from kit.data.table.examples import read_examples, validate, write_examples
from kit.errors import ConfigError, DataError
from tests.competitions.conftest import write_dicom


def read(root, target=None):
    return validate(rsna.read(root, Source(target=target)), 0)


def change(root, table, old, new):
    path = root / table
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_two_classes_boxes_and_metadata(rsna_root):
    examples = read(rsna_root)
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("binary", ("pneumonia",))
    assert table.loc[[f"p{n}" for n in range(6)], "y_pneumonia"].tolist() == [1, 1, 0, 0, 0, 0]
    assert table.loc[["p6", "p7"], "y_pneumonia"].isna().all()
    assert table["split"].value_counts().to_dict() == {"train": 6, "test": 2}
    assert [list(box) for box in table.loc["p0", "boxes"]] == [[1, 2, 30, 40], [33, 2, 31, 62]]
    assert len(table.loc["p2", "boxes"]) == 0
    assert len(table.loc["p6", "boxes"]) == 0
    assert table.loc["p2", "detailed_class"] == "no_lung_opacity_not_normal"
    first = table.loc["p0"]
    assert (first["sex"], first["view_position"], first["width"], first["height"]) == ("M", "PA", 64, 64)
    assert first["pixel_spacing"] == pytest.approx(0.143)
    assert first["compression"] == "JPEG Baseline (Process 1)"
    assert not any("Doe" in str(value) for value in table.to_numpy().ravel())


def test_ages_are_years_and_impossible_ones_are_missing_and_counted(rsna_root):
    examples = read(rsna_root)
    ages = examples.table.set_index("id")["age"]
    assert ages["p0"] == 58
    assert ages["p3"] == pytest.approx(11 / 12)
    assert ages["p1"] == 62
    assert ages[["p2", "p4", "p5"]].isna().all()
    assert examples.remarks == {  # 62; abc; 130Y
        "ages without a unit, read as years": 1,
        "ages that are not DICOM ages, taken as missing": 1,
        "ages above 120, taken as missing (the highest 130)": 1,
    }


def test_three_classes_and_boxes_are_targets(rsna_root):
    three = read(rsna_root, "three_class")
    assert (three.task, three.labels) == ("multiclass", ("normal", "no_lung_opacity_not_normal", "lung_opacity"))
    train = three.table[three.table["split"] == "train"]
    assert train.filter(regex="^y_").to_numpy().argmax(axis=1).tolist() == [2, 2, 1, 0, 0, 0]
    assert find_competition("rsna", Source(target="three_class")).target.task == "multiclass"
    with pytest.raises(ConfigError, match="rsna has no target 'three'; did you mean 'three_class'"):
        find_competition("rsna", Source(target="three"))


def test_boxes_are_in_1024_pixels_whatever_size_the_file_has(rsna_root):
    change(rsna_root, BOXES, "p0,1,2,30,40,1", "p0,16,32,480,640,1")
    write_dicom(rsna_root / "stage_2_train_images" / "p1.dcm", np.zeros((1024, 1024), np.uint8))
    wide = np.zeros((32, 128), np.uint8)
    write_dicom(rsna_root / "stage_2_train_images" / "p2.dcm", wide)
    examples = read(rsna_root, "boxes")
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("detection", ("pneumonia",))
    assert table.loc["p0", "boxes"] == [[1, 2, 30, 40], [33 / 16, 2 / 16, 31 / 16, 62 / 16]]
    assert table.loc["p1", "boxes"] == [[0, 0, 64, 64]]
    assert table.loc[["p2", "p6"], "boxes"].tolist() == [[], []]
    assert table.loc[["p1", "p2", "p6"], ["width", "height"]].to_numpy().tolist() == [[1024, 1024], [128, 32], [64, 64]]
    assert table["y_pneumonia"].fillna(-1).tolist() == [-1, -1, 1, 1, 0, 0, 0, 0]
    what = "images of other than 1024 x 1024 pixels, to which boxes are scaled (p0 and 6 more)"
    assert examples.remarks[what] == 7
    change(rsna_root, BOXES, "p1,0,0,64,64", "p1,0,0,64,1025")
    says = r"stage_2_train_labels\.csv, line 4: a box of p1, .*64 x 1025, is not inside the image of 1024 x 1024 pixels"
    with pytest.raises(DataError, match=says):
        read(rsna_root, "boxes")
    assert find_competition("rsna", Source(target="boxes")).target.frame == 1024


def test_a_dicom_that_cannot_be_read_keeps_the_boxes_of_others(rsna_root):
    (rsna_root / "stage_2_train_images" / "p0.dcm").write_bytes(b"nothing")
    table = read(rsna_root, "boxes").table.set_index("id")
    assert np.isnan(table.loc["p0", "width"])
    assert table.loc["p1", "boxes"] == [[0, 0, 4, 4]]


BOXES, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"


@pytest.mark.parametrize(
    ("table", "old", "new", "says"),
    [
        (
            BOXES,
            "p0,1,2,30,40,1",
            "p0,40,2,30,40,1",
            r"labels\.csv, line 2: a box of p0, x 40, y 2, 30 x 40, is not inside the image of 64 x 64",
        ),
        (BOXES, "p0,1,2,30,40,1", "p0,-1,2,30,40,1", "a box of p0, x -1"),
        (BOXES, "p0,1,2,30,40,1", "p0,1,2,,40,1", "line 2: width is '', not a number, although Target is 1"),
        (BOXES, "p2,,,,,0", "p2,3,,,,0", "x is '3', not empty, although Target is 0"),
        (BOXES, "p2,,,,,0", "p2,,,,,2", "line 5: Target is '2', not 0 or 1"),
        (BOXES, "p0,33,2,31,62,1", "p0,,,,,0", "Target is both 0 and 1 for p0"),
        (BOXES, "p2,,,,,0\n", "", "1 patient is in only one of .*: p2"),
        (CLASSES, "p1,Lung Opacity", "p1,Normal", "contradict each other for 1 patient: p1"),
        (CLASSES, "p3,Normal", "p3,Lung Opacity", "contradict each other for 1 patient: p3"),
        (CLASSES, "p3,Normal", "p3,Healthy", "class is 'Healthy', not one of Normal"),
        (CLASSES, "p0,Lung Opacity", "p0,Normal", "several classes for p0"),
        (
            BOXES,
            "patientId,x",
            "patient,x",
            r"no column 'patientId'; did you mean 'patient'\? It has Target, height, pa",
        ),
    ],
)
def test_tables_that_break_their_rules_or_contradict_each_other(rsna_root, table, old, new, says):
    change(rsna_root, table, old, new)
    with pytest.raises(DataError, match=says):
        read(rsna_root)


def test_half_a_download(rsna_root, tmp_path):
    (rsna_root / "stage_2_train_images" / "p3.dcm").unlink()
    with pytest.raises(DataError, match="1 expected image has no file: p3"):
        read(rsna_root)
    with pytest.raises(DataError, match=r"expected stage_2_train_images/\*\.dcm.*found rsna/"):
        read(tmp_path)


def test_the_fast_way_gives_pydicoms_pixels(rsna_root):
    for path in rsna_root.rglob("*.dcm"):  # Pillow's: with other decoders installed pydicom's own choice is another
        assert np.array_equal(read_image(path)[..., 0], pixel_array(path, decoding_plugin="pillow"))


def test_a_header_that_is_broken_leaves_its_columns_missing(rsna_root):
    (rsna_root / "stage_2_test_images" / "p6.dcm").write_bytes(b"nothing")
    path = rsna_root / "stage_2_test_images" / "p7.dcm"
    path.write_bytes(path.read_bytes().replace(b"0.143\\0.143", b"wide\\narrow"))
    table = read(rsna_root).table.set_index("id")
    assert table.loc["p6", ["width", "sex", "compression"]].isna().all()
    assert np.isnan(table.loc["p7", "pixel_spacing"])


def test_a_written_table_makes_the_same_records(rsna_root, tmp_path):
    examples, image, data = read(rsna_root), ImageSettings(size=32), DataSettings()
    write_examples(tmp_path / "e.parquet", examples)
    again = read_examples(tmp_path / "e.parquet")
    for function in (fingerprint, fingerprints):
        assert function("rsna", again, image, data) == function("rsna", examples, image, data)

import pandas as pd
import pytest

from kit.competitions import find_competition, nih
from kit.config import Source
from kit.data.table.examples import validate
from kit.errors import ConfigError, DataError

HEADER_2017 = (  # Kaggle's: brackets that are split at their commas, an empty last column, ages with units
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
HEADER_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position,"
    '"OriginalImage[Width,Height]","OriginalImagePixelSpacing[x,y]"'
)
ROWS = [
    ("00000001_000.png", "Cardiomegaly|Emphysema", 0, 1, "058Y"),
    ("00000001_001.png", "No Finding", 1, 1, "059Y"),
    ("00000002_000.png", "Hernia", 0, 2, "011M"),
    ("00000003_000.png", "Pleural_Thickening", 0, 3, "414Y"),
]


@pytest.fixture
def root(write_images):
    root = write_images(
        "images_001/images/00000001_000.png", "images_001/images/00000001_001.png",
        "images_002/images/00000002_000.png", "images_002/images/00000003_000.png",
    )  # fmt: skip
    write_table(root)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n00000003_000.png")
    (root / "test_list.txt").write_text("00000002_000.png\r\n")
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Cardiomegaly,1.5,2,30,40,,,\n"
    (root / "BBox_List_2017.csv").write_text(boxes + "00000001_000.png,Infiltrate,5,6,7,8,,,\n")
    return root


def write_table(root, header=HEADER_2017, rows=ROWS):
    tail = "M,PA,2682,2749,0.143,0.143," if header == HEADER_2017 else "M,PA,2682,0.143"
    lines = [",".join(map(str, row)) + f",{tail}" for row in rows]
    (root / "Data_Entry_2017.csv").write_text("\n".join([header, *lines]) + "\n")


def read(root, max_missing=0, target=None):
    return validate(nih.read(root, Source(target=target)), max_missing)


def test_findings_patients_lists_and_boxes(root):
    examples = read(root)
    table = examples.table.set_index("id")
    assert examples.task == "multilabel"
    assert examples.labels == nih.FINDINGS
    positive = table.filter(regex="^y_").apply(lambda row: [name[2:] for name in row.index[row == 1]], axis=1)
    assert positive["00000001_000.png"] == ["Cardiomegaly", "Emphysema"]
    assert positive["00000001_001.png"] == []
    assert table["group"].tolist() == ["2", "1", "1", "3"]
    assert table["split"].to_dict()["00000002_000.png"] == "test"
    assert table.loc["00000002_000.png", "y_Hernia"] == 1  # the official test has labels
    assert [list(box) for box in table.loc["00000001_000.png", "boxes"]] == [[1.5, 2, 30, 40], [5, 6, 7, 8]]
    assert list(table.loc["00000001_000.png", "box_findings"]) == ["Cardiomegaly", "Infiltrate"]
    assert len(table.loc["00000003_000.png", "boxes"]) == 0
    assert table.loc["00000001_000.png", "age"] == 58
    assert table.loc["00000002_000.png", "age"] == pytest.approx(11 / 12)
    constant = "labels have one value in all training images, and cannot be learnt: Atelectasis, Consolidation, Edema"
    assert examples.remarks == {"ages above 120, taken as missing (the highest 414)": 1, f"{constant} and 8 more": 11}


def test_no_finding_is_a_label_of_the_target_fifteen(root):
    examples = read(root, target="fifteen")
    assert examples.labels == (*nih.FINDINGS, "No Finding")
    table = examples.table.set_index("id")
    assert table["y_No Finding"].to_dict() == {
        "00000001_000.png": 0,
        "00000001_001.png": 1,
        "00000002_000.png": 0,
        "00000003_000.png": 0,
    }
    findings = read(root).table
    pd.testing.assert_frame_equal(examples.table.drop(columns="y_No Finding"), findings)


def test_targets():
    assert find_competition("nih").target.labels == nih.FINDINGS
    fifteen = find_competition("nih", Source(target="fifteen")).target
    assert len(fifteen.labels) == 15
    assert fifteen.means == {"14 findings": nih.FINDINGS}
    with pytest.raises(ConfigError, match="nih has no target 'fourteen'; did you mean 'fifteen'"):
        find_competition("nih", Source(target="fourteen"))


def test_both_headers_say_the_same(root):
    old = read(root).table
    write_table(root, HEADER_2020)
    pd.testing.assert_frame_equal(read(root).table, old)
    write_table(root, HEADER_2020, [(*row[:4], row[4].strip("0YM") if "Y" in row[4] else "011M") for row in ROWS])
    pd.testing.assert_frame_equal(read(root).table, old)  # ages in plain years


def test_a_partial_download_is_counted(root):
    (root / "images_002" / "images" / "00000002_000.png").unlink()
    assert read(root, max_missing=1).missing == ("00000002_000.png",)
    with pytest.raises(DataError, match=r"1 expected image has no file: 00000002_000\.png.*max_missing=0\.25$"):
        read(root, max_missing=0.2)


@pytest.mark.parametrize(
    ("findings", "says"),
    [
        ("Cardiomegaly|Cold", r"line 2: Finding Labels is 'Cardiomegaly\|Cold', not findings of ChestX-ray14"),
        ("Cardiomegaly|No Finding", "not No Finding alone"),
        ("", "not findings of ChestX-ray14"),
    ],
)
def test_unknown_findings(root, findings, says):
    write_table(root, rows=[(ROWS[0][0], findings, *ROWS[0][2:]), *ROWS[1:]])
    with pytest.raises(DataError, match=says):
        read(root)


def test_lists_that_disagree(root):
    (root / "test_list.txt").write_text("")
    with pytest.raises(DataError, match=r"1 images of Data_Entry_2017\.csv are neither in train_val_list\.txt nor"):
        read(root)
    (root / "test_list.txt").write_text("00000002_000.png 00000001_000.png")
    with pytest.raises(DataError, match=r"1 image is in both .*: 00000001_000\.png"):
        read(root)


def test_another_folder(root, tmp_path):
    with pytest.raises(DataError, match=r"expected images_001/images/\*\.png and so on.*found raw/"):
        read(tmp_path)
    for image in root.rglob("*.png"):
        image.unlink()
    with pytest.raises(DataError, match="holds no image: expected images_001"):
        read(root)

import pytest

from kit.config import ColumnSettings
from kit.data.table.box_table import read_box_table, refuse_label_settings
from kit.errors import ConfigError, DataError


def read(tmp_path, *lines, header="image,x,y,width,height,label", **columns):
    (tmp_path / "boxes.csv").write_text("\n".join([header, *lines]) + "\n")
    return read_box_table(tmp_path / "boxes.csv", ColumnSettings(**columns))


def test_boxes_with_their_lines_and_images_without(tmp_path):
    table = read(tmp_path, "a.png,1,2,3,4.5", "b.png,,,,", "a.png,5,6,7,8", header="image,x,y,width,height")
    assert (table.labels, table.id_column, table.remarks) == (("box",), "image", {})
    assert table.ids.tolist() == ["a.png", "b.png"]
    assert table.boxes[["id", "x", "y", "width", "height"]].to_numpy().tolist() == [
        ["a.png", 1, 2, 3, 4.5],
        ["a.png", 5, 6, 7, 8],
    ]
    assert [*table.boxes.index] == [2, 4]


def test_labels_and_what_else_is_in_the_table(tmp_path):
    rows = ["1,2,3,4,a,Nodule", "1,2,3,4,b,mass", ",,,,c,No finding", "1,2,3,4,b,nodule", "1,2,3,4,d,Nodule"]
    table = read(tmp_path, *rows, header="x,y,width,height,file,kind", id="file", label="kind")
    assert table.labels == ("Nodule", "mass")
    assert table.boxes["label"].tolist() == ["Nodule", "mass", "Nodule", "Nodule"]
    assert table.remarks == {
        "spellings of 'Nodule' are taken as one class": 2,
        "lines without numbers are of images without a box (labelled No finding)": 1,
    }


def test_zero_and_one_are_no_names_of_boxes(tmp_path):
    rows = ["a,1,2,3,4,1", "b,,,,,0", "c,,,,,0"]
    assert read(tmp_path, *rows, header="id,x,y,width,height,Target", label="Target").labels == ("Target",)
    with pytest.raises(DataError, match="line 3: Target is '0', not 1, although there is a box"):
        read(tmp_path, rows[0], "b,1,2,3,4,0", rows[2], header="id,x,y,width,height,Target", label="Target")
    classes = read(tmp_path, "a,1,2,3,4,1", "b,1,2,3,4,0", "c,1,2,3,4,10", "d,,,,,")
    assert classes.labels == ("0", "1", "10")


def test_tabs_decimal_commas_and_codes_for_nothing(tmp_path):
    header = "image\tx\ty\twidth\theight"
    table = read(tmp_path, "a\t1,5\t2\t3\t4", "b\t-1\t-1\t-1\t-1", header=header, unknown=["-1"])
    assert table.boxes["x"].tolist() == [1.5]
    assert table.ids.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a,1,2,3,4,p", "b,1,x,3,4,p"], "line 3: y is 'x', not a number"),
        (["a,1,2,3,inf,p"], "line 2: height is 'inf', not a number"),
        (["a,1,2,3,nan,p"], "line 2: height is 'nan', not a number, although others in the row are: an image without"),
        (["a,1,2,,4,p"], "line 2: width is '', not a number, although others"),
        (["a,1,2,3,4,Normal"], "line 2: label is 'Normal', not the label of a box: delete the box"),
        (["a,1,2,3,4,p", "b,1,2,3,4,none"], "line 3: label is 'none', not the label of a box"),
        (["a,1,2,3,4,p", "b,1,2,3,4,"], "line 3: label is '', not a label, as other boxes have"),
        (["a,1,2,3,4,p", "b,,,,,p"], "line 3: x is '', not a number, although label is a label of boxes"),
        (["a,1,2,3,4,p", "b,1,2,3,4,p", "a,,,,,"], "a has no box in line 4, but one in line 2"),
        (["a,,,,,", "b,,,,,"], "no row has a box: there is nothing to learn"),
        ([",1,2,3,4,p"], "line 2: image is '', not the name of an image"),
        (["a,1,2,3,4,p,7"], "line 2 has 7 cells"),
    ],
)
def test_bad_rows_are_named(tmp_path, lines, says):
    with pytest.raises(DataError, match=rf"boxes.csv.*{says}"):
        read(tmp_path, *lines)


def test_columns_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"has no column 'id' or 'image' that names .* it has file: choose with --set"):
        read(tmp_path, "a,1,2,3,4", header="file,x,y,width,height")
    with pytest.raises(
        DataError, match=r"no column 'height', 'width', 'x' and 1 more.*of two corners, width is x2 - x1"
    ):
        read(tmp_path, "a,1,2,3,4", header="image,x1,y1,x2,y2")
    with pytest.raises(DataError, match=r"has no column 'kind' \(columns.label\)"):
        read(tmp_path, "a,1,2,3,4,p", label="kind")
    with pytest.raises(DataError, match="patient of a is 'p1', 'p2' in several lines: an image has only one"):
        read(tmp_path, "a,1,2,3,4,p1", "a,2,2,3,4,p2", header="image,x,y,width,height,patient", group="patient")


def test_settings_of_labels_of_images():
    with pytest.raises(ConfigError, match=r"columns\.label names 2 columns, but boxes have one for their label"):
        refuse_label_settings(ColumnSettings(label=("a", "b")))
    with pytest.raises(ConfigError, match=r"columns\.soft is for labels of images"):
        refuse_label_settings(ColumnSettings(soft=True))
    refuse_label_settings(ColumnSettings())

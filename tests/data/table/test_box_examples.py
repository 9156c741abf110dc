"""Folders of images with a file of boxes: `folders` and `csv` with the target boxes."""

import json

import numpy as np
import pytest
from PIL import Image

from kit.competitions import csv, find_competition, folders
from kit.config import ColumnSettings, DataSettings, ImageSettings, Source
from kit.data.records.manifest import fingerprint
from kit.data.table.examples import read_examples, validate, write_examples
from kit.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    """A function that writes 30 x 20 pictures at some paths of a folder, and a file of boxes; returns the folder."""

    def write(*names, boxes=None, name="boxes.csv", exif=None):
        root = tmp_path / "raw"
        for n, path in enumerate(names):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(n).integers(0, 256, (20, 30), np.uint8)
            Image.fromarray(pixels).save(root / path, exif=exif)
        if boxes is not None:
            text = boxes if isinstance(boxes, str) else json.dumps(boxes)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


def csv_of(*rows, header="image,x,y,width,height"):
    return "\n".join([header, *rows]) + "\n"


def coco_of(*names, width=30, height=20, boxes=((1, [1, 2, 3, 4]),)):
    return {
        "images": [{"id": n, "file_name": name, "width": width, "height": height} for n, name in enumerate(names, 1)],
        "annotations": [{"id": 7 + n, "image_id": i, "category_id": 1, "bbox": b} for n, (i, b) in enumerate(boxes)],
        "categories": [{"id": 1, "name": "mass"}],
    }


def read(reader, root, table=None, **columns):
    source = Source(target="boxes", table=table, columns=ColumnSettings(**columns))
    return validate(reader.read(root, source), 0)


def test_folders_with_a_table_and_a_test_folder(write):
    names = ["train/a.png", "train/b.png", "val/c.png", "val/d.png", "test/a.png", "test/e.png"]
    rows = ["train/a.png,1,2,3,4", "train/a.png,5,6,7,8", "val/c.png,0,0,30,20", "test/e.png,,,,"]
    examples = read(folders, write(*names, boxes=csv_of(*rows)))
    table = examples.table.set_index("id")
    assert (examples.task, examples.labels) == ("detection", ("box",))
    assert table["split"].to_dict() == {
        **dict.fromkeys(["train/a.png", "b.png", "c.png", "d.png"], "train"),
        **dict.fromkeys(["test/a.png", "e.png"], "test"),
    }
    assert table.loc["c.png", "part"] == "val"
    assert table.loc["train/a.png", "boxes"] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert table["y_box"].fillna(-1).to_dict() == {
        **{"train/a.png": 1, "c.png": 1, "b.png": 0, "d.png": 0},
        **{"test/a.png": -1, "e.png": 0},  # unknown; said to have none
    }
    assert table[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[30, 20]]
    assert "box_labels" not in table.columns
    assert examples.remarks == {
        "images for training that boxes.csv does not name, taken as images without a box (train/b.png and 1 more)": 2
    }


def test_csv_names_all_images(write):
    root = write(
        "x/a.png", "x/b.png", "x/c.png", boxes=csv_of("a,1,2,3,4,p", "b,,,,,q", header="id,x,y,width,height,who")
    )
    with pytest.raises(DataError, match=r"1 image is unlabelled: x/c\.png"):
        read(csv, root)
    (root / "x" / "c.png").unlink()
    examples = read(csv, root, group="who")
    table = examples.table.set_index("id")
    assert table["group"].to_dict() == {"a": "p", "b": "q"}
    assert table["y_box"].to_dict() == {"a": 1, "b": 0}
    (root / "x" / "b.png").unlink()
    with pytest.raises(DataError, match="1 expected image has no file: b"):
        read(csv, root)


def test_several_labels_splits_and_groups_by_column_or_pattern(write):
    rows = ["p1_a,1,2,3,4,mass,train,u", "p1_a,5,6,7,8,cyst,train,u", "p1_b,1,1,9,9,cyst,val,u", "p2_a,,,,,,test,v"]
    root = write(*(f"{name}.png" for name in ("p1_a", "p1_b", "p2_a")))
    (root / "b.tsv").write_text(csv_of(*rows, header="id,x,y,width,height,label,fold,who").replace(",", "\t"))
    for reader in (csv, folders):
        examples = read(reader, root, split="fold", group="who")
        table = examples.table.set_index(examples.table["id"].str.removesuffix(".png"))
        assert examples.labels == ("cyst", "mass")
        assert table["split"].to_dict() == {"p1_a": "train", "p1_b": "train", "p2_a": "test"}
        assert table["group"].to_dict() == {"p1_a": "u", "p1_b": "u", "p2_a": "v"}
        assert table["box_labels"].to_dict() == {"p1_a": ["mass", "cyst"], "p1_b": ["cyst"], "p2_a": []}
        assert table[["y_cyst", "y_mass"]].loc[["p1_a", "p1_b", "p2_a"]].to_numpy().tolist() == [[1, 1], [1, 0], [0, 0]]
        assert [*read(reader, root, split="fold", group=r"p\d").table["group"]] == ["p2", "p1", "p1"]
    with pytest.raises(DataError, match=r"has no column 'part' \(columns\.split\)"):
        read(csv, root, split="part")


def test_coco_is_found_beside_other_files(write):
    root = write("images/a.png", "images/b.png", boxes=coco_of("a.png", "b.png"), name="mine.json")
    (root / "notes.csv").write_text("image,remark\na,good\n")
    (root / "other.json").write_text("{}")
    for reader in (folders, csv):
        examples = read(reader, root)
        assert examples.labels == ("mass",)
        assert examples.table["boxes"].tolist() == [[[1, 2, 3, 4]], []]
    (root / "second.csv").write_text(csv_of("a,1,2,3,4"))
    with pytest.raises(
        DataError, match=r"has 2 files of boxes \(mine\.json, second\.csv\): choose with --set table=FILE"
    ):
        read(folders, root)
    assert read(folders, root, table="second.csv").labels == ("box",)
    with pytest.raises(DataError, match=r"has no none\.csv: give a CSV with the columns image, x, y, width and height"):
        read(folders, root, table="none.csv")


def test_sizes_are_those_of_the_pictures_as_they_are_shown(write):
    turned = Image.Exif()
    turned[0x0112] = 6
    root = write("a.jpg", boxes=coco_of("a.jpg"), name="c.json", exif=turned)
    with pytest.raises(
        DataError, match=r"image a\.jpg is 30 x 20 pixels there, but .* a\.jpg has turned as its EXIF .*20 x 30"
    ):
        read(folders, root)
    (root / "c.json").write_text(json.dumps(coco_of("a.jpg", width=20, height=30, boxes=[(1, [0, 0, 20, 30])])))
    assert read(folders, root).table[["width", "height"]].to_numpy().tolist() == [[20, 30]]
    (root / "c.json").write_text(json.dumps(coco_of("a.jpg", width=40, height=60)))
    with pytest.raises(DataError, match=r"image a\.jpg is 40 x 60 pixels there, but the file a\.jpg has 20 x 30"):
        read(folders, root)


def test_boxes_that_are_wrong_are_named_by_line_or_annotation(write):
    root = write("a.png", "b.png", boxes=csv_of("a,1,2,3,4", "b,25,2,6,4"))
    with pytest.raises(
        DataError, match=r"boxes\.csv, line 3: a box of b, x 25, y 2, 6 x 4, is not inside the image of 30 x"
    ):
        read(folders, root)
    (root / "boxes.csv").unlink()
    (root / "c.json").write_text(json.dumps(coco_of("a.png", "b.png", boxes=[(1, [1, 2, 3, 4]), (2, [1, 2, 0, 4])])))
    with pytest.raises(DataError, match=r"c\.json, annotation 8: a box of b\.png, .*0 x 4, has a width or height"):
        read(folders, root)


def test_a_box_in_a_folder_of_normal_images(write):
    root = write("Normal/a.png", "ill/b.png", boxes=csv_of("a,1,2,3,4", "b,1,2,3,4"))
    with pytest.raises(
        DataError, match=r"line 2: a box of a, whose folder says that nothing is found \(Normal/a\.png\)"
    ):
        read(folders, root)


def test_a_split_folder_that_the_file_leaves_out(write):
    root = write("train/a.png", "val/b.png", boxes=csv_of("a,1,2,3,4"))
    with pytest.raises(DataError, match=r"boxes\.csv names no image of val/, which has 1 image \(val/b\.png\)"):
        read(folders, root)


def test_what_holds_no_boxes(write):
    root = write("a.png")
    with pytest.raises(DataError, match=r"raw has no file of boxes: expected a CSV .*; found a\.png"):
        read(folders, root)
    for text, words in (("image,x1,y1,x2,y2\na,1,2,3,4\n", "boxes.csv has no column"), (csv_of("a,1,2,3"), "line 2")):
        (root / "boxes.csv").write_text(text)
        with pytest.raises(DataError, match=words):  # the only table says what is wrong with it
            read(folders, root)
    (root / "boxes.csv").write_text(csv_of("z,1,2,3,4"))
    with pytest.raises(DataError, match=r"no id of the column image \('z'\) names an image"):
        read(folders, root)
    with pytest.raises(DataError, match="no such data folder"):
        read(folders, root / "nothing")
    with pytest.raises(DataError, match=r"there are boxes in boxes\.csv: to learn those, --set target=boxes"):
        folders.read(root, Source())
    with pytest.raises(ConfigError, match="folders by class need none; boxes do"):
        folders.read(root, find_source(table="boxes.csv"))


def find_source(**settings):
    source = Source(**settings)
    find_competition("folders", source)
    return source


def test_boxes_of_test_images_alone_teach_nothing(write):
    root = write("train/a.png", "test/b.png", boxes=csv_of("train/a,,,,", "test/b,1,2,3,4"))
    with pytest.raises(DataError, match=r"no training image has a box \(box\): there is nothing to learn"):
        read(folders, root)


def test_all_images_may_have_a_box_and_a_damaged_one_has_no_size(write):
    root = write("a.png", "b.png", boxes=csv_of("a,1,2,3,4", "b,1,2,300,4"))
    (root / "b.png").write_bytes(b"nothing")
    examples = read(folders, root)
    assert examples.table["y_box"].tolist() == [1, 1]
    assert examples.table[["width", "height"]].fillna(-1).to_numpy().tolist() == [[30, 20], [-1, -1]]


def test_a_written_table_is_read_as_it_was(write, tmp_path):
    rows = ["a,1,2,3,4,mass", "a,5,6,7,8,cyst", "b,,,,,"]
    examples = read(folders, write("a.png", "b.png", boxes=csv_of(*rows, header="id,x,y,width,height,label")))
    write_examples(tmp_path / "e.parquet", examples)
    again = read_examples(tmp_path / "e.parquet")
    assert again.table["box_labels"].tolist() == [["mass", "cyst"], []]
    settings = ImageSettings(), DataSettings()
    assert fingerprint("folders", again, *settings) == fingerprint("folders", examples, *settings)

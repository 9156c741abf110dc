import pandas as pd
import pytest

from kit.data.table.listing import folder_with, list_images, require_layout, stems
from kit.data.table.raw import match, read_table, refuse_rows
from kit.errors import DataError


def test_match_by_id_and_split():
    rows = pd.DataFrame({"id": ["a", "b", "a2"], "split": ["train", "train", "test"]})
    images = pd.DataFrame(
        {"id": ["a", "c", "a2"], "split": ["train", "train", "test"], "path": ["a", "c", "a2"], "bytes": [1, 2, 3]}
    )
    joined, missing, surplus = match(rows, images, on=("id", "split"))
    assert (sorted(joined["id"]), missing, surplus) == (["a", "a2"], ("b",), ("c",))
    assert joined["bytes"].dtype == "int64"


def test_a_name_of_two_files():
    images = pd.DataFrame({"id": ["a", "a"], "path": ["x/a.png", "y/a.png"], "bytes": [1, 1]})
    with pytest.raises(DataError, match=r"'a' is the name of several files: x/a\.png, y/a\.png"):
        match(pd.DataFrame({"id": ["a"]}), images)


def test_ids_stay_strings(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n007,1\nNA,0\n")
    read = read_table(tmp_path / "t.csv", ["id", "label"], unique="id")
    assert read["id"].tolist() == ["007", "NA"]
    assert read.index.tolist() == [2, 3]
    both = pd.concat([read, read.set_axis([4, 5])])
    with pytest.raises(DataError, match=r"t\.csv, line 3: label is '0', not good \(2 lines are like this\)"):
        refuse_rows(tmp_path / "t.csv", both, both["label"] == "0", "label", "good")


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"t\.csv is not UTF-8 text: save it as CSV in UTF-8"):
        read_table(tmp_path / "t.csv", ["id"])
    for text in ("", 'id,label\n"a,0\n'):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(DataError, match=r"cannot read .*t\.csv as CSV"):
            read_table(tmp_path / "t.csv", ["id"])


def test_repeated_ids_are_named_with_their_lines(tmp_path):
    (tmp_path / "t.csv").write_text("id\na\nb\na\nb\n" + "c\n" * 9)
    with pytest.raises(DataError, match=r"t\.csv: id 'a' is in lines 2, 4 \(2 more ids are repeated\): keep one line"):
        read_table(tmp_path / "t.csv", ["id"], unique="id")


def test_images_are_found_below_and_what_macs_leave_is_not(tmp_path):
    for name in ("b/1.PNG", "a/x/2.jpeg", "a/._2.jpeg", "__MACOSX/a/2.jpeg", "a/notes.txt", "3.tar.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    images = list_images(tmp_path)
    assert images["path"].tolist() == ["3.tar.png", "a/x/2.jpeg", "b/1.PNG"]
    assert stems(images).tolist() == ["3.tar", "2", "1"]
    assert images["bytes"].tolist() == [2, 2, 2]
    assert list_images(tmp_path, "a")["path"].tolist() == ["a/x/2.jpeg"]


def test_the_shallowest_folder_wins(tmp_path):
    (tmp_path / "chest_xray" / "chest_xray" / "train").mkdir(parents=True)
    assert folder_with(tmp_path, ["train"]) == tmp_path / "chest_xray" / "chest_xray"
    (tmp_path / "chest_xray" / "Train").mkdir()
    assert folder_with(tmp_path, ["train"]) == tmp_path / "chest_xray"
    assert folder_with(tmp_path, ["test"]) is None


def test_a_layout_that_is_not_there(tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"lacks train: expected train/\*; found other/"):
        require_layout(tmp_path, ["train"], "train/*")

import gzip
import zipfile

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


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "cannot read .*t.csv as CSV: it is empty"),
        (b"\n\n", "it is empty"),
        (b"id,label\n", "t.csv has no row below its header"),
        (b"id,label\n,,\n", "has no row below its header"),
        (b"id,label\n1,2,3\n", r"line 2 has 3 cells, the header 2 \(id, label\): '3' stands in no column. Complete"),
        (b'id,label\n"a\nb",1\nc\n', r"line 4 has 1 cell, the header 2"),
        (b'id,label\n1,2\n"3,4\n', "line 3: a quotation mark that opens in this row is never closed"),
        (b'id,label\n1,2\n"3"4,5\n', "cannot read .*t.csv as CSV: line 3: "),
        (b"id,label\n1,\x00\n", "line 2: a NUL byte"),
        (b"id,label\n,1\n2,0\n ,0\n", "id is empty in lines 2, 4: give every row one, or delete the row"),
        (b"id,label,label\n1,2,3\n", "t.csv has 2 columns 'label': rename or delete one"),
        (b"0.png,1\n1.png,0\n", r"has no column 'id'; it has 0.png, 1 \(the names of columns are taken from the first"),
        (b"ID,label\n1,0\n", "has no column 'id'; did you mean 'ID'"),
        (b"PAR1\x15\x04", "t.csv is a Parquet file, not CSV: save the table as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "is an Excel workbook"),
        (b"PK\x03\x04\x00", "cannot read .*t.csv as CSV: File is not a zip file"),
        (b"\x1f\x8b\x08\x00", "cannot read .*t.csv as CSV: "),
        (b"id\n\x81\n", "t.csv is not UTF-8 text: save it as CSV in UTF-8"),
        (b"\xff\xfei\x00d\x00\n", "t.csv is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, data, says):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=says):
        read_table(tmp_path / "t.csv", ["id"], unique="id")


def test_a_folder_or_nothing_in_the_place_of_a_table(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .* as CSV: Is a directory"):
        read_table(tmp_path, ["id"])
    with pytest.raises(DataError, match=r"cannot read .* as CSV: No such file"):
        read_table(tmp_path / "absent.csv", ["id"])


@pytest.mark.parametrize(
    ("text", "encoding", "noticed"),
    [
        ("id,label,who\nä,1,p\nNA,0,q\n", "utf-8", ""),
        ("\ufeffid,label,who\r\nä,1,p\r\nNA,0,q\r\n", "utf-8", ""),
        ("id,label,who\nä,1,p\nNA,0,q\n", "utf-16", ""),
        ("id,label,who\rä,1,p\rNA,0,q", "utf-8", ""),
        ("id, label ,who,\nä,1,p\nNA,0,q,,\n", "utf-8", ""),
        ("id,label,who\nä,1,p,\nNA,0,q,\n", "utf-8", ""),
        ("id;label;who\nä;1;p\nNA;0;q\n", "utf-8", "columns are separated by semicolons"),
        ("id\tlabel\twho\nä\t1\tp\nNA\t0\tq\n", "utf-8", "columns are separated by tabs"),
        ("id|label|who\nä|1|p\nNA|0|q\n", "utf-8", "columns are separated by vertical bars"),
        ("sep=;\nid;label;who\nä;1;p\nNA;0;q\n", "utf-8", "columns are separated by semicolons"),
        ("id,label,who\nä,1,p\n\nNA,0,q\n,,\n, ,\n", "utf-8", "2 rows are blank and left out"),
        ("id,label,who\nä,1,p\nNA,0,q\n", "cp1252", "its text is not UTF-8 and is read as Windows-1252"),
    ],
)
def test_tables_as_programs_write_them(tmp_path, caplog, text, encoding, noticed):
    caplog.set_level("INFO")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = read_table(tmp_path / "t.csv", ["id", "label", "who"], unique="id")
    assert table.to_dict("list") == {"id": ["ä", "NA"], "label": ["1", "0"], "who": ["p", "q"]}
    assert caplog.messages == ([f"noticed: t.csv: {noticed}"] if noticed else [])


def test_the_delimiter_is_the_one_that_the_header_has(tmp_path):
    (tmp_path / "t.csv").write_text("id,findings\n1,a;b;c\n2,a;b\n")
    assert read_table(tmp_path / "t.csv", ["id", "findings"])["findings"].tolist() == ["a;b;c", "a;b"]
    (tmp_path / "t.csv").write_text("id;share\n1;0,5\n2;0,25\n")
    assert read_table(tmp_path / "t.csv", ["id"])["share"].tolist() == ["0,5", "0,25"]
    (tmp_path / "t.csv").write_text("id\n1\n2\n")
    assert read_table(tmp_path / "t.csv", ["id"])["id"].tolist() == ["1", "2"]


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text('\nid,note\na,"two\nlines"\n\nb,""\n')
    assert read_table(tmp_path / "t.csv", ["id"]).index.tolist() == [3, 6]


def test_compressed_tables(tmp_path):
    table = "id,label\n1,0\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(table.encode()))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("t.csv", table)
    for name in ("t.csv.gz", "t.zip"):
        assert read_table(tmp_path / name, ["id"])["id"].tolist() == ["1"]
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("[Content_Types].xml", "")
    with pytest.raises(DataError, match=r"t\.zip is an Excel workbook, not CSV"):
        read_table(tmp_path / "t.zip", ["id"])


def test_images_of_one_name_that_no_row_has_are_surplus():
    images = pd.DataFrame({"id": ["a", "b", "b"], "path": ["x/a", "x/b", "y/b"], "bytes": [1, 1, 1]})
    joined, missing, surplus = match(pd.DataFrame({"id": ["a"]}), images)
    assert (joined["path"].tolist(), missing, surplus) == (["x/a"], (), ("x/b", "y/b"))


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

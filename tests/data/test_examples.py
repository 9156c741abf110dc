import pandas as pd
import pytest

from kit.data.examples import Examples, match, read_table, validate
from kit.errors import DataError


def table(**changes):
    columns = {
        "id": ["b", "a", "t"],
        "path": ["b.tif", "a.tif", "t.tif"],
        "bytes": [1, 1, 1],
        "split": ["train", "train", "test"],
        "group": ["p", "p", "t"],
        "y_x": [0.0, 1.0, float("nan")],
        "sex": ["F", "M", "F"],
    }
    return pd.DataFrame({**columns, **changes})


def test_rows_and_columns_are_put_in_order():
    shuffled = table()[["sex", "y_x", "id", "path", "group", "split", "bytes"]]
    valid = validate(Examples(shuffled, ("x",), "binary"), 0).table
    assert list(valid) == ["id", "path", "bytes", "split", "group", "y_x", "sex"]
    assert valid["id"].tolist() == ["t", "a", "b"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (table(id=["a", "a", "t"]), "duplicate ids in the example table: a"),
        (table().drop(columns="group"), "lacks the columns group"),
        (table(split=["test"] * 3), "no training image"),
        (table(y_x=[float("nan"), 1.0, float("nan")]), "1 training images have no label: b"),
    ],
)
def test_what_breaks_the_contract(bad, says):
    with pytest.raises(DataError, match=says):
        validate(Examples(bad, ("x",), "binary"), 0)


def test_match_by_id_and_split():
    rows = pd.DataFrame({"id": ["a", "b", "a2"], "split": ["train", "train", "test"]})
    images = pd.DataFrame(
        {"id": ["a", "c", "a2"], "split": ["train", "train", "test"], "path": ["a", "c", "a2"], "bytes": [1, 2, 3]}
    )
    joined, missing, surplus = match(rows, images)
    assert (sorted(joined["id"]), missing, surplus) == (["a", "a2"], ("b",), ("c",))
    assert joined["bytes"].dtype == "int64"


def test_ids_stay_strings(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n007,1\nNA,0\n")
    read = read_table(tmp_path / "t.csv", "id", ["label"])
    assert read["id"].tolist() == ["007", "NA"]
    assert read.index.tolist() == [2, 3]


def test_a_file_that_is_no_table(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"cannot read .*t\.csv as CSV"):
        read_table(tmp_path / "t.csv", "id", [])

import pandas as pd
import pytest

from kit.data.table.examples import Examples, read_examples, validate, write_examples
from kit.errors import DataError
from kit.tables import one_hot


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
        (table(y_x=[float("nan"), 1.0, float("nan")]), "1 training image has no label: b"),
        (
            table(y_x=[0.0, 1e9, 2.0]),
            r"y_x of the image a is 1000000000.0, not 0, 1 or unknown \(2 images are like this",
        ),
        (table(y_x=[0.0, float("inf"), 0.0]), "y_x of the image a is inf, not 0, 1"),
        (table(split=["train", "val", "test"]), "split of the image a is val, not train or test"),
        (table(group=["p", None, "t"]), "group of the image a is (None|nan), not a group"),
        (table(y_x=[0.0, 0.0, 1.0]), "all training images have the same value, 0, of x: there is nothing to learn"),
        (table(y_x=[1.0, 1.0, 0.0]), "all training images have the same value, 1, of x"),
        (table(y_x=[0.2, 0.4, 1.0]), "all training images have the same value, 0, of x"),
    ],
)
def test_what_breaks_the_contract(bad, says):
    with pytest.raises(DataError, match=says):
        validate(Examples(bad, ("x",), "binary"), 0)


def test_classes_of_a_multiclass_table():
    two = table().assign(y_z=[0.0, 1.0, float("nan")])
    with pytest.raises(DataError, match="2 images have no class or several: a, b"):
        validate(Examples(two, ("x", "z"), "multiclass"), 0)
    validate(Examples(two.assign(y_z=[1.0, 0.0, float("nan")]), ("x", "z"), "multiclass"), 0)
    validate(Examples(two, ("x", "z"), "multilabel"), 0)
    one = two.assign(y_x=[1.0, 1.0, 0.0], y_z=[0.0, 0.0, 1.0])
    with pytest.raises(DataError, match=r"all 2 training images are of one class, x: there is nothing to learn"):
        validate(Examples(one, ("x", "z"), "multiclass"), 0)


def test_one_of_several_labels_with_one_value_is_a_remark():
    one = table().assign(y_z=[1.0, float("nan"), 0.0])
    says = "labels have one value in all training images, and cannot be learnt: z"
    assert validate(Examples(one, ("x", "z"), "multilabel", remarks={"odd": 2}), 0).remarks == {"odd": 2, says: 1}
    both = one.assign(y_x=[1.0, 1.0, 0.0])
    with pytest.raises(DataError, match="all training images have the same value of x, z: there is nothing to learn"):
        validate(Examples(both, ("x", "z"), "multilabel"), 0)


def test_too_many_missing_are_a_share_of_what_there_should_be():
    partial = Examples(table(), ("x",), "binary", missing=("m",) * 9)
    with pytest.raises(DataError, match=r"9 expected images have no file.*max_missing=0\.75$"):
        validate(partial, 0.7)
    assert validate(partial, 0.75).missing == partial.missing
    otherwise = Examples(table(), ("x",), "binary", missing=("m.png",), surplus=("img/n.png",))
    with pytest.raises(DataError, match=r"has no file: m\.png \(files that nothing names: img/n\.png\)\. Complete the"):
        validate(otherwise, 0)


def test_nobody_is_told_to_leave_all_images_out():
    with pytest.raises(DataError, match=r"1 expected image has no file: m .*img/n\.png\)\. Complete the data$"):
        validate(Examples(table()[:0], ("x",), "binary", missing=("m",), surplus=("img/n.png",)), 0)


def test_a_written_table_knows_its_task_and_labels(tmp_path):
    written = validate(Examples(table(), ("x",), "binary"), 0)
    write_examples(tmp_path / "e.parquet", written)
    read = read_examples(tmp_path / "e.parquet")
    assert (read.task, read.labels) == ("binary", ("x",))
    pd.testing.assert_frame_equal(read.table, written.table)
    table().to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="does not name its task: write it with `kit examples`"):
        read_examples(tmp_path / "other.parquet")


def test_one_hot_leaves_unknown_classes_unknown():
    truth = one_hot(pd.Series(["a", None, "b"]), ["b", "a"])
    assert truth["y_b"].fillna(-1).tolist() == [0, -1, 1]
    assert truth["y_a"].fillna(-1).tolist() == [1, -1, 0]


def test_of_boxes_a_label_needs_some_and_no_image_without():
    table = pd.DataFrame({"id": ["a", "b"], "path": ["a", "b"], "bytes": 1, "split": "train", "group": ["a", "b"]})
    table = table.assign(y_x=1.0, y_z=0.0, boxes=[[[0, 0, 1, 1]]] * 2, box_labels=[["x"]] * 2, width=2, height=2)
    examples = validate(Examples(table, ("x", "z"), "detection"), 0)
    assert examples.remarks == {"labels that have no box in any training image, and cannot be learnt: z": 1}
    with pytest.raises(DataError, match=r"no training image has a box \(z\): there is nothing to learn"):
        validate(Examples(table.drop(columns=["y_x", "box_labels"]).assign(boxes=[[], []]), ("z",), "detection"), 0)

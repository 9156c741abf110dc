"""What changes the identity of training examples, of test examples and of images, and what does not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config import DataSettings, ImageSettings
from kit.data.records.manifest import Fingerprints, fingerprint, fingerprints
from kit.data.table.examples import Examples, validate

IMAGE, DATA = ImageSettings(size=32), DataSettings()


def make_table(train, test, seed=0):
    rng = np.random.default_rng(seed)
    split = ["train"] * train + ["test"] * test
    numbers = [*range(train), *range(test)]
    return pd.DataFrame(
        {
            "id": [f"{side}{n}" for side, n in zip(split, numbers, strict=True)],
            "path": [f"{side}/{n}.png" for side, n in zip(split, numbers, strict=True)],
            "bytes": rng.integers(100, 10**6, train + test),
            "split": split,
            "group": [f"{side}{n // 2}" for side, n in zip(split, numbers, strict=True)],
            "y_a": np.array([*rng.integers(0, 2, train), *[np.nan] * test], np.float32),
            "y_b": np.array([*rng.choice([0, 1, np.nan], train), *[np.nan] * test], np.float32),
            "crc32": "00ff00ff",
        }
    ).assign(y_a=lambda table: table["y_a"].where(table.index > 1, np.float32(1) - table.index).astype(np.float32))


def of(table, image=IMAGE, data=DATA, competition="c", task="multilabel"):
    rows = table.assign(y_b=table["y_b"] if "y_b" in table else np.float32(0))
    return fingerprints(competition, validate(Examples(rows, ("a", "b"), task), 0), image, data)


def changed(before, after):
    """The parts whose fingerprints differ."""
    return {name for name in Fingerprints.model_fields if getattr(before, name) != getattr(after, name)}


TABLE = make_table(12, 6)
sizes = st.integers(2, 20)  # both values of a label


@given(sizes, st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_another_test_set_or_none_leaves_training_and_images(train, test, other, seed):
    table = make_table(train, 10, seed)
    one = table[: train + test]
    two = table[: train + other]
    assert changed(of(one), of(two)) == ({"test"} if test != other else set())
    assert changed(of(one), of(one.assign(path=one["path"].where(one["split"] == "train", "t/" + one["path"])))) == (
        {"test"} if test else set()
    )


@given(st.permutations(range(18)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_rows_and_columns_does_not_matter(order):
    shuffled = TABLE.iloc[order][list(reversed(TABLE.columns))]
    assert changed(of(TABLE), of(shuffled)) == set()


@pytest.mark.parametrize(
    "values",
    [
        ["F"] * 18,
        [None] * 18,
        [*range(12), *[np.nan] * 6],  # integers that become floats with the test rows
        [*[1.5] * 12, *["unknown"] * 6],  # numbers that become objects
        [[[1, 2, 3, 4]]] * 12 + [[]] * 6,
    ],
)
@pytest.mark.parametrize("column", ["age", "boxes", "detailed_class"])
def test_metadata_are_in_no_part(column, values):
    with_metadata = TABLE.assign(**{column: values})
    assert changed(of(TABLE), of(with_metadata)) == set()
    without_test = TABLE[:12].assign(**{column: values[:12]})  # of the dtype that these values have alone
    assert changed(of(TABLE), of(without_test)) == {"test"}
    whole = [
        fingerprint("c", validate(Examples(table, ("a", "b"), "multilabel"), 0), IMAGE, DATA)
        for table in (TABLE, with_metadata)
    ]
    assert whole[0] != whole[1]  # the records hold them


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float32", "object"])
def test_the_dtype_of_labels_does_not_matter(dtype):
    columns = {"y_a": dtype, "y_b": dtype}
    assert changed(of(TABLE), of(TABLE.astype(columns))) == set()
    assert changed(of(TABLE[:12]), of(TABLE[:12].astype(columns))) == set()


CHANGES = {
    "id": "x",
    "path": "elsewhere.png",
    "bytes": 7,
    "group": "another patient",
    "y_a": 0.5,
    "y_b": 0.25,
    "crc32": "12345678",
}


@given(st.sampled_from(sorted(CHANGES)), st.integers(0, 17))
@settings(max_examples=60, deadline=None)
def test_one_changed_value_changes_its_side_alone(column, row):
    table = TABLE.copy()
    table.loc[row, column] = CHANGES[column]
    assert changed(of(TABLE), of(table)) == {"training" if row < 12 else "test"}


@given(st.integers(0, 11))
@settings(max_examples=12, deadline=None)
def test_a_training_row_less(row):
    assert changed(of(TABLE), of(TABLE.drop(index=row))) == {"training"}


def test_a_row_that_changes_sides():
    table = TABLE.copy()
    table.loc[3, "split"] = "test"
    assert changed(of(TABLE), of(table)) == {"training", "test"}


@pytest.mark.parametrize(
    "other",
    [
        {"size": 33},
        {"color": "gray"},
        {"encoding": "raw"},
        {"encoding": "jpeg:90"},
        {"steps": ({"name": "clahe"},)},
        {"dicom": {"window": "LUNG"}},
    ],
)
def test_image_settings_change_the_images_alone(other):
    assert changed(of(TABLE), of(TABLE, ImageSettings(**{"size": 32, **other}))) == {"image"}


def test_settings_that_are_the_default_are_the_same_spelled_out():
    assert changed(of(TABLE), of(TABLE, ImageSettings(size=32, encoding="auto", steps=()))) == set()
    assert changed(of(TABLE), of(TABLE, data=DataSettings(max_missing=0.5, max_rejected=0.5))) == set()


def test_what_changes_all_rows():
    assert changed(of(TABLE), of(TABLE, data=DataSettings(shard_mib=1))) == {"training", "test"}
    assert changed(of(TABLE), of(TABLE, competition="d")) == {"training", "test"}
    swapped = validate(Examples(TABLE, ("b", "a"), "multilabel"), 0)
    assert changed(of(TABLE), fingerprints("c", swapped, IMAGE, DATA)) == {"training", "test"}


def test_boxes_are_part_of_what_detection_learns():
    boxes = [[[1.0, 2.0, 3.0, 4.0]]] * 12 + [[]] * 6
    table = TABLE.assign(boxes=boxes)
    moved = TABLE.assign(boxes=[[[1.0, 2.0, 3.0, 5.0]], *boxes[1:]])
    sound = {"y_a": np.float32(1), "y_b": np.float32(0), "box_labels": [["a"]] * 12 + [[]] * 6, "width": 9, "height": 9}
    before, after = (of(each.assign(**sound), task="detection") for each in (table, moved))
    assert changed(before, after) == {"training"}
    assert changed(of(table), of(moved)) == set()

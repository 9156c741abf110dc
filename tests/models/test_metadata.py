"""Metadata columns as numbers for a model."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import zscore

from kit.errors import ConfigError, DataError
from kit.models.metadata import (
    Metadata,
    check_metadata,
    fit_metadata,
    group_sizes,
    remark_on_answer,
    z_scores,
)

pytestmark = pytest.mark.once


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "id": list("abcdef"),
            "split": ["train"] * 4 + ["test"] * 2,
            "group": ["p", "p", "p", "q", "r", "r"],
            "y_tumour": [0.0, 1, 0, 1, np.nan, np.nan],
            "age": [10.0, 20, 60, 40, np.nan, 50],
            "sex": ["m", "f", None, "m", "f", "x"],
            "bytes": 1,
        }
    )


def test_numbers_codes_z_scores_and_group_sizes(table):
    train, test = table[:4], table[4:]
    metadata = fit_metadata(train, ["sex", "age"], per_group=True)
    assert metadata.features == ("sex", "age", "age in group", "size of group")
    deviation = np.sqrt(1400 / 3)
    expected = [[1, 10, -20 / deviation, 3], [0, 20, -10 / deviation, 3], [np.nan, 60, 30 / deviation, 3]]
    np.testing.assert_allclose(metadata.matrix(train), [*expected, [1, 40, np.nan, 1]])
    # Training rows lacked no age: the test's missing one is their median. x is a new sex, and one was missing before.
    np.testing.assert_allclose(metadata.matrix(test), [[0, 30, np.nan, 2], [np.nan, 50, np.nan, 2]])
    assert Metadata.model_validate_json(metadata.model_dump_json()) == metadata


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e3, 1e3).map(lambda x: round(x, 3))), min_size=1, max_size=30))
def test_z_scores_are_scipys_within_each_group(rows):
    groups, values = np.array([group for group, _ in rows]), np.array([[value] for _, value in rows])
    z = z_scores(values, groups)[:, 0]
    for group in np.unique(groups):
        own, inside = values[groups == group, 0], z[groups == group]
        if len(own) < 2:
            assert np.isnan(inside).all()
        elif len(np.unique(own)) == 1:
            assert (inside == 0).all()
        else:
            np.testing.assert_allclose(inside, zscore(own), atol=1e-6)
        assert (group_sizes(groups)[groups == group] == len(own)).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["agee"], "'agee' is no column of the example table; did you mean 'age'"),
        (["y_tumour"], "'y_tumour' is no metadata"),
        (["Tumour"], "'Tumour' is no metadata"),
        (["id"], "'id' is no metadata"),
        (["bytes"], "'bytes' is no metadata"),
        (["age", "age"], "'age' is named twice"),
        (["scanner"], "'scanner' has no value in the test set"),
        (["report"], "'report' has 300 different texts, such as text 0, text 1, text 10 and 297 more: names"),
        (["lists"], "'lists' holds values that are neither numbers nor texts"),
        (["mixed"], "'mixed' holds numbers, but 'old' for the image e"),
    ],
)
def test_columns_that_cannot_be_used(table, names, message):
    table["Tumour"] = 1
    table["scanner"] = ["a", "b", "a", "b", None, None]
    table["mixed"] = ["1", "2", "3", "4", "old", "5"]
    table["lists"] = [[1]] * 6
    if "report" in names:
        table = pd.concat([table.assign(report="text 0")] * 50, ignore_index=True)
        table["report"] = [f"text {n}" for n in range(300)]
        table["split"] = "train"
    with pytest.raises(ConfigError, match=message):
        check_metadata(table, names, ["tumour"])


def test_columns_that_can(table):
    check_metadata(table, ["age", "sex"], ["tumour"])
    check_metadata(table, [], ["tumour"])


def test_a_column_that_is_lost(table):
    metadata = fit_metadata(table, ["age"], per_group=False)
    with pytest.raises(DataError, match="no column 'age', which the model was trained with"):
        metadata.matrix(table.drop(columns="age"))


def test_a_column_that_tells_the_answer_is_remarked_on(caplog):
    y = np.tile([0.0, 1], 20)
    table = pd.DataFrame({"y_a": y, "diagnosis": np.where(y > 0, "naevus", "cyst"), "sex": ["m", "m", "f", "f"] * 10})
    for name in ("diagnosis", "sex"):
        remark_on_answer(table, name, ["a"])
    assert len(caplog.records) == 1
    assert "'diagnosis' alone tells 'a' of all 40 training images" in caplog.text

import numpy as np
import pandas as pd
import pytest

from kit import tables

ODD = ["No Finding", "Pleural/Thickening", "y_p_x", "a=b, 'c' é 1.5", "", "self"]


def predictions(labels=ODD, rows=3):
    p = np.random.default_rng(0).random((rows, len(labels))).astype(np.float32)
    table = pd.DataFrame({"id": [f"i{n}" for n in range(rows)], "fold": range(rows)})
    return tables.with_probabilities(table, p, labels), p


def test_columns_of_labels():
    assert tables.truth_columns(["a", "No Finding"]) == ["y_a", "y_No Finding"]
    assert tables.probability_columns(iter(["a", "y_b"])) == ["p_a", "p_y_b"]


def test_labels_come_in_the_order_of_the_columns():
    table = pd.DataFrame(columns=["id", "p_b", "y_b", "path", "y_a", "p_p_a", "py", "p_a", 7])
    assert tables.labels_of(table) == ["b", "a"]
    assert tables.labels_of(table, tables.PROBABILITY) == ["b", "p_a", "a"] == tables.predicted_labels(table)
    assert tables.labels_of(pd.DataFrame({"id": ["a"]})) == tables.predicted_labels(pd.DataFrame()) == []


def test_probabilities_are_read_as_they_were_written():
    table, p = predictions()
    assert list(table.columns) == ["id", "fold", *(f"p_{label}" for label in ODD)]
    assert tables.predicted_labels(table) == ODD
    assert (tables.probabilities(table) == p).all() and tables.probabilities(table).dtype == np.float32
    assert (tables.probabilities(table, ODD[::-2]) == p[:, ::-2]).all()
    again = tables.with_probabilities(table, p[:, :2].astype(np.float64) / 3, ODD[:2])
    assert list(again.columns) == list(table.columns) and (again.iloc[:, 2:].dtypes == np.float32).all()
    assert (tables.probabilities(again)[:, 2:] == p[:, 2:]).all()
    with pytest.raises(KeyError, match="p_missing"):
        tables.probabilities(table, ["missing"])


def test_truth_is_read_for_all_labels_or_some():
    table = pd.DataFrame({"y_b": [1.0, np.nan], "id": ["i", "j"], "y_a": [0.0, 1.0], "p_a": [0.5, 0.5]})
    assert tables.truth(table).tolist()[0] == [1, 0] and np.isnan(tables.truth(table)[1, 0])
    assert tables.truth(table, ["a"]).tolist() == [[0], [1]]
    assert tables.truth(table, (label for label in "ab"))[0].tolist() == [0, 1]


def test_truth_is_joined_by_id_whatever_the_order():
    table, p = predictions(rows=4)
    y = (np.arange(5 * len(ODD)).reshape(5, -1) % 3 == 0).astype(np.float32)
    y[1, 2] = np.nan
    examples = pd.DataFrame(y, columns=tables.truth_columns(ODD)).assign(id=[f"i{n}" for n in range(5)], path="x")
    shuffled = table.sample(frac=1, random_state=1)  # with an index that is not 0, 1, 2, 3
    joined = tables.with_truth(shuffled, examples.sample(frac=1, random_state=2), ODD)
    rows = shuffled["id"].str[1:].astype(int).to_numpy()
    assert np.array_equal(tables.truth(joined), y[rows], equal_nan=True)
    assert tables.truth(joined).dtype == np.float32
    assert (tables.probabilities(joined) == p[rows]).all()
    assert list(joined["id"]) == list(shuffled["id"]) and "path" not in joined
    some = tables.with_truth(table, examples, ODD[1:2])
    assert tables.labels_of(some) == ODD[1:2]
    assert len(tables.with_truth(table[:0], examples, ODD)) == 0


def test_truth_of_an_unknown_id():
    table, _ = predictions(["a"])
    examples = pd.DataFrame({"id": ["i0", "i1"], "y_a": np.float32([0, 1])})
    with pytest.raises(KeyError, match="i2"):
        tables.with_truth(table, examples, ["a"])
    with pytest.raises(KeyError, match="y_b"):
        tables.with_truth(table[:2], examples, ["b"])


def test_one_hot_truth_of_class_names():
    names = pd.Series(["cat", None, "dog", "cat"], index=[3, 1, 7, 5])
    table = tables.one_hot(names, ["dog", "cat", "no one"])
    assert list(table.columns) == ["y_dog", "y_cat", "y_no one"]
    assert list(table.index) == [3, 1, 7, 5] and (table.dtypes == np.float32).all()
    assert table.loc[[3, 7, 5]].to_numpy().tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    assert table.loc[1].isna().all()


def test_the_names_of_columns():
    assert (tables.TRUTH, tables.PROBABILITY, tables.DECISION) == ("y_", "p_", "decision")


def test_soft_labels_are_cut_where_predictions_are_scored():
    examples = pd.DataFrame({"id": ["a", "b", "c"], "y_x": np.array([0.75, 0.5, np.nan], np.float32)})
    joined = tables.with_truth(pd.DataFrame({"id": ["c", "a", "b"]}), examples, ["x"])
    np.testing.assert_array_equal(joined["y_x"], np.array([np.nan, 1, 0], np.float32))
    assert joined["y_x"].dtype == np.float32

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from kit.config import EvaluateSettings
from kit.errors import DataError
from kit.evaluate.metrics import accuracy
from kit.evaluate.score import compare, score, score_test, subgroups, thresholds, with_known_labels
from kit.evaluate.text import as_text, comparison

SETTINGS = EvaluateSettings(resamples=100)


@pytest.fixture
def known():
    """Forty training and ten test examples of three classes; the groups g0 and g1 have images in both."""
    rng = np.random.default_rng(0)
    truth = np.arange(50) % 3
    table = pd.DataFrame({"id": [f"i{n}" for n in range(50)], "split": ["train"] * 40 + ["test"] * 10})
    table["group"] = [f"g{n}" for n in range(40)] + ["g0", "g1"] + [f"h{n}" for n in range(8)]
    p = rng.random((50, 3)) + 0.7 * np.eye(3)[truth]
    p /= p.sum(axis=1, keepdims=True)
    for n, label in enumerate("abc"):
        table[f"y_{label}"], table[f"p_{label}"] = (truth == n).astype(np.float32), p[:, n]
    return table.assign(truth=truth, fold=np.arange(50) % 2)


def of(table, *columns):
    return table[["id", *columns, *(f"{kind}_{label}" for kind in "yp" for label in "abc")]]


def test_classes_are_scored_as_scikit_learn_scores_them(known):
    train = known[known["split"] == "train"]
    scores = score(of(train, "fold"), known, "roc_auc", "multiclass", SETTINGS)
    p = train[["p_a", "p_b", "p_c"]].to_numpy()
    assert scores["value"] == pytest.approx(sk.roc_auc_score(train["truth"], p, multi_class="ovr", average="macro"))
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(train["truth"], p.argmax(axis=1)))
    assert scores["labels"]["b"]["value"] == pytest.approx(sk.roc_auc_score(train["truth"] == 1, p[:, 1]))
    assert (scores["rows"], scores["groups"]) == (40, 40)


def test_a_labelled_test_set_is_scored_and_its_shared_groups_are_told(known):
    predictions = known[["id", "p_a", "p_b", "p_c"]]
    test = with_known_labels(predictions[known["split"] == "test"], known)
    scores = score_test(test, known, "roc_auc", "multiclass", SETTINGS)
    assert scores["rows"] == 10
    assert scores["groups_also_in_training"] == 2
    alone = known[42:]
    expected = sk.roc_auc_score(alone["truth"], alone[["p_a", "p_b", "p_c"]], multi_class="ovr", average="macro")
    assert scores["value_without_them"] == pytest.approx(expected)
    oof = of(known[:40], "fold")
    text = as_text(
        {**score(oof, known, "roc_auc", "multiclass", SETTINGS), "test": scores}, thresholds(oof, "multiclass", "f1")
    )
    assert f"2 groups of the test images are in training too; without them {expected:.4f}" in text


def test_a_test_set_without_labels_has_nothing_to_be_scored_on(known):
    hidden = known.assign(**{f"y_{label}": np.nan for label in "abc"})
    assert with_known_labels(known[["id", "p_a", "p_b", "p_c"]], hidden).empty


def test_accuracy_of_several_labels_leaves_unknown_ones_out():
    y = np.array([[1, 0, np.nan], [0, 1, 1]])
    p = np.array([[0.9, 0.6, 0.1], [0.2, 0.7, 0.4]])
    assert accuracy(y, p, "multilabel") == pytest.approx(3 / 5)  # .6 for 0 and .4 for 1 are wrong, one is unknown
    assert accuracy(y[:, :1], p[:, :1], "binary") == 1


def test_what_is_not_defined_is_null(known):
    one_sided = known[:40].assign(y_c=np.float32(0))  # no image of c
    scores = score(of(one_sided, "fold"), one_sided, "roc_auc", "multilabel", SETTINGS)
    assert scores["labels"]["c"] == {"value": None, "low": None, "high": None}
    assert scores["metrics"]["labels"]["c"]["f1"] is None
    cuts = thresholds(of(one_sided, "fold"), "multilabel", "f1")
    assert "NaN" not in json.dumps(scores) + json.dumps(cuts)
    assert "undefined" in next(line for line in as_text(scores, cuts).split("\n") if line.startswith("c "))


def binary(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % 2
    table = pd.DataFrame({"id": [f"i{n:03}" for n in range(rows)], "split": "train", "fold": np.arange(rows) // 2 % 4})
    table["group"] = table["id"]
    return table.assign(y_x=truth.astype(np.float32), p_x=1 / (1 + np.exp(-rng.normal(truth, 1))))


def predictions(table):
    return table[["id", "fold", "y_x", "p_x"]]


def test_folds_on_different_scales_are_warned_of():
    known = binary()
    same = score(predictions(known), known, "roc_auc", "binary", SETTINGS)
    assert same["warnings"] == []
    assert same["delong"]["low"] == pytest.approx(same["interval"]["low"], abs=0.02)
    apart = known.assign(p_x=known["p_x"] * 0.25 + known["fold"] * 0.25)
    scores = score(predictions(apart), apart, "roc_auc", "binary", SETTINGS)
    assert scores["value"] < scores["fold_mean"] - 0.1
    assert "the folds' models are on different scales" in scores["warnings"][0]
    assert scores["warnings"][0] in as_text(scores, thresholds(predictions(apart), "binary", "f1"))


def test_the_interval_goes_by_groups_and_delong_is_left_out_where_they_have_several_rows():
    known = binary().assign(group=lambda table: table["id"].str[:-1])
    scores = score(predictions(known), known, "roc_auc", "binary", SETTINGS)
    assert scores["groups"] == 40 and "delong" not in scores


def test_subgroups_are_scored_and_small_ones_marked():
    known = binary().assign(sex=["F"] * 350 + ["M"] * 48 + [None] * 2, age=[np.nan, 17.5] + [18.0, 39.0] * 199)
    parts = {
        (part["column"], part["part"]): part for part in subgroups(predictions(known), known, "roc_auc", ("sex", "age"))
    }
    assert {key: part["rows"] for key, part in parts.items()} == {
        ("sex", "F"): 350, ("sex", "M"): 48, ("age", "0 to 17"): 1, ("age", "18 to 39"): 398
    }  # fmt: skip
    women = known[:350]
    assert parts["sex", "F"]["value"] == pytest.approx(sk.roc_auc_score(women["y_x"], women["p_x"]))
    assert (parts["sex", "F"]["small"], parts["sex", "M"]["small"]) == (False, True)
    assert np.isnan(parts["age", "0 to 17"]["value"])


def test_a_threshold_is_told_with_its_honest_value():
    known = binary()
    cuts = thresholds(predictions(known), "binary", "sensitivity_at_specificity:0.9")
    cut = cuts["labels"]["x"]
    called = known["p_x"] >= cut["threshold"]
    assert (~called[known["y_x"] == 0]).mean() >= 0.9
    assert cut["on_the_rows_that_chose_it"]["recall"] == pytest.approx(called[known["y_x"] == 1].mean())
    assert 0.8 < cut["cross_validated"]["specificity"] < 1


def test_class_factors_are_told_with_their_honest_value(known):
    found = thresholds(of(known[:40], "fold"), "multiclass", "f1")["classes"]
    assert found["balanced_accuracy_on_the_rows_that_chose_them"] >= found["balanced_accuracy_of_argmax"]
    assert set(found["factors"]) == {"a", "b", "c"}


def test_calibrators_are_compared_out_of_fold():
    known = binary(2000).assign(p_x=lambda table: table["p_x"] ** 3)
    found = score(predictions(known), known, "roc_auc", "binary", SETTINGS)["calibration"]["cross_fitted"]
    assert found["beta"]["log_loss"] < found["none"]["log_loss"]
    assert found["beta"]["error"] < found["none"]["error"]


def test_two_runs_are_compared_in_pairs():
    first = binary()
    second = first.assign(p_x=first["p_x"] + 0.2 * first["y_x"])
    lines = compare({"a": predictions(first), "b": predictions(second.assign(fold=0))}, first, "roc_auc", 1, SETTINGS)
    assert lines[0]["difference"] == 0
    wanted = sk.roc_auc_score(second["y_x"], second["p_x"]) - sk.roc_auc_score(first["y_x"], first["p_x"])
    assert lines[1]["difference"] == pytest.approx(wanted)
    assert 0 < lines[1]["low"] < wanted < lines[1]["high"] and lines[1]["better"] == 1
    assert "better in 100.0% of the resamples" in comparison(lines, 0.95)
    with pytest.raises(DataError, match="b and a have different training images"):
        compare({"a": predictions(first), "b": predictions(second[1:])}, first, "roc_auc", 1, SETTINGS)


def test_two_runs_where_nothing_is_defined_are_compared_all_the_same():
    known = binary().assign(y_x=np.float32(0))
    lines = compare({"a": predictions(known), "b": predictions(known)}, known, "roc_auc", 1, SETTINGS)
    assert "difference undefined" in comparison(lines, 0.95) and "better in undefined" in comparison(lines, 0.95)
    cuts = thresholds(predictions(known), "binary", "f1")
    assert cuts["labels"]["x"]["threshold"] is None
    assert "threshold undefined" in as_text(score(predictions(known), known, "roc_auc", "binary", SETTINGS), cuts)

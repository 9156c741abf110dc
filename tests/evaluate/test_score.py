import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from kit.config import EvaluateSettings
from kit.evaluate.metrics import accuracy
from kit.evaluate.score import as_text, score, score_test, thresholds, with_known_labels

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
    assert scores["labels"]["b"] == pytest.approx(sk.roc_auc_score(train["truth"] == 1, p[:, 1]))
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
    text = as_text({**score(oof, known, "roc_auc", "multiclass", SETTINGS), "test": scores}, thresholds(oof))
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
    assert scores["labels"]["c"] is None
    assert "NaN" not in json.dumps(scores)
    assert "c  roc_auc undefined" in as_text(scores, thresholds(of(one_sided, "fold")))

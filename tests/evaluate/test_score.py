import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from kit.config import EvaluateSettings
from kit.errors import DataError
from kit.evaluate.decision import decide
from kit.evaluate.metrics import METRICS, accuracy
from kit.evaluate.score import Yardstick, compare_runs, score, subgroups, with_known_truth
from kit.evaluate.text import as_text, comparison, ensemble
from kit.schemas import EnsembleReport, Scores
from kit.tables import probabilities, truth_columns, with_truth

SETTINGS = EvaluateSettings(resamples=100)
AUC = METRICS["roc_auc"]
BINARY = Yardstick(AUC, False, SETTINGS)
CLASSES = Yardstick(AUC, True, SETTINGS)


@pytest.fixture
def examples():
    """Forty training and ten test examples of three classes; the groups g0 and g1 have images in both."""
    truth = np.arange(50) % 3
    table = pd.DataFrame({"id": [f"i{n}" for n in range(50)], "split": ["train"] * 40 + ["test"] * 10})
    table["group"] = [f"g{n}" for n in range(40)] + ["g0", "g1"] + [f"h{n}" for n in range(8)]
    for n, label in enumerate("abc"):
        table[f"y_{label}"] = (truth == n).astype(np.float32)
    return table.assign(truth=truth)


def predictions(examples, split):
    """Noisy predictions of the three classes, as the tables of a run hold them."""
    p = np.random.default_rng(0).random((50, 3)) + 0.7 * np.eye(3)[np.arange(50) % 3]
    p /= p.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"id": examples["id"], "fold": np.arange(50) % 2})
    table[["p_a", "p_b", "p_c"]] = p
    table = table[examples["split"] == split]
    return table if split == "train" else table.drop(columns="fold")


def none_of(oof):
    """The predictions of a run without a test set."""
    return oof[:0].drop(columns="fold")


def test_classes_are_scored_as_scikit_learn_scores_them(examples):
    oof, truth = predictions(examples, "train"), examples["truth"][:40]
    scores = score(oof, none_of(oof), examples, CLASSES)
    p = oof[["p_a", "p_b", "p_c"]].to_numpy()
    assert scores.value == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    assert scores.accuracy == pytest.approx(sk.accuracy_score(truth, p.argmax(axis=1)))
    assert scores.labels["b"].value == pytest.approx(sk.roc_auc_score(truth == 1, p[:, 1]))
    assert (scores.rows, scores.groups, scores.test) == (40, 40, None)


def test_a_labelled_test_set_is_scored_and_its_shared_groups_are_reported(examples):
    oof, test = predictions(examples, "train"), predictions(examples, "test")
    scores = score(oof, test, examples, CLASSES)
    assert scores.test.rows == 10
    assert scores.test.groups_also_in_training == 2
    alone = examples[42:].merge(test, on="id")
    expected = sk.roc_auc_score(alone["truth"], alone[["p_a", "p_b", "p_c"]], multi_class="ovr", average="macro")
    assert scores.test.value_without_them == pytest.approx(expected)
    text = as_text(scores, decide(oof, examples, "multiclass", True, SETTINGS))
    assert f"2 groups of the test images are in training too; without them {expected:.4f}" in text
    assert f"test roc_auc  {scores.test.value:.4f}" in text


def test_a_test_set_without_labels_is_not_scored(examples):
    hidden = examples.assign(**{column: np.where(examples["split"] == "test", np.nan, examples[column])
                                for column in truth_columns("abc")})  # fmt: skip
    test = predictions(examples, "test")
    assert with_known_truth(test, hidden).empty
    assert score(predictions(examples, "train"), test, hidden, CLASSES).test is None


def test_predictions_of_an_unknown_image(examples):
    oof = predictions(examples, "train")
    with pytest.raises(DataError, match="2 predicted images are not in the example table, such as i38"):
        score(oof, none_of(oof), examples[:38], CLASSES)
    with pytest.raises(DataError, match="2 predicted images are not in the example table, such as i38"):
        compare_runs({"a": oof, "b": oof}, examples[:38], AUC, SETTINGS)


def test_means_over_some_of_the_labels(examples):
    oof, test = predictions(examples, "train"), predictions(examples, "test")
    means = {"two findings": ("c", "a"), "rare": ("b",)}
    scores = score(oof, test, examples, Yardstick(AUC, True, SETTINGS, means))
    for values in (scores, scores.test):
        each = {label: part.value for label, part in values.labels.items()}
        assert values.means == pytest.approx({"two findings": (each["a"] + each["c"]) / 2, "rare": each["b"]})
    text = as_text(scores, decide(oof, examples, "multiclass", True, SETTINGS)).split("\n")
    for values in (scores, scores.test):
        assert f"mean of the two findings  {values.means['two findings']:.4f}" in text
        assert f"mean of the rare  {values.means['rare']:.4f}" in text
    assert "means" not in score(oof, test, examples, CLASSES).as_json()


def test_accuracy_of_several_labels_skips_unknown_ones():
    y = np.array([[1, 0, np.nan], [0, 1, 1]])
    p = np.array([[0.9, 0.6, 0.1], [0.2, 0.7, 0.4]])
    assert accuracy(y, p, False) == pytest.approx(3 / 5)  # .6 for 0 and .4 for 1 are wrong, one is unknown
    assert accuracy(y[:, :1], p[:, :1], False) == 1


def test_undefined_values_are_null(examples):
    one_sided = examples.assign(y_c=np.float32(0))  # no image of c
    oof = predictions(examples, "train")
    scores = score(oof, none_of(oof), one_sided, BINARY)
    assert scores.labels["c"].as_json() == {"value": None, "low": None, "high": None}
    assert scores.metrics["labels"]["c"]["f1"] is None
    decision = decide(oof, one_sided, "multilabel", False, SETTINGS)
    assert "NaN" not in json.dumps(scores.as_json()) + json.dumps(decision.as_json())
    assert "undefined" in next(line for line in as_text(scores, decision).split("\n") if line.startswith("c "))


def test_scores_survive_json(examples):
    oof, test = predictions(examples, "train"), predictions(examples, "test")
    scores = score(oof, test, examples.assign(sex="F"), Yardstick(AUC, True, SETTINGS, {"two": ("a", "b")}))
    again = Scores.model_validate_json(json.dumps(scores.as_json()))
    assert again == scores
    assert again.as_json() == scores.as_json()
    assert list(again.folds) == [0, 1]


def binary(rows=400, seed=0):
    """Examples of one label, two rows each of folds 0 to 3 in turn, with predictions in them."""
    rng = np.random.default_rng(seed)
    truth = np.arange(rows) % 2
    table = pd.DataFrame({"id": [f"i{n:03}" for n in range(rows)], "split": "train", "fold": np.arange(rows) // 2 % 4})
    table["group"] = table["id"]
    return table.assign(y_x=truth.astype(np.float32), p_x=1 / (1 + np.exp(-rng.normal(truth, 1))))


def oof_of(table):
    return table[["id", "fold", "p_x"]]


def scores_of(table):
    return score(oof_of(table), none_of(oof_of(table)), table, BINARY)


def text_of(table):
    return as_text(scores_of(table), decide(oof_of(table), table, "binary", False, SETTINGS))


def test_folds_on_different_scales_give_a_warning():
    same = scores_of(binary())
    assert same.warnings == []
    assert same.delong.low == pytest.approx(same.interval.low, abs=0.02)
    apart = binary().assign(p_x=lambda table: table["p_x"] * 0.25 + table["fold"] * 0.25)
    scores = scores_of(apart)
    assert scores.value < scores.fold_mean - 0.1
    assert "their models are on different scales" in scores.warnings[0]
    assert scores.warnings[0] in text_of(apart)


def test_the_interval_goes_by_groups_and_delong_is_left_out_where_they_have_several_rows():
    scores = scores_of(binary().assign(group=lambda table: table["id"].str[:-1]))
    assert scores.groups == 40 and scores.delong is None
    assert "delong" not in scores.as_json()


def test_subgroups_are_scored_and_small_ones_marked():
    table = binary().assign(sex=["F"] * 350 + ["M"] * 48 + [None] * 2, age=[np.nan, 17.5] + [18.0, 39.0] * 199)
    rows = with_truth(oof_of(table), table, ["x"])
    p = probabilities(rows)
    parts = {(part["column"], part["part"]): part for part in subgroups(rows, p, table, AUC, ("sex", "age", "view"))}
    assert {key: part["rows"] for key, part in parts.items()} == {
        ("sex", "F"): 350, ("sex", "M"): 48, ("age", "0 to 17"): 1, ("age", "18 to 39"): 398
    }  # fmt: skip
    women = table[:350]
    assert parts["sex", "F"]["value"] == pytest.approx(sk.roc_auc_score(women["y_x"], women["p_x"]))
    assert (parts["sex", "F"]["small"], parts["sex", "M"]["small"]) == (False, True)
    assert np.isnan(parts["age", "0 to 17"]["value"])
    text = text_of(table).split("\n")
    assert f"sex F         {parts['sex', 'F']['value']:.4f}     350 rows" in text
    assert "age 0 to 17   undefined    1 rows, too few to judge" in text


def test_calibrators_are_compared_out_of_fold():
    scores = scores_of(binary(2000).assign(p_x=lambda table: table["p_x"] ** 3))
    deviations = scores.calibration.cross_fitted
    assert deviations["beta"].log_loss < deviations["none"].log_loss
    assert deviations["beta"].error < deviations["none"].error


def test_two_runs_are_compared_in_pairs():
    first = binary()
    second = first.assign(p_x=first["p_x"] + 0.2 * first["y_x"])
    runs = {"a": oof_of(first).sample(frac=1, random_state=0), "b": oof_of(second.assign(fold=0))}
    lines = compare_runs(runs, first.sample(frac=1, random_state=1), AUC, SETTINGS)
    assert lines[0].value == pytest.approx(sk.roc_auc_score(first["y_x"], first["p_x"]))
    assert lines[0].difference == 0
    expected = sk.roc_auc_score(second["y_x"], second["p_x"]) - sk.roc_auc_score(first["y_x"], first["p_x"])
    assert lines[1].difference == pytest.approx(expected)
    assert 0 < lines[1].low < expected < lines[1].high and lines[1].better == 1
    assert "better in 100.0% of the resamples" in comparison(lines, 0.95)
    with pytest.raises(DataError, match="b and a have different training images"):
        compare_runs({"a": oof_of(first), "b": oof_of(second[1:])}, first, AUC, SETTINGS)


def test_a_run_with_a_smaller_loss_is_the_better_one():
    first = binary()
    second = first.assign(p_x=np.clip(first["p_x"] + 0.2 * (first["y_x"] - 0.5), 0, 1))
    lines = compare_runs({"a": oof_of(first), "b": oof_of(second)}, first, METRICS["brier"], SETTINGS)
    assert lines[1].difference < 0 and lines[1].better == 1


def test_two_runs_where_nothing_is_defined_are_compared_all_the_same():
    table = binary().assign(y_x=np.float32(0))
    lines = compare_runs({"a": oof_of(table), "b": oof_of(table)}, table, AUC, SETTINGS)
    assert "difference undefined" in comparison(lines, 0.95) and "better in undefined" in comparison(lines, 0.95)
    assert decide(oof_of(table), table, "binary", False, SETTINGS).thresholds["x"].threshold is None
    text = text_of(table)
    assert [line.split()[:2] for line in text.split("\n") if line.startswith("x")][-1] == ["x", "undefined"]


def test_the_text_of_an_ensemble():
    blend = {"nested": 0.9, "low": 0.85, "high": None, "optimistic": 0.91, "gain": 0.01, "gain_low": -0.01}
    blend |= {"gain_high": 0.02, "better": 0.8, "sure": False}
    report = EnsembleReport.model_validate(
        {
            "metric": "roc_auc",
            "runs": ["a", "b"],
            "blends": {"mean": blend, "convex": {**blend, "nested": 0.91}},
            "correlation": {"a": {"a": 1.0, "b": 0.5}, "b": {"a": 0.5, "b": None}},
            "chosen": "convex",
            "reason": "you asked for it",
            "weights": {"a": 0.25, "b": 0.75},
            "metadata": [],
        }
    )
    text = ensemble(report).split("\n")
    line = next(line for line in text if line.startswith("convex"))
    assert " ".join(line.split()) == "convex 0.9100 0.8500 undefined 0.9100 0.0100 -0.0100 0.0200 0.8000"
    assert next(line for line in text if line.startswith("b ")).split() == ["b", "0.500", "undefined"]
    assert "chosen: convex, because you asked for it (a value that was chosen for is slightly optimistic)" in text
    assert text[-1] == "weights  a 0.250  b 0.750"

"""Cases: by hand, for each kind of task."""

import numpy as np
import pandas as pd
import pytest

from kit.config import BoxSettings
from kit.decisions import BoxDecision, BoxRule, Calibration, ClassFactors, Decision, Threshold
from kit.errors import ConfigError
from kit.evaluate.cases import COLUMNS, KINDS, choose, choose_all, judge, named


def decision(labels, task, cut=0.3, **more):
    rule = {"rule": "f1", "on_the_rows_that_chose_it": {}, "cross_validated": None}
    thresholds = {label: Threshold(threshold=cut, **rule) for label in labels}
    return Decision(task=task, labels=labels, views="none", calibration=Calibration(), thresholds=thresholds, **more)


def tables(p, y, labels):
    ids = [f"i{n}" for n in range(len(p))]
    oof = pd.DataFrame(
        {
            "id": ids,
            "fold": 0,
            **{f"p_{label}": np.float32(v) for label, v in zip(labels, np.transpose(p), strict=True)},
        }
    )
    truth = {f"y_{label}": np.float32(v) for label, v in zip(labels, np.transpose(y), strict=True)}
    return oof, pd.DataFrame({"id": ids, **truth})


@pytest.fixture
def binary():
    p, y = [[0.9], [0.1], [0.35], [0.29], [0.05], [0.6]], [[1], [0], [0], [1], [1], [np.nan]]
    return judge(*tables(p, y, ["tumour"]), decision(("tumour",), "binary"))


def ids(judged, kind, count=None, seed=0):
    return list(choose(judged, kind, count, seed)["id"])


def test_binary(binary):
    assert ids(binary, "worst") == ["i4", "i3", "i2", "i0", "i1"]  # -ln .05, .29, .65, .9, .9
    assert ids(binary, "best", 3) == ["i0", "i1", "i3"]  # tumour, not tumour, tumour
    assert ids(binary, "unsure", 2) == ["i3", "i2"]  # i5, whose truth is unknown, is farther
    assert ids(binary, "false positive") == ["i2"]
    assert ids(binary, "false negative") == ["i4", "i3"]  # the surest first
    table = choose(binary, "worst", 1)
    assert list(table) == list(COLUMNS)
    assert table.iloc[0].to_dict() == {
        "id": "i4",
        "label": "tumour",
        "truth": "tumour",
        "decision": "not tumour",
        "p": np.float64(np.float32(0.05)),
        "kind": "worst",
    }
    row = binary[binary["id"] == "i5"].iloc[0]
    assert row["truth"] is None
    assert np.isnan(row["loss"])


def test_random_is_seeded_and_holds_each_image_once(binary):
    first = ids(binary, "random")
    assert sorted(first) == [f"i{n}" for n in range(6)]
    assert first == ids(binary, "random") != ids(binary, "random", seed=1)


def test_classes():
    labels = ("a", "b", "c")
    p = [[0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7]]
    y = [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    judged = judge(
        *tables(p, y, labels), decision(labels, "multiclass", classes=ClassFactors(balanced_accuracy_of_argmax=1.0))
    )
    worst = choose(judged, "worst")
    assert worst[["id", "label", "truth", "decision"]].to_numpy().tolist() == [
        ["i2", "c", "a", "c"],
        ["i1", "a", "b", "a"],
        ["i0", "a", "a", "a"],
    ]
    assert ids(judged, "unsure") == ["i1", "i0", "i2"]  # margins .05, .3, .5
    assert choose(judged, "false negative")[["id", "label"]].to_numpy().tolist() == [["i2", "a"], ["i1", "b"]]
    factors = ClassFactors(factors={"a": 1.0, "b": 2.0, "c": 1.0}, applied=True, balanced_accuracy_of_argmax=1.0)
    weighed = judge(*tables(p, y, labels), decision(labels, "multiclass", classes=factors))
    assert weighed[weighed["id"] == "i1"]["decision"].iloc[0] == "b"


def test_several_labels():
    labels = ("x", "y")
    p, y = [[0.92, 0.2], [0.8, 0.6], [0.1, 0.1]], [[0, 0], [1, 1], [1, np.nan]]
    judged = judge(*tables(p, y, labels), decision(labels, "multilabel"))
    assert choose(judged, "worst")[["id", "label", "truth"]].to_numpy().tolist() == [
        ["i0", "x", "not x"],
        ["i2", "x", "x"],
        ["i1", "y", "y"],
    ]
    assert ids(judged[judged["label"] == "y"], "worst") == ["i1", "i0"]


def test_boxes():
    rule = BoxRule(cut=0.5, on_the_images_that_chose_it=1.0)
    rules = BoxDecision(
        task="detection",
        labels=("mass",),
        views="none",
        merge=BoxSettings(),
        rules={"mass": rule},
        on_the_images_that_chose_it=1.0,
        nested=1.0,
    )
    box, away = [0, 0, 10, 10], [50, 50, 10, 10]
    rows = {  # id -> true boxes, boxes that were found, their scores
        "hit": ([box], [box], [0.9]),
        "missed": ([box], [box], [0.4]),
        "false": ([], [away], [0.8]),
        "nothing": ([], [], []),
        "both": ([box], [away], [0.7]),
    }
    true, found, scores = zip(*rows.values(), strict=True)
    examples = pd.DataFrame({"id": [*rows], "boxes": true, "y_mass": [np.float32(bool(each)) for each in true]})
    names = [["mass"] * len(each) for each in scores]
    oof = pd.DataFrame({"id": [*rows], "fold": 0, "boxes": found, "box_scores": scores, "box_labels": names})
    judged = judge(oof, examples, rules)
    assert judged.set_index("id")["loss"].round(6).to_dict() == {
        "hit": 0.1,
        "missed": 1.0,
        "false": 0.8,
        "nothing": 0.0,
        "both": 1.7,
    }
    assert ids(judged, "worst", 2) == ["both", "missed"]
    assert ids(judged, "best", 2) == ["hit", "nothing"]
    assert ids(judged, "false positive") == ["false"]
    assert ids(judged, "false negative") == ["missed"]
    assert ids(judged, "unsure", 1) == ["missed"]


def test_several_kinds_and_names(binary):
    assert tuple(KINDS) == ("worst", "best", "unsure", "random", "false positive", "false negative")
    both = choose_all(binary, {"worst": 2, "false negative": 2, "best": 1})
    assert both[["id", "kind"]].to_numpy().tolist() == [["i4", "worst"], ["i3", "worst"], ["i0", "best"]]
    assert list(choose_all(binary, {})) == list(COLUMNS)
    assert list(named(binary, ["i2", "no", "i1"])["id"]) == ["i2", "i1"]
    with pytest.raises(ConfigError, match=r"unknown kind of case 'wurst'.*worst"):
        choose(binary, "wurst")

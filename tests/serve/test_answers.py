"""What a reader is told of a row of predictions."""

from types import SimpleNamespace

import pytest

from kit.config.predict import BoxSettings
from kit.decisions import BoxDecision, BoxRule, Calibration, ClassFactors, Decision, Threshold
from kit.schemas import LabelScore
from kit.serve.answers import Row, answer, how_good, likelihood, percent

# Of the images scored around .2, 1 of 10 had it; around .8, 9 of 10; the last group is too small to stand alone.
BARS = {"rows": [100, 200, 10], "predicted": [0.2, 0.8, 0.99], "observed": [0.1, 0.9, 1.0]}


def threshold(cut):
    nested = {"recall": 0.9, "specificity": 0.8}
    return Threshold(rule="f1", threshold=cut, on_the_rows_that_chose_it=nested, cross_validated=nested)


def decision(labels, cuts=None, classes=None):
    thresholds = {name: threshold(cut) for name, cut in zip(labels, cuts or [0.4] * len(labels), strict=True)}
    task = {"task": "binary", "labels": labels, "views": "none", "calibration": Calibration()}
    return Decision(**task, thresholds=thresholds, classes=classes)


def scores(*labels, bars=BARS):
    reliability = dict.fromkeys(labels, bars)
    return SimpleNamespace(calibration=SimpleNamespace(reliability=reliability), accuracy=0.843)


def said(decision, p, name, raw=None):
    sent = {f"p_{label}": value for label, value in p.items()}
    raw = sent if raw is None else {f"p_{label}": value for label, value in raw.items()}
    return answer(decision, scores(*p), Row(raw, {**sent, "decision": name}, True), (10, 10))


def test_a_label_is_told_with_its_cut_and_what_was_observed():
    content = said(decision(["tumour"]), {"tumour": 0.75}, "tumour")
    (label,) = content["labels"]
    assert (label["probability"], label["cut"], label["present"]) == (0.75, 0.4, True)
    assert (label["of_100"], label["images"], label["likelihood"]) == (90, 200, "very likely")
    assert label["meaning"].startswith("Of 100 training images scored like this one, 90 had tumour (there are 200,")
    assert (
        content["sentence"].replace("\u00a0", " ") == "The probability of tumour is 75 %, at or above the cut of 40 %."
    )


def test_the_nearest_group_is_that_of_the_raw_probability():
    assert said(decision(["a"]), {"a": 0.75}, "a", raw={"a": 0.25})["labels"][0]["of_100"] == 10


def test_a_small_group_is_taken_with_the_next():
    (label,) = said(decision(["a"]), {"a": 0.999}, "a")["labels"]
    assert (label["of_100"], label["images"]) == (90, 210)  # (10 + 180) of 210


@pytest.mark.parametrize("bars", [{}, {"rows": [10], "predicted": [0.9], "observed": [0.2]}])
def test_of_few_images_nothing_is_said(bars):
    row = Row({"p_a": 0.999}, {"p_a": 0.999, "decision": "a"}, False)
    (label,) = answer(decision(["a"]), scores("a", bars=bars), row, (10, 10))["labels"]
    assert (label["of_100"], label["meaning"], label["likelihood"]) == (None, "", "virtually certain")


def test_several_labels():
    content = said(decision(["a", "b"]), {"a": 0.5, "b": 0.1}, "a")
    assert [label["present"] for label in content["labels"]] == [True, False]
    assert content["sentence"] == "At or above their cuts: a."
    assert said(decision(["a", "b"]), {"a": 0.1, "b": 0.1}, "none")["sentence"] == "No label is at or above its cut."


def test_classes_have_no_cuts():
    classes = ClassFactors(balanced_accuracy_of_argmax=0.8)
    content = said(decision(["a|b", "c"], classes=classes), {"a|b": 0.3, "c": 0.7}, "c")
    assert [(label["present"], label["cut"]) for label in content["labels"]] == [(False, None), (True, None)]
    of_100 = "Of 100 training images, 84 were decided on rightly by models that had not seen them."
    assert how_good(decision(["a", "b"], classes=classes), scores("a")) == [of_100]


def test_a_class_whose_name_has_the_mark_that_joins_labels():
    classes = ClassFactors(balanced_accuracy_of_argmax=0.8)
    content = said(decision(["a|b", "c"], classes=classes), {"a|b": 0.7, "c": 0.3}, "a|b")
    assert [label["present"] for label in content["labels"]] == [True, False]


def test_what_the_cut_was_worth():
    (sentence,) = how_good(decision(["tumour"]), scores("tumour"))
    assert "90 of 100 training images with tumour" in sentence and "20 of 100 without it" in sentence


def test_boxes_are_in_pixels_and_in_shares():
    rule = BoxRule(cut=0.5, fused_cut=0.3, on_the_images_that_chose_it=0.1)
    worth = {"on_the_images_that_chose_it": 0.1, "nested": 0.1}
    made = BoxDecision(
        task="detection", labels=["mass"], views="none", merge=BoxSettings(), rules={"mass": rule}, **worth
    )
    limits = LabelScore(value=0.25, low=0.1, high=0.4)
    report = SimpleNamespace(labels={"mass": {"precision": limits, "recall": limits}})
    row = {"boxes": [[10, 20, 30, 40]], "box_scores": [0.6], "decision": "mass"}
    content = answer(made, SimpleNamespace(report=report, rows=80), Row({}, row, True), (100, 200))
    assert content["boxes"] == [
        {"label": "mass", "score": 0.6, "x": 10, "y": 20, "width": 30, "height": 40, "shares": [0.1, 0.1, 0.3, 0.2]}
    ]
    assert content["labels"][0]["cut"] == 0.3 and content["labels"][0]["probability"] == 0.6
    assert "25 were right" in content["labels"][0]["meaning"] and content["sentence"] == "1 box found."
    none = Row({}, {"boxes": [], "box_scores": [], "decision": "not mass"}, False)
    content = answer(made, SimpleNamespace(report=report, rows=80), none, (100, 200))
    assert (content["sentence"], content["labels"][0]["probability"]) == ("No box found.", None)
    assert content["labels"][0]["cut"] == 0.5  # of a single model


@pytest.mark.parametrize(
    ("p", "text", "words"),
    [
        (0.0, "less than 1 %", "exceptionally unlikely"),
        (0.87, "87 %", "likely"),
        (0.9, "90 %", "very likely"),
        (0.5, "50 %", "about as likely as not"),
        (0.9999, "more than 99 %", "virtually certain"),
    ],
)
def test_probabilities_in_words(p, text, words):
    assert percent(p).replace("\u00a0", " ") == text and likelihood(p) == words

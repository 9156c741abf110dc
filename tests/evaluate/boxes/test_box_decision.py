from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kit.boxes import Boxes, joined, nothing
from kit.config import BoxSettings, EvaluateSettings
from kit.decisions import BoxDecision, BoxRule
from kit.errors import DataError
from kit.evaluate.boxes.decision import (
    GATES,
    SHRINKS,
    Judged,
    apply,
    best_cut,
    decide,
    shrunk,
    value_of,
    with_fused_cuts,
)
from kit.evaluate.boxes.merging import fuse, merge
from kit.evaluate.boxes.metrics import per_image
from tests.evaluate.boxes.seen import scattered, seen

SETTINGS = EvaluateSettings(resamples=200)
MERGE = BoxSettings(iou=0.4)


def world(seed=0, images=80, labels=1, **errors):
    """True boxes in less than half of the images, and predictions of them."""
    rng = np.random.default_rng(seed)
    truth = scattered(rng, images, 3, labels)
    truth = truth.where(rng.random(images)[truth.image] < 0.5)
    return truth, seen(rng, truth, **errors)


def judged(truth, folds=4, seed=0):
    fold = np.random.default_rng(seed).permutation(truth.images) % folds
    return Judged(truth, fold, np.arange(truth.images))


def decided(truth, predictions, labels=("a",), gate=None, **more):
    return decide(judged(truth, **more), predictions, "detection", labels, "none", MERGE, SETTINGS, gate)


def test_the_best_cut_by_hand():
    # Image 0: one of two boxes is right. Image 1 has none, image 2 is missed. Thresholds .4 to .75: iou 1 hits all.
    truth = Boxes(3, np.array([0, 2]), np.array([[0, 0, 4, 4], [0, 0, 4, 4.0]]), np.zeros(2, int), np.ones(2))
    right, wrong = [0, 0, 4, 4.0], [8, 8, 4, 4.0]
    predictions = Boxes(
        3, np.array([0, 0, 1]), np.array([right, wrong, wrong]), np.zeros(3, int), np.array([0.9, 0.6, 0.3])
    )
    cut = best_cut(Judged(truth, np.array([0, 1, 1]), np.arange(3)), predictions)
    # From .6: (1/2 + 0) / 2; from .9: (1 + 0) / 2, image 1 is left out. Half way between .9 and .6 is .75.
    assert (cut.score, cut.value) == (0.75, 0.5)
    # Without fold 1, image 0 alone chooses .75 too; without fold 0 all cuts are worth 0, and the largest is taken.
    assert cut.others.tolist() == [0, 1]
    assert cut.nested == pytest.approx([1, np.nan, 0], nan_ok=True)


@given(st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_best_cut_is_what_it_says(seed):
    truth, predictions = world(seed, images=40)
    rows = judged(truth)
    cut = best_cut(rows, predictions)
    kept = predictions.where(predictions.score >= cut.score)
    assert cut.value == pytest.approx(np.nanmean(per_image(truth, kept)))
    for other in np.linspace(0.05, 0.95, 10):  # few boxes: nearly every cut was tried
        values = per_image(truth, predictions.where(predictions.score >= other))
        assert np.isnan(values).all() or np.nanmean(values) <= cut.value + 0.02
    for n, k in enumerate(np.unique(rows.fold)):
        others = np.flatnonzero(rows.fold != k)
        part = Judged(truth.of_images(others), rows.fold[others], others)
        of_others = best_cut(part, predictions.of_images(others))
        assert cut.others[n] <= of_others.value + 0.02


def test_a_cut_is_chosen_without_the_fold_it_judges():
    truth, predictions = world(3)
    rows = judged(truth)
    before = best_cut(rows, predictions)
    swapped = replace(
        predictions, score=np.where(rows.fold[predictions.image] == 1, 1 - predictions.score, predictions.score)
    )
    after = best_cut(rows, swapped)  # the boxes of fold 1 alone are others
    assert after.others[1] == pytest.approx(before.others[1], abs=0.02)  # the cuts that are tried move a little


def test_shrunk_around_the_centre():
    boxes = Boxes(1, np.zeros(2, int), np.array([[10, 20, 40, 80], [0, 0, 1, 1.0]]), np.zeros(2, int), np.ones(2))
    assert shrunk(boxes, 0.5).xywh.tolist() == [[20, 40, 20, 40], [0.25, 0.25, 0.5, 0.5]]
    assert shrunk(boxes, np.array([0.875, 1])).xywh.tolist() == [[12.5, 25, 35, 70], [0, 0, 1, 1]]


def test_the_value_over_labels():
    assert value_of(np.array([[1, np.nan, np.nan], [0, 1, np.nan]])) == 0.75
    assert np.isnan(value_of(np.full((2, 2), np.nan)))


def test_boxes_that_are_too_large_are_shrunk():
    truth, predictions = world(1, 150, grown=1 / 0.85, misses=0.1, false=0.1)
    decision = decided(truth, predictions)
    rule = decision.rules["a"]
    assert 0.8 <= rule.shrink <= 0.9 and rule.gate == 0
    assert rule.strategies["shrink"].sure and rule.strategies["shrink"].gain_low > 0.02
    assert decision.nested == rule.nested == rule.strategies["shrink"].nested
    sent = apply(decision, predictions)
    assert np.nanmean(per_image(truth, sent)) == pytest.approx(decision.on_the_images_that_chose_it)
    good = decided(*world(1, 150, misses=0.1, false=0.1))
    assert good.rules["a"].shrink == 1


def test_a_good_classifier_is_a_gate():
    truth, predictions = world(2, 150, false=1)
    has_box = np.bincount(truth.image, minlength=150) > 0
    p = np.where(has_box, 0.9, 0.05)[:, None]
    decision = decided(truth, predictions, gate=p)
    rule = decision.rules["a"]
    assert rule.gate > 0 and rule.strategies["gate"].gain_low > 0.02 and rule.nested > rule.strategies["cut"].nested
    sent = apply(decision, predictions, p)
    assert np.nanmean(per_image(truth, sent)) == pytest.approx(decision.on_the_images_that_chose_it)
    weighed = predictions.score * p[predictions.image, 0] ** rule.gate
    assert sorted(sent.score) == pytest.approx(sorted(weighed[weighed >= rule.cut]))
    with pytest.raises(DataError, match="probabilities of a classification run: there are none"):
        apply(decision, predictions)
    assert decided(truth, predictions).rules["a"].gate == 0


def test_each_label_has_a_rule_of_its_own():
    truth, good = world(4, 120, false=0.1)
    large, bad = world(5, 120, grown=1.25, false=0.1)

    def both(first, second):
        return joined([first, replace(second, label=np.ones_like(second.label))])

    decision = decided(both(truth, large), both(good, bad), ("a", "b"))
    alone = [decided(truth, good), decided(large, bad)]
    assert [decision.rules[label] for label in "ab"] == [one.rules["a"] for one in alone]
    assert decision.rules["a"].shrink == 1 > decision.rules["b"].shrink
    assert decision.nested == pytest.approx(np.mean([one.nested for one in alone]))
    sent, expected = apply(decision, both(good, bad)), both(*map(apply, alone, (good, bad)))
    order = [np.lexsort((*boxes.xywh.T, boxes.image)) for boxes in (sent, expected)]
    for name in ("image", "label", "xywh", "score"):
        assert getattr(sent, name)[order[0]] == pytest.approx(getattr(expected, name)[order[1]])


def test_no_box_of_a_label_and_a_single_fold():
    truth, predictions = world(0, 40)
    none = decided(truth, nothing(40))
    assert none.nested == 0 and len(apply(none, predictions)) == 0  # nothing was good enough out of fold
    never = decided(nothing(40), predictions)
    assert never.nested in (0, None)
    alone = decided(truth, predictions, folds=1)
    assert alone.nested is None and alone.on_the_images_that_chose_it > 0.1 and alone.rules["a"].strategies == {}


def test_decisions_are_files():
    truth, predictions = world(0, 40)
    decision = decided(truth, predictions, gate=np.full((40, 1), 0.5))
    text = decision.model_dump_json(exclude_unset=True)
    assert '"at_most":20' in text  # also what is a default today
    again = BoxDecision.model_validate_json(text)
    assert again == decision and again.as_json() == decision.as_json()
    values = {**decision.as_json(), "labels": ["a", "b"]}
    with pytest.raises(ValidationError, match="a rule for each label"):
        BoxDecision.model_validate(values)
    for cut, shrink in ((float("nan"), 1), (0.5, 0)):
        with pytest.raises(ValidationError):
            BoxRule(cut=cut, shrink=shrink, on_the_images_that_chose_it=None)


def test_noise_shows_no_nested_gain():
    gains, optimism, surely = [], [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = scattered(rng, 60, 3, 1)
        decision = decided(truth, scattered(rng, 60, 4, 1), gate=rng.random((60, 1)), seed=seed)
        rule = decision.rules["a"]
        others = {name: score for name, score in rule.strategies.items() if name != "cut"}
        gains.append([score.gain for score in others.values()])
        optimism.append([score.optimistic - rule.strategies["cut"].optimistic for score in others.values()])
        surely.append(any(score.sure for score in others.values()))
        assert rule.shrink in SHRINKS and rule.gate in GATES
        assert surely[-1] or (rule.shrink, rule.gate) == (1, 0)
    gains = np.array(gains)
    assert (gains.mean(axis=0) < 2 * gains.std(axis=0, ddof=1) / np.sqrt(len(gains)) + 1e-9).all()
    assert np.mean(optimism) > 0.0005  # which the images that chose it do show
    assert np.mean(surely) <= 0.125


def test_the_cut_of_fused_boxes_keeps_as_many_as_folds_do():
    row = np.zeros(4, int)
    xywh = np.array([[0, 0, 1, 1], [2, 0, 1, 1], [4, 0, 1, 1], [6, 0, 1, 1.0]])
    of_fold = [Boxes(1, row, xywh, row, np.array(scores)) for scores in ([0.9, 0.8, 0.3, 0.1], [0.9, 0.2, 0.6, 0.55])]
    fused = Boxes(1, row, xywh, row, np.array([0.9, 0.35, 0.25, 0.15]))
    decision = BoxDecision(
        task="detection",
        labels=("a",),
        views="none",
        merge=MERGE,
        rules={"a": BoxRule(cut=0.5, on_the_images_that_chose_it=None)},
        on_the_images_that_chose_it=None,
        nested=None,
    )
    again = with_fused_cuts(decision, of_fold, fused)  # 2 and 3 boxes are kept, of the mean 2.5 an even number
    assert again.rules["a"].fused_cut == pytest.approx(0.3)
    assert apply(again, fused, fused=True).score.tolist() == [0.9, 0.35] and apply(again, fused).score.tolist() == [0.9]
    assert BoxDecision.model_validate(again.as_json()) == again
    assert with_fused_cuts(decision, of_fold[:1], of_fold[0]).rules["a"].fused_cut is None
    assert with_fused_cuts(decision, [nothing(1)] * 2, nothing(1)).rules["a"].fused_cut is None
    every = with_fused_cuts(decision, [of_fold[1]] * 2, fused.where(np.arange(2)))
    assert len(apply(every, fused.where(np.arange(2)), fused=True)) == 2


@pytest.mark.parametrize("how", ["nms", "wbf"])
def test_fused_boxes_are_worth_more_at_a_cut_of_their_own(how):
    truth, _ = world(0, 300)
    rng, chosen = np.random.default_rng(0), BoxSettings(merge=how)
    runs = [
        merge(joined([seen(rng, truth, jitter=0.08), seen(rng, truth, misses=1, false=1)]), chosen) for _ in range(5)
    ]
    rows = judged(truth, folds=5)
    oof = joined([run.where(rows.fold[run.image] == k) for k, run in enumerate(runs)])
    decision = decided(truth, oof, folds=5)
    fused = fuse(runs, chosen)
    again = with_fused_cuts(decision, runs, fused)
    plain, own = (np.nanmean(per_image(truth, apply(again, fused, fused=which))) for which in (False, True))
    best = best_cut(rows, shrunk(fused, again.rules["a"].shrink)).value
    assert own > plain + 0.02 and own > best - 0.03

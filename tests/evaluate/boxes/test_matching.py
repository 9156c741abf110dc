import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import iou, nothing
from kit.evaluate.boxes.matching import by_label, match
from tests.evaluate.boxes.made import boxes_of, drawn


def test_by_hand():
    truth = boxes_of([(0, 0, 10, 10), (20, 0, 10, 10)], [], [(0, 0, 4, 4)])
    # The first image's, by score: the right half of the second true box and as much beside it (IoU 50 / 150), the first
    # true box but for a tenth (.9), the same box again, for which none is left.
    predictions = boxes_of([(0, 0, 9, 10, 0.5), (25, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.4)], [(0, 0, 4, 4, 0.7)], [])
    matches = match(truth, predictions, [0.3, 0.5])
    assert matches.image.tolist() == [0, 0, 0, 1]
    assert matches.rank.tolist() == [0, 1, 2, 0]
    assert matches.score.tolist() == [0.9, 0.5, 0.4, 0.7]
    assert matches.hit.tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert matches.iou == pytest.approx([1 / 3, 0.9, 0, 0])
    assert matches.true.tolist() == [2, 0, 1]


def test_a_box_takes_the_best_of_the_true_ones_that_are_left():
    truth = boxes_of([(0, 0, 10, 10), (2, 0, 10, 10)])
    # Both predictions are the second true box, nearly. The first one takes it; the other one is left the first.
    predictions = boxes_of([(2, 0, 10, 9, 0.8), (2, 0, 10, 10, 0.6)])
    matches = match(truth, predictions, [0.4, 0.7])
    assert matches.hit.tolist() == [[True, True], [True, False]]
    assert matches.iou == pytest.approx([0.9, 80 / 120])


def test_a_box_of_another_label_is_no_hit():
    truth, predictions = boxes_of([(0, 0, 4, 4, 1, 1)]), boxes_of([(0, 0, 4, 4, 0.9, 0), (0, 0, 4, 4, 0.8, 1)])
    assert match(truth, predictions, [0.5]).hit[:, 0].tolist() == [False, True]
    assert [(len(t), len(p)) for t, p in by_label(truth, predictions)] == [(0, 1), (1, 1)]
    assert [(len(t), len(p)) for t, p in by_label(truth, predictions, 3)] == [(0, 1), (1, 1), (0, 0)]
    assert [(len(t), len(p)) for t, p in by_label(nothing(2), nothing(2))] == [(0, 0)]


def test_an_overlap_at_the_threshold_is_not_above_it():
    truth = boxes_of([(0, 0, 10, 10)])
    for iou_, width in ((0.4, 4.0), (0.45, 4.5), (0.7, 7.0)):
        for unit in (1.0, 0.1, 1 / 3, 1 / 1024, 1 / 7):  # rounding differs with the unit
            scaled = np.array([[unit, unit]])
            exact = boxes_of([(0, 0, width, 10, 0.9)]).scaled(scaled)
            more = boxes_of([(0, 0, width + 1e-6, 10, 0.9)]).scaled(scaled)
            assert not match(truth.scaled(scaled), exact, [iou_]).hit.any(), (iou_, unit)
            assert match(truth.scaled(scaled), more, [iou_]).hit.all()
    assert match(truth, boxes_of([(0, 0, 5, 10, 0.9)]), [0.5], inclusive=True).hit.all()


def test_any_overlap_is_above_0():
    truth, predictions = boxes_of([(0, 0, 1000, 1000)]), boxes_of([(999, 999, 1000, 1000, 0.9), (1000, 0, 5, 5, 0.8)])
    assert match(truth, predictions, [0.0]).hit[:, 0].tolist() == [True, False]


def test_no_boxes():
    box = boxes_of([(0, 0, 4, 4, 0.5)])
    assert match(nothing(1), nothing(1), [0.5]).hit.shape == (0, 1)
    assert match(nothing(1), box, [0.5]).hit.tolist() == [[False]]
    assert match(box, nothing(1), [0.5]).true.tolist() == [1]


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="the truth is of 2 images, the predictions are of 1"):
        match(nothing(2), nothing(1), [0.5])


def slow(truth, predictions, threshold, inclusive):
    """Which predictions, in the order of scores, are hits: image after image, one box after the other."""
    hits = []
    for image in range(truth.images):
        free = [n for n in range(len(truth)) if truth.image[n] == image]
        for p in sorted(np.flatnonzero(predictions.image == image), key=lambda n: -predictions.score[n]):
            best, place = -1.0, None
            for n in free:
                overlap = iou(predictions.xywh[[p]], truth.xywh[[n]])[0, 0]
                enough = overlap >= threshold if inclusive else overlap > threshold + 1e-12
                if truth.label[n] == predictions.label[p] and enough and overlap >= best:
                    best, place = overlap, n
            hits.append(place is not None)
            if place is not None:
                free.remove(place)
    return hits


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_all_images_at_once_are_one_after_the_other(seed, inclusive):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 5, 4, labels=2), drawn(rng, 5, 7, labels=2, scores=4)
    thresholds = (0.2, 0.25, 0.5)
    matches = match(truth, predictions, thresholds, inclusive)
    for column, threshold in zip(matches.hit.T, thresholds, strict=True):
        assert column.tolist() == slow(truth, predictions, threshold, inclusive)
    assert (np.bincount(matches.image, matches.hit[:, 0], 5) <= matches.true).all()
    assert ((matches.iou > 0) == matches.hit[:, 0]).all()


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_boxes_below_a_cut_change_nothing_above_it(seed):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 5, 3), drawn(rng, 5, 6, scores=6)
    whole = match(truth, predictions, [0.3, 0.6])
    whole = whole.where(whole.score >= 0.5)
    parts = match(truth, predictions.where(predictions.score >= 0.5), [0.3, 0.6])
    assert whole.hit.tolist() == parts.hit.tolist() and whole.rank.tolist() == parts.rank.tolist()

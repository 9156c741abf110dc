import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import Boxes, nothing, stacked
from kit.evaluate.boxes.metrics import (
    FALSE_POSITIVES,
    box_ap,
    box_ap50,
    counts_of,
    froc,
    per_image,
    per_image_at,
    rsna_mean_average_precision,
)
from tests.evaluate.boxes.made import boxes_of, drawn

NAN = float("nan")
TEN = (0, 0, 10, 10)  # the true box of most cases by hand


def part(share, score=0.9, x=0):
    """A box that overlaps TEN (moved by x) by this share, which is the IoU, since it lies inside."""
    return (x, 0, 10 * share, 10, score)


def test_rsna_by_hand():
    truth = boxes_of([TEN], [TEN, (20, 0, 10, 10)], [], [], [TEN])
    predictions = boxes_of(
        [part(0.62)],  # a hit at .4, .45, .5, .55, .6: 5 of the 8 thresholds
        [part(1), part(1, 0.8), part(0.5, 0.7, x=20)],  # TP 2, FP 1, FN 0 at .4, .45; above TP 1, FP 2, FN 1
        [],  # nothing to find, nothing found: left out
        [part(1)],  # a false alarm
        [],  # missed
    )
    second = (2 * 2 / 3 + 6 * 1 / 4) / 8
    assert per_image(truth, predictions) == pytest.approx([5 / 8, second, NAN, 0, 0], nan_ok=True)
    assert rsna_mean_average_precision(truth, predictions) == pytest.approx((5 / 8 + second) / 4)
    assert rsna_mean_average_precision(truth, predictions, "one") == pytest.approx((5 / 8 + second + 1) / 5)
    assert rsna_mean_average_precision(truth, predictions, "zero") == pytest.approx((5 / 8 + second) / 5)


def test_rsna_at_its_own_thresholds_and_just_above():
    truth = boxes_of([TEN])
    for hits, threshold in enumerate((0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)):
        assert per_image(truth, boxes_of([part(threshold)]))[0] == hits / 8
        assert per_image(truth, boxes_of([part(threshold + 1e-6)]))[0] == (hits + 1) / 8


def test_rsna_of_several_labels_is_the_mean_of_each():
    truth = boxes_of([TEN], [(*TEN, 1, 1)], [])
    predictions = boxes_of([part(1)], [(*part(0.62), 1)], [(*part(1), 1), (*part(1), 2)])
    # Label 0: 1 in one image. Label 1: 5/8 in one, 0 in the one of the false alarm. Label 2: a false alarm, 0.
    assert rsna_mean_average_precision(truth, predictions) == pytest.approx((1 + 5 / 16 + 0) / 3)
    assert rsna_mean_average_precision(truth, predictions.where(predictions.label < 2)) == pytest.approx(
        (1 + 5 / 16) / 2
    )


def test_without_any_box():
    assert np.isnan(rsna_mean_average_precision(nothing(3), nothing(3)))
    assert rsna_mean_average_precision(nothing(3), nothing(3), "one") == 1
    assert rsna_mean_average_precision(nothing(1), boxes_of([part(1)])) == 0
    assert rsna_mean_average_precision(boxes_of([TEN]), nothing(1)) == 0
    assert np.isnan(rsna_mean_average_precision(nothing(0), nothing(0)))
    assert np.isnan(box_ap(nothing(1), boxes_of([part(1)])))
    assert box_ap(boxes_of([TEN]), nothing(1)) == 0
    assert np.isnan(froc(nothing(1), boxes_of([part(1)]))).all()
    assert froc(boxes_of([TEN]), nothing(1)).tolist() == [0] * 8


def slow_rsna(truth, predictions, empty):
    """The competition's page, in loops: each image's value, None where it does not count."""
    values = []
    for image in range(truth.images):
        true = [tuple(map(float, box)) for box in truth.xywh[truth.image == image]]
        own = predictions.image == image
        ranked = sorted(zip(predictions.score[own], predictions.xywh[own], strict=True), key=lambda pair: -pair[0])
        if not true and not ranked:
            values.append({"left_out": None, "one": 1.0, "zero": 0.0}[empty])
            continue
        precisions = []
        for percent in range(40, 80, 5):
            left, tp, fp = list(true), 0, 0
            for _, (x, y, w, h) in ranked:
                overlaps = []
                for a, b, c, d in left:
                    shared = max(0.0, min(x + w, a + c) - max(x, a)) * max(0.0, min(y + h, b + d) - max(y, b))
                    union = w * h + c * d - shared
                    overlaps.append(shared / union if 100 * shared > percent * union else 0.0)
                if any(overlaps):
                    tp += 1
                    left.pop(max(range(len(left)), key=lambda n: (overlaps[n], n)))
                else:
                    fp += 1
            precisions.append(tp / (tp + fp + len(left)))
        values.append(sum(precisions) / len(precisions))
    return values


@given(st.integers(0, 10**6), st.sampled_from(["left_out", "one", "zero"]))
@settings(max_examples=60, deadline=None)
def test_rsna_is_the_slow_implementation(seed, empty):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 6, 3), drawn(rng, 6, 5, scores=4)
    expected = slow_rsna(truth, predictions, empty)
    assert per_image(truth, predictions, empty) == pytest.approx(
        [NAN if value is None else value for value in expected], nan_ok=True
    )
    counted = [value for value in expected if value is not None]
    mean = sum(counted) / len(counted) if counted else NAN
    assert rsna_mean_average_precision(truth, predictions, empty) == pytest.approx(mean, nan_ok=True)


@given(st.integers(0, 10**6), st.sampled_from(["left_out", "one", "zero"]))
@settings(max_examples=60, deadline=None)
def test_many_cuts_at_once_are_one_after_the_other(seed, empty):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 6, 3), drawn(rng, 6, 5, scores=4)

    def kept(cut):
        return predictions.where(predictions.score >= cut)

    cuts = [0.5, 2.0, 0.25, 0.6, 0.0, 0.5]
    each = np.column_stack([per_image(truth, kept(cut), empty) for cut in cuts])
    assert per_image_at(cuts, truth, predictions, empty) == pytest.approx(each, nan_ok=True)


def test_cuts_by_hand():
    truth = boxes_of([TEN], [TEN], [])
    predictions = boxes_of([part(1, 0.9)], [part(1, 0.5)], [part(1, 0.7)])
    values = np.nanmean(per_image_at([1.0, 0.9, 0.7, 0.5], truth, predictions), axis=0)
    # Nothing; one hit of two positives; then the false alarm counts, too; then the second hit.
    assert values == pytest.approx([0, 1 / 2, 1 / 3, 2 / 3])


def test_average_precision_by_hand():
    truth = boxes_of([TEN, (20, 0, 10, 10)], [TEN], [])
    predictions = boxes_of([part(1, 0.9), part(0.6, 0.5, x=20)], [part(0.2, 0.8)], [part(1, 0.7)])
    # By score: hit, miss, miss, hit (at .5, .55 and .6 alone). Recall 1/3 at precision 1, 2/3 at 2/4, 1 never: recalls
    # of 0 to .33 (34 of the 101) count 1, those of .34 to .66 (33) count 1/2.
    assert box_ap50(truth, predictions) == pytest.approx((34 + 33 / 2) / 101)
    assert box_ap(truth, predictions) == pytest.approx((3 * (34 + 33 / 2) + 7 * 34) / 10 / 101)


def coco(boxes, labels, predicted):
    """The same boxes as pycocotools has them."""
    from pycocotools.coco import COCO

    dataset = COCO()
    dataset.dataset = {
        "info": {},
        "images": [{"id": n + 1} for n in range(boxes.images)],
        "categories": [{"id": n + 1, "name": str(n)} for n in range(labels)],
        "annotations": [
            {
                "id": n + 1,
                "image_id": int(boxes.image[n]) + 1,
                "category_id": int(boxes.label[n]) + 1,
                "bbox": boxes.xywh[n].tolist(),
                "area": float(boxes.xywh[n, 2] * boxes.xywh[n, 3]),
                "iscrowd": 0,
                **({"score": float(boxes.score[n])} if predicted else {}),
            }
            for n in range(len(boxes))
        ],
    }
    dataset.createIndex()
    return dataset


def cocos(truth, predictions, labels):
    """AP and AP50 of pycocotools; NaN where it says -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        true, predicted = coco(truth, labels, False), coco(predictions, labels, True)
        from pycocotools.cocoeval import COCOeval

        evaluation = COCOeval(true, predicted, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [NAN if value < 0 else value for value in evaluation.stats[:2]]


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_average_precision_is_pycocotools(seed, labels):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 8, 4, labels=labels), drawn(rng, 8, 9, labels=labels, scores=5)
    expected = cocos(truth, predictions, labels)
    assert [box_ap(truth, predictions), box_ap50(truth, predictions)] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_average_precision_looks_at_100_boxes_an_image_as_pycocotools():
    # All 150 are found, but only 100 are looked at: recalls of 0 to .66, of which there are 67, at a precision of 1.
    places = [(10 * n, 0, 8, 8) for n in range(150)]
    truth, predictions = boxes_of(places), boxes_of([(*box, 0.1 + n / 200) for n, box in enumerate(places)])
    assert [box_ap(truth, predictions), box_ap50(truth, predictions)] == pytest.approx([67 / 101] * 2)
    assert cocos(truth, predictions, 1) == pytest.approx([67 / 101, 67 / 101])
    rng = np.random.default_rng(0)
    truth, predictions = drawn(rng, 4, 30), drawn(rng, 4, 400, scores=50)
    expected = cocos(truth, predictions, 1)
    assert [box_ap(truth, predictions), box_ap50(truth, predictions)] == pytest.approx(expected, abs=1e-9)


def test_average_precision_on_images_of_their_own_size_is_pycocotools():
    # Continuous coordinates and scores, overlaps of every size, as networks give them.
    rng = np.random.default_rng(1)
    image = np.repeat(np.arange(40), rng.integers(0, 4, 40))
    xywh = np.column_stack([rng.uniform(0, 700, (len(image), 2)), rng.uniform(80, 320, (len(image), 2))])
    truth = Boxes(40, image, xywh, np.zeros(len(image), int), np.ones(len(image)))
    near = xywh + rng.normal(0, 25, xywh.shape)
    predictions = Boxes(40, image, near, truth.label, rng.random(len(image)))
    expected = cocos(truth, predictions, 1)
    assert 0.1 < expected[0] < expected[1] < 0.99
    assert [box_ap(truth, predictions), box_ap50(truth, predictions)] == pytest.approx(expected, abs=1e-9)


def test_froc_by_hand():
    # 8 images, 4 true boxes. By score: hit, miss, hit, miss and hit of equal score, 7 misses.
    truth = boxes_of(*[[TEN]] * 4, *[[]] * 4)
    predictions = boxes_of(
        [part(1, 0.9)], [part(1, 0.7)], [part(0.5, 0.6)], [], [part(1, 0.8)], [part(1, 0.6)], [part(1, 0.1)] * 7, []
    )
    # No more than 1 false positive (1/8 an image): 2 of 4. No more than 2, 4, 8: 3 of 4. Nothing more is to be had.
    sensitivity = [2 / 4, 3 / 4, 3 / 4, 3 / 4, 3 / 4, 3 / 4, 3 / 4]
    assert froc(truth, predictions).tolist() == pytest.approx([np.mean(sensitivity), *sensitivity])
    # Without the false positive of score .8 none is allowed, yet one hit comes before any.
    assert froc(truth, predictions, rates=(0.0, 0.1, 0.125)).tolist()[1:] == [1 / 4, 1 / 4, 2 / 4]
    assert froc(truth, predictions, iou=0.5)[-1] == 2 / 4  # .5 is not above .5


def test_froc_counts_a_second_box_on_a_hit_as_false_and_takes_the_mean_of_labels():
    truth = boxes_of([TEN, (*TEN, 1, 1)])
    predictions = boxes_of([part(1, 0.9), part(1, 0.8), part(1, 0.8), (40, 0, 5, 5, 0.9, 1)])
    assert froc(truth, predictions, rates=(0.0, 1.0)).tolist() == [1 / 2, 1 / 2, 1 / 2]  # 1 of label 0, 0 of label 1
    twice = boxes_of([part(1, 0.9), part(1, 0.8), part(1, 0.8), (20, 0, 10, 10, 0.7)])
    truth = boxes_of([TEN, (20, 0, 10, 10)])
    assert froc(truth, twice, rates=(1.0, 2.0)).tolist()[1:] == [1 / 2, 1]


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_froc_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 8, 3), drawn(rng, 8, 30, scores=7)
    if not len(truth):
        return
    best = np.zeros(len(FALSE_POSITIVES))
    for cut in np.arange(1, 8) / 7:
        kept = predictions.where(predictions.score >= cut)
        precision, recall, *_ = counts_of(truth, kept, 0.4)(np.ones(8, int))
        false = len(kept) * (1 - precision) / 8 if len(kept) else 0
        best = np.maximum(best, np.where(false <= np.array(FALSE_POSITIVES) + 1e-9, recall, 0))
    assert froc(truth, predictions)[1:] == pytest.approx(best)


def test_counts_by_hand():
    truth = boxes_of([TEN, (20, 0, 10, 10)], [TEN], [])
    predictions = boxes_of([part(0.8), part(0.3, x=20)], [part(0.6)], [part(1), part(1)])
    # IoU above .5: 2 of 5 boxes are hits, 2 of 3 true ones are hit. Overlaps of .8, .3 and .6.
    values = counts_of(truth, predictions)(np.ones(3, int))
    assert values == pytest.approx([2 / 5, 2 / 3, 2 * 2 / (5 + 3), (0.8 + 0.3 + 0.6) / 3])
    assert counts_of(truth, nothing(3))(np.ones(3, int)) == pytest.approx([NAN, 0, 0, NAN], nan_ok=True)
    assert np.isnan(counts_of(nothing(3), nothing(3))(np.ones(3, int))).all()


@pytest.mark.parametrize("metric", [rsna_mean_average_precision, box_ap50, box_ap, lambda *b: froc(*b)[0]])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_metric_is_the_same_in_any_unit_and_order_and_1_for_the_truth(metric, seed):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 6, 3, labels=2), drawn(rng, 6, 6, labels=2, scores=10**6)
    value = metric(truth, predictions)
    unit = 2.0 ** rng.integers(-9, 9, (6, 2))
    assert metric(truth.scaled(unit), predictions.scaled(unit)) == pytest.approx(value, nan_ok=True)
    images = rng.permutation(6)
    assert metric(truth.of_images(images), predictions.of_images(images)) == pytest.approx(value, nan_ok=True)
    if len(truth):
        assert metric(truth, truth) == 1
        both = stacked([truth, truth])
        assert metric(both, stacked([truth, predictions])) >= value / 2 - 1e-9

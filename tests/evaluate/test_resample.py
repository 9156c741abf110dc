from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from kit.evaluate.boxes.matching import by_label
from kit.evaluate.boxes.metrics import counts_of, froc_of, mean_of_defined
from kit.evaluate.metrics import METRICS
from kit.evaluate.resample import by_group, interval, numbered, resample, share_above, statistic
from tests.evaluate.boxes.made import boxes_of, drawn, repeated

NAN = float("nan")


def intervals(metric, y, p, groups, resamples=2000):
    group_of, count = numbered(groups)
    return interval(resample([statistic(METRICS[metric], y, p, group_of)], count, resamples)[:, 0, 0], 0.95)


def test_the_interval_of_a_mean_is_the_textbooks():
    rng = np.random.default_rng(0)
    y, p = np.zeros((400, 1)), rng.random((400, 1))
    low, high = intervals("brier", y, p, np.arange(400), 4000)
    error = stats.sem(p[:, 0] ** 2)
    assert low == pytest.approx((p**2).mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx((p**2).mean() + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize("metric", ["brier", "roc_auc"])
def test_rows_of_one_group_are_drawn_together(metric):
    # 60 groups of 25 equal rows hold the information of 60 rows, not of 1,500: the interval is 5 times as wide.
    rng = np.random.default_rng(0)
    y, p = np.repeat(np.arange(60) % 2, 25)[:, None].astype(float), np.repeat(rng.random(60), 25)[:, None]
    groups = np.repeat(np.arange(60), 25)
    by_group = np.diff(intervals(metric, y, p, groups))
    by_row = np.diff(intervals(metric, y, p, np.arange(1500)))
    assert by_group / by_row == pytest.approx(5, rel=0.15)
    shuffled = rng.permutation(1500)
    again = intervals(metric, y[shuffled], p[shuffled], groups[shuffled], 300)
    assert again == pytest.approx(intervals(metric, y, p, groups, 300))


@given(st.integers(0, 10**6), st.sampled_from([m.name for m in METRICS.values() if m.needs == "probabilities"]))
@settings(max_examples=80, deadline=None)
def test_a_resample_is_the_metric_of_the_rows_drawn(seed, metric):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, (30, 2)).astype(float), rng.integers(0, 7, (30, 2)) / 6
    y[rng.random((30, 2)) < 0.1] = NAN
    group_of, count = numbered(rng.integers(0, 12, 30))
    times = rng.integers(0, 4, count)
    rows = np.repeat(np.arange(30), times[group_of])  # a group drawn n times is its rows n times
    values = statistic(METRICS[metric], y, p, group_of)(times)
    if len(rows) and not np.isnan(y[rows]).all():
        assert values[0] == pytest.approx(METRICS[metric](y[rows], p[rows]), nan_ok=True)
        for n in range(2):
            if not np.isnan(y[rows, n]).all():
                each = METRICS[metric](y[rows][:, [n]], p[rows][:, [n]])
                assert values[n + 1] == pytest.approx(each, nan_ok=True)


def test_weights_are_scikit_learns():
    rng = np.random.default_rng(0)
    y, p, times = rng.integers(0, 2, (50, 1)).astype(float), rng.integers(0, 9, (50, 1)) / 8, rng.integers(0, 4, 50)
    for metric, theirs in (("roc_auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score)):
        expected = theirs(y[:, 0], p[:, 0], sample_weight=times)
        assert statistic(METRICS[metric], y, p, np.arange(50))(times)[0] == pytest.approx(expected)


def test_resamples_of_a_single_class_are_left_out():
    y, p = np.array([[1.0], [0.0], [0.0]]), np.array([[0.9], [0.1], [0.2]])
    assert intervals("roc_auc", y, p, np.arange(3), 200) == (1.0, 1.0)
    assert np.isnan(intervals("roc_auc", y * 0, p, np.arange(3), 100)).all()


def test_two_models_are_compared_on_the_same_resamples():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (300, 1)).astype(float)
    p = np.clip(y * 0.2 + rng.random((300, 1)), 0, 1.2) / 1.2
    better = np.clip(p + 0.02 * (y - 0.5), 0, 1)  # a little better on every row
    values = resample([statistic(METRICS["brier"], y, q, np.arange(300)) for q in (p, better)], 300, 400)[:, :, 0]
    assert np.diff(interval(values[:, 0], 0.95)) > 4 * np.diff(interval(values[:, 1] - values[:, 0], 0.95))
    assert share_above(values[:, 0] - values[:, 1]) == 1
    assert share_above(np.zeros(5)) == 0.5


@given(st.integers(0, 10**6), st.sampled_from([m.name for m in METRICS.values() if m.needs == "boxes"]))
@settings(max_examples=60, deadline=None)
def test_a_resample_of_boxes_is_the_metric_of_the_images_drawn(seed, name):
    rng, metric = np.random.default_rng(seed), METRICS[name]
    # Scores tie between images, but not within one: two boxes of one score in one image come in another order when
    # the image is there twice.
    truth, predictions = drawn(rng, 12, 3, labels=2), drawn(rng, 12, 6, labels=2, scores=5)
    predictions = replace(predictions, score=predictions.score - ranks(predictions.image) / 100)
    group_of, count = numbered(rng.integers(0, 6, 12))
    times = rng.integers(0, 4, count)
    images = [repeated(boxes, times[group_of]) for boxes in (truth, predictions)]
    values = statistic(metric, truth, predictions, group_of, 2)(times)
    each = [metric(*boxes) for boxes in by_label(*images, 2)]
    assert values == pytest.approx([mean_of_defined(each), *each], nan_ok=True)
    ones = statistic(metric, truth, predictions, group_of)(np.ones(count, int))
    assert ones[0] == pytest.approx(metric(truth, predictions), nan_ok=True)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_resampled_froc_and_counts_are_those_of_the_images_drawn(seed):
    rng = np.random.default_rng(seed)
    truth, predictions = drawn(rng, 12, 3), drawn(rng, 12, 6, scores=5)
    group_of, count = numbered(rng.integers(0, 6, 12))
    times = rng.integers(0, 4, count)
    images = [repeated(boxes, times[group_of]) for boxes in (truth, predictions)]
    for of_boxes in (froc_of, counts_of):
        expected = of_boxes(*images)(np.ones(images[0].images, int))
        assert by_group(of_boxes(truth, predictions), group_of)(times) == pytest.approx(expected, nan_ok=True)


def test_intervals_of_boxes_are_the_textbooks():
    # An image a group, each with a true box that is hit or not: a share, whose error is known.
    rng = np.random.default_rng(0)
    truth = boxes_of(*[[(0, 0, 10, 10)]] * 400)
    predictions = boxes_of(*[[(0, 0, 10, 10 if hit else 1, 0.5)] for hit in rng.random(400) < 0.6])
    images, error = np.arange(400), np.sqrt(0.6 * 0.4 / 400)
    rsna = statistic(METRICS["rsna_mean_average_precision"], truth, predictions, images)
    for of_images in (rsna, by_group(froc_of(truth, predictions, rates=[1.0]), images)):
        values = resample([of_images], 400, 2000)[:, 0, 0]
        middle = of_images(np.ones(400, int))[0]
        low, high = interval(values, 0.95)
        assert (middle - low, high - middle) == pytest.approx((1.96 * error, 1.96 * error), rel=0.15)


def ranks(image):
    return np.arange(len(image)) - np.searchsorted(image, image)

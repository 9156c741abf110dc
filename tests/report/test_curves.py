"""Curves against scikit-learn's, and thinned lines against the lines themselves."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from kit.report.curves import TOLERANCE, curves_of, thin


def furthest(x, y, places):
    """How far the furthest point is from the line through some of them, by plain loops."""
    worst = 0.0
    for first, last in pairwise(places):
        a, b = np.array([x[first], y[first]]), np.array([x[last], y[last]])
        for n in range(first, last):
            point, length = np.array([x[n], y[n]]), float((b - a) @ (b - a))
            share = min(max(float((point - a) @ (b - a)) / length, 0), 1) if length else 0
            worst = max(worst, float(np.linalg.norm(point - a - share * (b - a))))
    return worst


@given(arrays(float, st.tuples(st.integers(0, 60), st.just(2)), elements=st.floats(-1, 2, width=32)))
def test_no_point_is_further_from_the_thinned_line_than_the_tolerance(points):
    x, y = points.T
    places = thin(x, y, 0.1)
    assert len(places) == len(set(places)) and list(places) == sorted(places)
    if len(points):
        assert (places[0], places[-1]) == (0, len(points) - 1)
    assert furthest(x, y, places) <= 0.1 + 1e-9


@pytest.mark.parametrize("rows", [2, 500, 20_000])
def test_curves_are_scikit_learns_by_fewer_points(rows):
    rng = np.random.default_rng(rows)
    y = (np.arange(rows) % 2).astype(float)
    p = np.round(1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5))), 4).astype(np.float32)  # with ties
    curves = curves_of(y, p)
    assert curves.auc == pytest.approx(metrics.roc_auc_score(y, p))
    assert curves.ap == pytest.approx(metrics.average_precision_score(y, p))
    x, sensitivity, _ = metrics.roc_curve(y, p, drop_intermediate=False)
    precision, recall, cuts = metrics.precision_recall_curve(y, p)
    wholes = ((curves.roc, x, sensitivity), (curves.pr, recall, precision), (curves.recall, cuts, recall))
    for line, *whole in wholes:
        points = np.column_stack([values[: len(whole[0])] for values in whole]).astype(float).round(9)
        assert {*map(tuple, np.column_stack([line.x, line.y]).round(9))} <= {*map(tuple, points)}
        assert len(line.x) < 1000
    assert np.trapezoid(curves.roc.y, curves.roc.x) == pytest.approx(curves.auc, abs=2 * TOLERANCE)
    area = np.trapezoid(precision[-2::-1], recall[-2::-1])
    assert np.trapezoid(curves.pr.y, curves.pr.x) == pytest.approx(area, abs=2 * TOLERANCE)


def test_a_label_of_one_class_has_no_curves():
    assert curves_of(np.ones(5), np.linspace(0, 1, 5)) is None
    assert curves_of(np.full(5, np.nan), np.linspace(0, 1, 5)) is None
    known = curves_of(np.array([0, 1, np.nan]), np.array([0.1, 0.9, 0.5]))
    assert known.auc == 1 and known.prevalence == 0.5


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        thin(np.array([0, np.nan, 1]), np.zeros(3))


def test_the_tolerance_is_less_than_a_pixel():
    assert TOLERANCE * 600 < 1

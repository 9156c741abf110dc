"""Assignments against scipy's, on the backend that trains."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from kit.models.detect.matching import assign


@pytest.fixture(scope="module")
def matched(keras):
    """`assign`, numpy in and out."""

    def run(costs, real):
        return np.asarray(
            keras.ops.convert_to_numpy(assign(keras.ops.convert_to_tensor(costs), keras.ops.convert_to_tensor(real)))
        )

    return run


@pytest.mark.parametrize(("boxes", "queries"), [(1, 5), (3, 3), (6, 9)])
def test_the_total_cost_is_the_least(matched, boxes, queries):
    rng = np.random.default_rng(boxes)
    costs = rng.normal(0, 5, (20, boxes, queries)).astype(np.float32)
    costs[:5] = np.round(costs[:5])  # ties
    real = rng.random((20, boxes)) < 0.7
    query = matched(costs, real)
    assert (query[~real] == -1).all()
    for n in range(20):
        rows = np.flatnonzero(real[n])
        chosen = query[n, rows]
        assert len(set(chosen)) == len(rows)
        expected = costs[n][rows][linear_sum_assignment(costs[n][rows])].sum()
        assert costs[n][rows, chosen].sum() == pytest.approx(expected, abs=1e-4)


def test_one_box_gets_the_cheapest_query(matched):
    costs = np.array([[[5, 1, 3, 0.5]]], np.float32)
    assert matched(costs, np.array([[True]])).tolist() == [[3]]


def test_more_boxes_than_queries(matched):
    costs = np.array([[[1, 9], [2, 1], [0, 0]]], np.float32)
    query = matched(costs, np.ones((1, 3), bool))[0]
    assert sorted(query) == [-1, 0, 1]


def test_no_box_at_all(matched):
    assert matched(np.zeros((2, 0, 4), np.float32), np.zeros((2, 0), bool)).shape == (2, 0)
    assert (matched(np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), bool)) == -1).all()


@pytest.mark.once
def test_that_kerashub_assigns_by_less_than_the_cost(matched):
    """Why kit has its own: KerasHub's matcher gives the only box of an image to its first query, whatever it costs.

    It pads the costs to a square of 1e9, from which float32 cannot subtract the minimum of a row.
    """
    pytest.importorskip("keras_hub", reason="keras-hub is not installed")
    from keras_hub.src.models.d_fine.d_fine_utils import hungarian_assignment

    costs = np.full((4, 4), 1e9, np.float32)
    costs[:, 0] = [5, 1, 3, 0.5]
    rows, columns, _ = (np.asarray(each) for each in hungarian_assignment(costs, 4))
    assert rows[columns == 0] == [0]
    assert matched(costs.T[None, :1], np.array([[True]]))[0, 0] == 3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk

from kit.evaluate.metrics import average_precision, log_loss, roc_auc, weighted_roc_auc

NAN = float("nan")


def column(*values):
    return np.array(values, float)[:, None]


def test_by_hand():
    # Of the 2 x 3 pairs of a positive and a negative, 4 are in order and 1 is tied: AUC = 4.5 / 6.
    y, p = column(1, 1, 0, 0, 0), column(0.9, 0.4, 0.4, 0.3, 0.6)
    assert roc_auc(y, p) == pytest.approx(4.5 / 6)
    assert log_loss(column(1, 0), column(0.8, 0.4)) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_auc_is_the_mann_whitney_statistic(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.permutation([0.0, 1.0] * 20), rng.integers(0, 9, 40) / 8
    u = mannwhitneyu(p[y == 1], p[y == 0]).statistic
    assert roc_auc(y[:, None], p[:, None]) == pytest.approx(u / 400)


def test_several_labels_with_unknowns_and_one_that_is_not_defined():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (50, 3)).astype(float), rng.random((50, 3))
    y[:10, 0] = NAN
    y[:, 2] = 1
    for ours, theirs in ((roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)):
        wanted = (theirs(y[10:, 0], p[10:, 0]) + theirs(y[:, 1], p[:, 1])) / 2
        assert ours(y, p) == pytest.approx(wanted)
    known = ~np.isnan(y)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y[known], p[known]))


def test_not_defined_is_nan_and_never_0():
    assert np.isnan(roc_auc(column(1, 1), column(0.1, 0.2)))
    assert np.isnan(roc_auc(column(NAN, NAN), column(0.1, 0.2)))


def test_certain_and_wrong_is_finite():
    assert log_loss(column(1), column(0)) == pytest.approx(-np.log(1e-7))


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_weighted_auc_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, (30, 2)).astype(float), rng.integers(0, 7, (30, 2)) / 6
    y[:2], weights = [[0, 0], [1, 1]], rng.integers(0, 4, 30)
    weights[:2] = 1
    value = weighted_roc_auc(y, p)
    expected = [sk.roc_auc_score(y[:, n], p[:, n], sample_weight=weights) for n in range(2)]
    assert value(weights) == pytest.approx(np.mean(expected))
    assert value(np.ones(30)) == pytest.approx(roc_auc(y, p))
    rows = np.repeat(np.arange(30), weights)  # a whole weight is a row so many times
    assert value(weights) == pytest.approx(roc_auc(y[rows], p[rows]))


def test_weighted_auc_where_labels_are_unknown_or_of_one_class():
    y, p = np.array([[1, 0], [0, NAN], [1, 0], [0, 0.0]]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert weighted_roc_auc(y, p)(np.ones(4)) == roc_auc(y, p) == pytest.approx(0.75)
    assert np.isnan(weighted_roc_auc(y, p)(np.array([1, 0, 1, 0])))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from kit.evaluate.calibration import (
    KINDS,
    apply,
    calibration_error,
    cross_fitted,
    fit,
    logit,
    reliability,
    shift_prior,
    sigmoid,
)
from kit.evaluate.metrics import log_loss

RNG = np.random.default_rng(0)
TRUE = RNG.beta(0.7, 1.5, 6000)  # the true probability
Y = (RNG.random(6000) < TRUE).astype(float)[:, None]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_overconfidence_is_undone(kind):
    sure = sigmoid(2.5 * logit(TRUE))[:, None]
    calibrated = apply(fit(kind, Y, sure, exclusive=False), sure)
    assert calibration_error(Y, sure) > 0.05
    assert calibration_error(Y, calibrated) < 0.02
    assert log_loss(Y, calibrated) < log_loss(Y, sure) - 0.05
    assert np.abs(calibrated[:, 0] - TRUE).mean() < 0.03


@pytest.mark.parametrize(
    ("kind", "bent"), [("platt", logit(TRUE) * 2 + 1.5), ("beta", 3 * np.log(TRUE) - np.log1p(-TRUE))]
)
def test_a_curve_undoes_its_own_inverse(kind, bent):
    p = sigmoid(bent)[:, None]
    calibrated = apply(fit(kind, Y, p, exclusive=False), p)
    assert np.abs(calibrated[:, 0] - TRUE).max() < 0.06


def test_temperature_keeps_calibrated_classes_and_cools_sharpened_ones():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(4), 20000)
    truth = (p.cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    y = np.eye(4)[truth]
    assert apply(fit("temperature", y, p, exclusive=True), p) == pytest.approx(p, abs=0.02)
    sharp = p**3 / (p**3).sum(axis=1, keepdims=True)
    cooled = apply(fit("temperature", y, sharp, exclusive=True), sharp)
    assert cooled == pytest.approx(p, abs=0.02)
    for kind in KINDS[1:]:
        assert apply(fit(kind, y, sharp, exclusive=True), sharp).sum(axis=1) == pytest.approx(1)


def test_isotonic_is_scikit_learns_without_unknown_labels():
    p = RNG.random((60, 2))
    y = (RNG.random((60, 2)) < p).astype(float)
    y[:20, 1] = np.nan
    calibrated = apply(fit("isotonic", y, p, exclusive=False), p)
    assert calibrated[:, 0] == pytest.approx(IsotonicRegression().fit_transform(p[:, 0], y[:, 0]))
    assert calibrated[20:, 1] == pytest.approx(IsotonicRegression().fit_transform(p[20:, 1], y[20:, 1]))


def test_a_label_of_one_class_keeps_its_probabilities():
    p = np.array([[0.2], [0.4]])
    for kind in ("platt", "isotonic", "beta"):
        assert apply(fit(kind, np.zeros((2, 1)), p, exclusive=False), p) == pytest.approx(p)


def test_each_fold_is_calibrated_by_the_others():
    # the two folds are bent in opposite ways, so a fit on one is wrong for the other
    fold = np.arange(6000) % 2
    p = np.where(fold == 0, sigmoid(3 * logit(TRUE)), sigmoid(logit(TRUE) / 3))[:, None]
    crossed = cross_fitted("platt", Y, p, fold, exclusive=False)
    for k in (0, 1):
        other = fit("platt", Y[fold != k], p[fold != k], exclusive=False)
        assert crossed[fold == k] == pytest.approx(apply(other, p[fold == k]))
    assert log_loss(Y, crossed) > log_loss(Y, p)


def test_the_reliability_of_distinct_scores_is_scikit_learns():
    p = RNG.permutation(np.linspace(0.001, 0.999, 1500))
    y = (RNG.random(1500) < p**2).astype(float)
    bars = reliability(y, p, 10)
    observed, predicted = calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert bars["observed"].to_numpy() == pytest.approx(observed)
    assert bars["predicted"].to_numpy() == pytest.approx(predicted)
    expected = np.average(np.abs(observed - predicted), weights=bars["rows"])
    assert calibration_error(y[:, None], p[:, None], 10) == pytest.approx(expected)


def test_equal_scores_share_a_bin_and_few_rows_are_enough():
    bars = reliability(np.array([1.0, 0, 1, np.nan]), np.array([0.5, 0.5, 0.5, 0.9]))
    assert bars["rows"].tolist() == [3]
    assert bars["observed"].tolist() == pytest.approx([2 / 3])


def test_another_prevalence_by_hand():
    # 1 in 2 in training, 1 in 5 in the test: odds of 1 become 1/4, odds of 4 become 1.
    shifted = shift_prior(np.array([[0.5], [0.8]]), np.array([0.5]), np.array([0.2]), exclusive=False)
    assert shifted[:, 0] == pytest.approx([0.2, 0.5])
    classes = shift_prior(np.array([[0.5, 0.25, 0.25]]), np.full(3, 1 / 3), np.array([0.2, 0.4, 0.4]), exclusive=True)
    assert classes[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_shifted_prior_can_be_shifted_back_and_keeps_the_order(trained, test, seed):
    p = np.sort(np.random.default_rng(seed).random((20, 1)), axis=0)
    there = shift_prior(p, np.array([trained]), np.array([test]), exclusive=False)
    assert (np.diff(there[:, 0]) >= 0).all() and (there >= 0).all() and (there <= 1).all()
    assert shift_prior(there, np.array([test]), np.array([trained]), exclusive=False) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("kind", ["platt", "beta", "isotonic"])
def test_scores_that_point_the_wrong_way_are_not_inverted(kind):
    p = RNG.random((400, 1))
    y = (RNG.random((400, 1)) < 0.5 * (1 - p)).astype(float)
    assert apply(fit(kind, y, p, exclusive=False), p) == pytest.approx(p)


def test_a_label_that_never_occurs_is_not_shifted():
    p = np.array([[0.2, 0.5], [0.4, 0.5]])
    shifted = shift_prior(p, np.array([0.0, 0.5]), np.array([0.1, 0.2]), exclusive=False)
    assert shifted[:, 0] == pytest.approx(p[:, 0]) and shifted[:, 1] == pytest.approx([0.2, 0.2])

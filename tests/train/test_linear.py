"""Logistic regression on features: scikit-learn's minima, found for all strengths and folds at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from kit.train.linear import STRENGTHS, Linear, fit_linear, log_losses, standardisation

pytestmark = pytest.mark.once


def data(rows, width, classes, seed=0):
    """Features with scales of their own, logits that depend on them, and five inner folds."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 1, (rows, width)) * rng.gamma(2, 1, width) + 3).astype(np.float32)
    z = (x - 3) @ rng.normal(0, 1, (width, classes)) / np.sqrt(width) + rng.normal(0, 1, (rows, classes))
    return x, z, np.arange(rows) % 5


def reference(fitted: Linear, x, y, strength):
    """scikit-learn's probabilities for the same standardised features."""
    scaled = ((x - fitted.mean) * fitted.scale).astype(np.float64)
    return LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(scaled, y).predict_proba(scaled)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(("rows", "width"), [(200, 20), (80, 300)])
def test_one_label_as_scikit_learn(rows, width):
    x, z, inner = data(rows, width, 1)
    y = (z > 0.5).astype(np.float32)
    fitted = fit_linear(x, y, False, inner)
    expected = reference(fitted, x, y[:, 0], fitted.strengths[0])[:, 1:]
    assert np.abs(sigmoid(fitted.logits(x)) - expected).max() < 1e-3


def test_exclusive_classes_as_scikit_learn():
    x, z, inner = data(240, 30, 4)
    classes = z.argmax(axis=1)
    fitted = fit_linear(x, np.eye(4, dtype=np.float32)[classes], True, inner)
    logits = fitted.logits(x)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len(fitted.strengths) == 1
    assert np.abs(p - reference(fitted, x, classes, fitted.strengths[0])).max() < 1e-3


def test_labels_are_fitted_each_on_the_rows_that_know_it():
    x, z, inner = data(200, 10, 3)
    y = (z > 0).astype(np.float32)
    y[:60, 0] = y[100:, 1] = np.nan
    fitted = fit_linear(x, y, False, inner)
    for label in range(3):
        known = ~np.isnan(y[:, label])
        scaled = ((x - fitted.mean) * fitted.scale).astype(np.float64)
        model = LogisticRegression(C=fitted.strengths[label], tol=1e-9, max_iter=10_000)
        expected = model.fit(scaled[known], y[known, label]).predict_proba(scaled)[:, 1]
        assert np.abs(sigmoid(fitted.logits(x))[:, label] - expected).max() < 1e-3


def test_soft_labels_are_the_mean_of_both_hard_ones():
    x, z, _ = data(100, 5, 1)
    hard = np.concatenate([np.ones(100), np.zeros(100)])[:, None].astype(np.float32)
    weights = np.concatenate([sigmoid(z[:, 0]), 1 - sigmoid(z[:, 0])])
    fitted = fit_linear(x, sigmoid(z).astype(np.float32), False, np.zeros(100, int))
    scaled = ((x - fitted.mean) * fitted.scale).astype(np.float64)
    model = LogisticRegression(C=fitted.strengths[0], tol=1e-9, max_iter=10_000)
    model.fit(np.concatenate([scaled, scaled]), hard[:, 0], sample_weight=weights)
    assert np.abs(sigmoid(fitted.logits(x))[:, 0] - model.predict_proba(scaled)[:, 1]).max() < 1e-3


def test_the_strength_is_that_of_the_least_loss_over_the_inner_folds():
    x, z, inner = data(150, 12, 1, seed=3)
    y = (z > 0).astype(np.float32)
    fitted = fit_linear(x, y, False, inner)
    scaled = ((x - fitted.mean) * fitted.scale).astype(np.float64)
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for k in range(5):
            model = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000)
            p = model.fit(scaled[inner != k], y[inner != k, 0]).predict_proba(scaled[inner == k])
            total -= np.log(p[np.arange(len(p)), y[inner == k, 0].astype(int)]).sum()
        losses.append(total)
    assert fitted.strengths[0] == STRENGTHS[int(np.argmin(losses))]


def test_noise_gets_the_strongest_penalties():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 400)).astype(np.float32), (rng.random((200, 1)) < 0.3).astype(np.float32)
    fitted = fit_linear(x, y, False, np.arange(200) % 5)
    assert fitted.strengths[0] < 1e-3
    assert np.abs(sigmoid(fitted.logits(x)) - y.mean()).max() < 0.2


def test_classes_that_are_missing_have_their_share():
    x, z, inner = data(60, 8, 3)
    y = np.zeros((60, 3), np.float32)  # none of the first, all of the second, nothing known of the third
    y[:, 1], y[:, 2] = 1, np.nan
    z = fit_linear(x, y, False, inner).logits(x)
    assert np.allclose(sigmoid(z), np.tile([0.5 / 61, 60.5 / 61, 0.5], (60, 1)), atol=1e-5)
    classes = np.eye(3, dtype=np.float32)[np.arange(60) % 2]  # the third does not occur
    classes[:10] = np.nan
    z = fit_linear(x, classes, True, inner).logits(x)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.isfinite(p).all() and p[:, 2].max() < 0.1
    only = np.eye(3, dtype=np.float32)[np.zeros(60, int)]
    assert np.isfinite(fit_linear(x, only, True, inner).logits(x)).all()
    rare = np.zeros((60, 1), np.float32)
    rare[::5] = 1  # in one inner fold alone
    assert np.isfinite(fit_linear(x, rare, False, inner).logits(x)).all()


def test_columns_that_do_not_vary_play_no_part():
    x, z, inner = data(50, 4, 1)
    x[:, 1] = 7
    mean, scale = standardisation(x)
    assert scale[1] == 0 and mean[1] == 7
    assert np.allclose(((x - mean) * scale).std(axis=0), [1, 0, 1, 1], atol=1e-4)
    fitted = fit_linear(x, (z > 0).astype(np.float32), False, inner)
    other = x.copy()
    other[:, 1] = 1e6
    assert np.array_equal(fitted.logits(x), fitted.logits(other))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(1, 60), st.integers(1, 4), st.booleans(), st.integers(0, 99), st.floats(0, 0.9))
def test_any_data_gives_finite_numbers(rows, width, labels, exclusive, seed, unknown):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, rng.choice([0, 1, 100]), (rows, width)).astype(np.float32)
    exclusive = exclusive and labels > 1
    y = np.eye(labels, dtype=np.float32)[rng.integers(0, labels, rows)]
    y = y if exclusive else (rng.random((rows, labels)) < 0.3).astype(np.float32)
    y[rng.random(rows) < unknown] = np.nan
    fitted = fit_linear(x, y, exclusive, rng.integers(0, 5, rows))
    assert fitted.coefficients.shape == (width, labels) and np.isfinite(fitted.logits(x)).all()


def test_losses_by_hand():
    y, z = np.array([[1.0], [0.0], [0.25]]), np.array([[2.0], [-800.0], [0.0]])
    assert np.allclose(log_losses(z, y), [np.log1p(np.exp(-2)), 0, np.log(2)])
    assert np.allclose(log_losses(np.array([[900.0, 0, 0]]), np.eye(3)[:1]), [0])

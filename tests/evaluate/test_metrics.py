import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk

from kit.evaluate.metrics import METRICS, average_precision, brier, decisions, log_loss, report, roc_auc

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


def test_brier_by_hand():
    assert brier(column(1, 0, NAN), column(0.8, 0.4, 0.1)) == pytest.approx((0.04 + 0.16) / 2)


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_decisions_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    y, called = rng.integers(0, 2, 20).astype(bool), rng.integers(0, 2, 20).astype(bool)
    y[:2] = [False, True]
    tn, fp, fn, tp = sk.confusion_matrix(y, called, labels=[False, True]).ravel()
    found = decisions(tp, fp, fn, tn)
    for name, function in {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "f1": sk.f1_score,
        "recall": sk.recall_score,
        "mcc": sk.matthews_corrcoef,
        "kappa": sk.cohen_kappa_score,
    }.items():
        assert found[name] == pytest.approx(function(y, called)), name
    assert found["specificity"] == pytest.approx(sk.recall_score(~y, ~called))
    if called.any():
        assert found["precision"] == pytest.approx(sk.precision_score(y, called))


def test_decisions_without_one_class_are_not_defined():
    found = decisions(tp=0, fp=2, fn=0, tn=8)
    assert all(np.isnan(found[name]) for name in ("balanced_accuracy", "f1", "precision", "recall", "mcc", "kappa"))
    assert (found["accuracy"], found["specificity"]) == (0.8, 0.8)


def test_the_report_of_several_labels_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (60, 3)).astype(float), rng.random((60, 3))
    found = report(y, p, "multilabel", ["a", "b", "c"])
    for average in ("macro", "micro", "weighted"):
        values = found["average"][average]
        assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, average=average))
        assert values["average_precision"] == pytest.approx(sk.average_precision_score(y, p, average=average))
        assert values["f1"] == pytest.approx(sk.f1_score(y, p > 0.5, average=average))
        assert values["precision"] == pytest.approx(sk.precision_score(y, p > 0.5, average=average))
    assert found["labels"]["b"]["brier"] == pytest.approx(sk.brier_score_loss(y[:, 1], p[:, 1]))
    assert found["average"]["macro"]["positives"] == y.sum()


def test_the_report_leaves_unknown_labels_and_undefined_values_out():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (60, 3)).astype(float), rng.random((60, 3))
    y[:20, 0], y[:, 2] = NAN, 0
    found = report(y, p, "multilabel", ["a", "b", "c"])
    assert found["labels"]["a"]["rows"] == 40
    assert np.isnan(found["labels"]["c"]["roc_auc"]) and np.isnan(found["labels"]["c"]["f1"])
    aucs = [sk.roc_auc_score(y[20:, 0], p[20:, 0]), sk.roc_auc_score(y[:, 1], p[:, 1])]
    assert found["average"]["macro"]["roc_auc"] == pytest.approx(np.mean(aucs))
    assert found["average"]["weighted"]["roc_auc"] == pytest.approx(
        np.average(aucs, weights=[np.nansum(y[:, 0]), y[:, 1].sum()])
    )


def test_the_report_of_classes_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 80)
    p = rng.dirichlet(np.ones(4), 80) + 0.4 * np.eye(4)[truth]
    p /= p.sum(axis=1, keepdims=True)
    called, found = p.argmax(axis=1), report(np.eye(4)[truth], p, "multiclass", list("abcd"))
    together = found["classes"]["all"]
    assert together["log_loss"] == pytest.approx(sk.log_loss(truth, p))
    assert METRICS["multiclass_log_loss"](np.eye(4)[truth], p) == pytest.approx(sk.log_loss(truth, p))
    assert together["accuracy"] == pytest.approx(sk.accuracy_score(truth, called))
    assert together["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, called))
    assert together["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, called))
    assert together["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, called))
    assert together["quadratic_kappa"] == pytest.approx(sk.cohen_kappa_score(truth, called, weights="quadratic"))
    for average in ("macro", "weighted"):
        assert found["average"][average]["f1"] == pytest.approx(sk.f1_score(truth, called, average=average))

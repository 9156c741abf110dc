import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn import metrics as sk

from kit.boxes import nothing
from kit.config import EvaluateSettings
from kit.errors import ConfigError
from kit.evaluate.metrics import METRICS, average_precision, brier, decisions, find_metric, log_loss, report, roc_auc

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


def test_several_labels_with_unknowns_and_an_undefined_one():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (50, 3)).astype(float), rng.random((50, 3))
    y[:10, 0] = NAN
    y[:, 2] = 1
    for ours, theirs in ((roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)):
        expected = (theirs(y[10:, 0], p[10:, 0]) + theirs(y[:, 1], p[:, 1])) / 2
        assert ours(y, p) == pytest.approx(expected)
    labelled = ~np.isnan(y)
    assert log_loss(y, p) == pytest.approx(sk.log_loss(y[labelled], p[labelled]))


def test_undefined_is_nan_and_never_0():
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
    y, predicted = rng.integers(0, 2, 20).astype(bool), rng.integers(0, 2, 20).astype(bool)
    y[:2] = [False, True]
    tn, fp, fn, tp = sk.confusion_matrix(y, predicted, labels=[False, True]).ravel()
    values = decisions(tp, fp, fn, tn)
    for name, function in {
        "accuracy": sk.accuracy_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "f1": sk.f1_score,
        "recall": sk.recall_score,
        "mcc": sk.matthews_corrcoef,
        "kappa": sk.cohen_kappa_score,
    }.items():
        assert values[name] == pytest.approx(function(y, predicted)), name
    assert values["specificity"] == pytest.approx(sk.recall_score(~y, ~predicted))
    if predicted.any():
        assert values["precision"] == pytest.approx(sk.precision_score(y, predicted))


def test_decisions_with_a_single_class_are_undefined():
    values = decisions(tp=0, fp=2, fn=0, tn=8)
    assert all(np.isnan(values[name]) for name in ("balanced_accuracy", "f1", "precision", "recall", "mcc", "kappa"))
    assert (values["accuracy"], values["specificity"]) == (0.8, 0.8)


def test_the_report_of_several_labels_is_scikit_learns():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (60, 3)).astype(float), rng.random((60, 3))
    metrics = report(y, p, False, ["a", "b", "c"])
    for average in ("macro", "micro", "weighted"):
        values = metrics["average"][average]
        assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, average=average))
        assert values["average_precision"] == pytest.approx(sk.average_precision_score(y, p, average=average))
        assert values["f1"] == pytest.approx(sk.f1_score(y, p > 0.5, average=average))
        assert values["precision"] == pytest.approx(sk.precision_score(y, p > 0.5, average=average))
    assert metrics["labels"]["b"]["brier"] == pytest.approx(sk.brier_score_loss(y[:, 1], p[:, 1]))
    assert metrics["average"]["macro"]["positives"] == y.sum()


def test_the_report_skips_unknown_labels_and_undefined_values():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (60, 3)).astype(float), rng.random((60, 3))
    y[:20, 0], y[:, 2] = NAN, 0
    metrics = report(y, p, False, ["a", "b", "c"])
    assert metrics["labels"]["a"]["rows"] == 40
    assert np.isnan(metrics["labels"]["c"]["roc_auc"]) and np.isnan(metrics["labels"]["c"]["f1"])
    aucs = [sk.roc_auc_score(y[20:, 0], p[20:, 0]), sk.roc_auc_score(y[:, 1], p[:, 1])]
    assert metrics["average"]["macro"]["roc_auc"] == pytest.approx(np.mean(aucs))
    assert metrics["average"]["weighted"]["roc_auc"] == pytest.approx(
        np.average(aucs, weights=[np.nansum(y[:, 0]), y[:, 1].sum()])
    )


def test_the_report_of_classes_is_scikit_learns():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 80)
    p = rng.dirichlet(np.ones(4), 80) + 0.4 * np.eye(4)[truth]
    p /= p.sum(axis=1, keepdims=True)
    predicted, metrics = p.argmax(axis=1), report(np.eye(4)[truth], p, True, list("abcd"))
    together = metrics["classes"]["all"]
    assert together["log_loss"] == pytest.approx(sk.log_loss(truth, p))
    assert METRICS["multiclass_log_loss"](np.eye(4)[truth], p) == pytest.approx(sk.log_loss(truth, p))
    assert together["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert together["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert together["mcc"] == pytest.approx(sk.matthews_corrcoef(truth, predicted))
    assert together["kappa"] == pytest.approx(sk.cohen_kappa_score(truth, predicted))
    assert together["quadratic_kappa"] == pytest.approx(sk.cohen_kappa_score(truth, predicted, weights="quadratic"))
    for average in ("macro", "weighted"):
        assert metrics["average"][average]["f1"] == pytest.approx(sk.f1_score(truth, predicted, average=average))


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.needs == "probabilities"])
def test_a_gain_is_positive_for_better_predictions(name):
    y, metric = column(0, 1, 0, 1), find_metric(name)
    worse, better = metric(y, column(0.5, 0.4, 0.3, 0.6)), metric(y, column(0.1, 0.9, 0.2, 0.8))
    assert metric.name == name
    assert metric.gain(better, worse) > 0 > metric.gain(worse, better)
    assert metric.gain(better, worse) == abs(better - worse)
    assert metric.gain(np.array([better, worse]), worse) == pytest.approx([abs(better - worse), 0])
    assert np.isnan(metric.gain(NAN, worse))


def test_metrics_by_which_end_is_better():
    smaller = {"log_loss", "multiclass_log_loss", "weighted_log_loss", "grouped_log_loss", "brier"}
    of_boxes = {"rsna_mean_average_precision", "box_ap50", "box_ap"}
    assert {name for name, metric in METRICS.items() if not metric.larger_is_better} == smaller
    assert {name for name, metric in METRICS.items() if metric.needs == "boxes"} == of_boxes
    assert {name: metric.monitor for name, metric in METRICS.items() if metric.monitor} == {
        "rsna_mean_average_precision": "box_ap50",
        "macro_f1": "average_precision",
        "balanced_accuracy": "roc_auc",
    }


def test_a_metric_takes_its_settings():
    truth, settings = nothing(3), EvaluateSettings(empty_images="one")
    assert np.isnan(find_metric("rsna_mean_average_precision")(truth, truth))
    assert find_metric("rsna_mean_average_precision", settings)(truth, truth) == 1
    assert find_metric("roc_auc", settings) == METRICS["roc_auc"]


def test_an_unknown_metric():
    with pytest.raises(ConfigError, match="unknown metric 'roc_acu'; did you mean 'roc_auc'"):
        find_metric("roc_acu")

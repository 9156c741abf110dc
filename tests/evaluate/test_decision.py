import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from kit.config import EvaluateSettings
from kit.decisions import Beta, Calibration, ClassFactors, Decision, Isotonic, Platt, Prior, Threshold, Unchanged
from kit.errors import ConfigError
from kit.evaluate import calibration
from kit.evaluate.decision import decide, send
from kit.evaluate.sent import sent, with_decisions
from kit.evaluate.thresholds import class_weights


def tables(y, p, labels, fold=None):
    """Out-of-fold predictions of four folds in turn, and the examples with their truth, in another order."""
    rows = len(y)
    oof = pd.DataFrame({"id": [f"i{n:04}" for n in range(rows)], "fold": np.arange(rows) % 4 if fold is None else fold})
    examples = oof[["id"]].copy()
    for n, label in enumerate(labels):
        oof[f"p_{label}"], examples[f"y_{label}"] = np.float32(p[:, n]), np.float32(y[:, n])
    return oof, examples.sample(frac=1, random_state=0)


def noisy(rows=400, labels=1, seed=0):
    """Labels of a third positives, and overconfident probabilities of them."""
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, labels)) < 1 / 3).astype(float)
    return y, calibration.sigmoid(2 * rng.normal(2 * y - 1, 1.2))


def classes(rows=600, seed=0):
    """Three classes, two of them so rare that argmax seldom predicts them."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, rows, p=[0.8, 0.1, 0.1])
    p = np.exp(rng.normal(np.eye(3)[truth] * 2, 1)) * [0.8, 0.1, 0.1]
    return np.eye(3)[truth], p / p.sum(axis=1, keepdims=True)


def test_a_threshold_and_its_value_by_hand():
    # cuts .8 .6 .4 .2: F1 = 2/3, 1/2, 4/5 (2 of 3, 2 of 2), 2/3
    y, p = np.array([[1.0], [0], [1], [0]]), np.array([[0.8], [0.6], [0.4], [0.2]])
    decision = decide(*tables(y, p, ["x"], fold=0), "binary", False, EvaluateSettings())
    cut = decision.thresholds["x"]
    assert cut.threshold == pytest.approx(0.4)
    assert cut.on_the_rows_that_chose_it["f1"] == pytest.approx(4 / 5)
    assert cut.cross_validated is None  # one fold: nothing else could choose
    assert (decision.labels, decision.task, decision.views) == (("x",), "binary", "none")
    assert decision.calibration == Calibration(kind="none", exclusive=False)
    assert decision.prior is None and decision.classes is None


def test_a_threshold_keeps_its_rule():
    y, p = noisy()
    settings = EvaluateSettings(threshold="sensitivity_at_specificity:0.9")
    cut = decide(*tables(y, p, ["x"]), "binary", False, settings).thresholds["x"]
    positive = np.float32(p[:, 0]) >= cut.threshold
    assert cut.rule == "sensitivity_at_specificity:0.9"
    assert (~positive[y[:, 0] == 0]).mean() >= 0.9
    assert cut.on_the_rows_that_chose_it["recall"] == pytest.approx(positive[y[:, 0] == 1].mean())
    assert 0.8 < cut.cross_validated["specificity"] < 1


def test_thresholds_are_those_of_calibrated_probabilities():
    # Isotonic steps by hand: .1 and .2 -> 0, .3 and .6 (labels 1, 0) -> 1/2, .8 and .9 -> 1. F1 of the raw scores is
    # best from .3 on (3 of 4, 3 of 3: 6/7); calibrated that cut is 1/2, and a raw cut of .3 would be another.
    y = np.array([0.0, 0, 1, 0, 1, 1])[:, None]
    p = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9])[:, None]
    oof, examples = tables(y, p, ["x"], fold=0)
    raw = decide(oof, examples, "binary", False, EvaluateSettings())
    calibrated = decide(oof, examples, "binary", False, EvaluateSettings(calibration="isotonic"))
    assert raw.thresholds["x"].threshold == pytest.approx(0.3)
    assert calibrated.thresholds["x"].threshold == pytest.approx(0.5)
    decided = [with_decisions(decision, sent(decision, oof))["decision"].tolist() for decision in (raw, calibrated)]
    assert decided[0] == decided[1] == ["not x", "not x", "x", "x", "x", "x"]
    # Raw .27 is sent as .35: the calibrated threshold says no to it, the raw one of .3 would say yes.
    new = pd.DataFrame({"id": ["a", "b"], "p_x": [0.35, 0.27]})
    assert sent(calibrated, new)["p_x"].tolist() == pytest.approx([0.5, 0.35], abs=1e-6)
    assert with_decisions(raw, sent(calibrated, new))["decision"].tolist() == ["x", "x"]
    assert with_decisions(calibrated, sent(calibrated, new))["decision"].tolist() == ["x", "not x"]


@pytest.mark.parametrize("kind", ["none", "platt", "isotonic"])
@pytest.mark.parametrize("prevalence", [None, (0.1, 0.6)])
def test_the_nested_value_refits_calibrator_prior_and_threshold(kind, prevalence):
    y, p = noisy(120, labels=2)
    y[np.random.default_rng(1).random(y.shape) < 0.2] = np.nan
    p = np.float32(p).astype(np.float64)
    oof, examples = tables(y, p, "ab")
    settings = EvaluateSettings(calibration=kind, test_prevalence=prevalence)
    decision = decide(oof, examples, "multilabel", False, settings)
    fold = oof["fold"].to_numpy()
    for n, label in enumerate("ab"):
        positive, labelled = np.zeros(len(y), bool), ~np.isnan(y[:, n])
        for k in range(4):
            others = labelled & (fold != k)
            x, truth = p[:, n], y[others, n] > 0.5
            if kind == "platt":
                logit = np.log(x / (1 - x))[:, None]
                x = LogisticRegression(C=np.inf).fit(logit[others], truth).predict_proba(logit)[:, 1]
            elif kind == "isotonic":
                x = IsotonicRegression(out_of_bounds="clip").fit(x[others], truth).predict(x)
            if prevalence is not None:
                odds = x / np.maximum(1 - x, 1e-300) * prevalence[n] / (1 - prevalence[n])
                odds *= (1 - truth.mean()) / truth.mean()
                x = np.where(x == 1, 1, odds / (1 + odds))
            cuts = np.unique(x[others])[::-1]
            best = cuts[np.argmax([round(sk.f1_score(truth, x[others] >= cut - 1e-12), 12) for cut in cuts])]
            positive[fold == k] = x[fold == k] >= best - 1e-12
        nested = decision.thresholds[label].cross_validated
        assert nested["f1"] == pytest.approx(sk.f1_score(y[labelled, n] > 0.5, positive[labelled]))
        assert nested["recall"] == pytest.approx(positive[labelled & (y[:, n] == 1)].mean())


def test_labels_of_one_class_or_of_none():
    y, p = noisy(labels=4)
    y[:, 1], y[:, 2], y[4:, 3] = 0, np.nan, np.nan
    y[:4, 3] = [0, 1, 0, 1]
    settings = EvaluateSettings(calibration="platt", test_prevalence=(0.1, 0.1, 0.1, 0.1))
    decision = decide(*tables(y, p, "abcd", fold=np.arange(400) // 4 % 4), "multilabel", False, settings)
    assert list(decision.thresholds) == ["a", "b", "d"]  # c: nothing is known
    assert decision.thresholds["b"].threshold is None
    assert decision.thresholds["b"].on_the_rows_that_chose_it["recall"] is None
    assert decision.thresholds["d"].threshold is not None
    assert decision.thresholds["d"].cross_validated is None  # one fold has all its known rows
    assert decision.prior.trained == pytest.approx((y[:, 0].mean(), 0, 0, 0.5))
    assert decision.calibration.curves[1:3] == (Unchanged(kind="unchanged"), Unchanged(kind="unchanged"))
    assert Decision.model_validate_json(json.dumps(decision.as_json())) == decision


def balanced_accuracy_of_factors(y, p, fold):
    predicted = np.empty(len(y), int)
    for k in np.unique(fold):
        predicted[fold == k] = (p[fold == k] * class_weights(y[fold != k], p[fold != k])).argmax(axis=1)
    return sk.balanced_accuracy_score(y.argmax(axis=1), predicted)


def test_class_factors_are_applied_where_they_help_cross_validated():
    y, p = classes()
    oof, examples = tables(y, p, "abc")
    decision = decide(oof, examples, "multiclass", True, EvaluateSettings())
    values, truth = decision.classes, y.argmax(axis=1)
    assert values.balanced_accuracy_of_argmax == pytest.approx(sk.balanced_accuracy_score(truth, p.argmax(axis=1)))
    expected = balanced_accuracy_of_factors(y, np.float32(p).astype(float), oof["fold"].to_numpy())
    assert values.balanced_accuracy_cross_validated == pytest.approx(expected)
    assert values.balanced_accuracy_on_the_rows_that_chose_them >= values.balanced_accuracy_cross_validated
    assert values.balanced_accuracy_cross_validated > values.balanced_accuracy_of_argmax + 0.05 and values.applied
    predicted = with_decisions(decision, oof)["decision"].map("abc".index)
    assert sk.balanced_accuracy_score(truth, predicted) == pytest.approx(
        values.balanced_accuracy_on_the_rows_that_chose_them
    )


def test_class_factors_that_only_seem_to_help_are_not_applied():
    rng = np.random.default_rng(8)
    y, p = np.eye(3)[np.arange(60) % 3], rng.dirichlet(np.ones(3), 60)  # uninformative
    oof, examples = tables(y, p, "abc", fold=np.arange(60) // 3 % 4)
    decision = decide(oof, examples, "multiclass", True, EvaluateSettings())
    classes = decision.classes
    assert classes.balanced_accuracy_on_the_rows_that_chose_them > classes.balanced_accuracy_of_argmax
    assert classes.balanced_accuracy_cross_validated <= classes.balanced_accuracy_of_argmax
    assert not classes.applied and set(classes.factors) == {"a", "b", "c"}
    likeliest = [list("abc")[n] for n in p.argmax(axis=1)]
    assert with_decisions(decision, oof)["decision"].tolist() == likeliest


@pytest.mark.parametrize("fold", [0, np.repeat([0, 1, 2], 20)])
def test_class_factors_need_every_class_in_the_other_folds(fold):
    y, p = np.eye(3)[np.repeat([0, 1, 2], 20)], np.full((60, 3), 1 / 3)
    values = decide(*tables(y, p, "abc", fold), "multiclass", True, EvaluateSettings()).classes
    assert values.factors is None and not values.applied
    assert values.balanced_accuracy_of_argmax == pytest.approx(1 / 3)


def test_a_prevalence_by_hand():
    # 1 in 2 in training, 1 in 5 in the test: odds of 1 become 1/4, odds of 4 become 1.
    prior = Prior(trained=(0.5,), test=(0.2,))
    assert send(Calibration(), prior, np.array([[0.5], [0.8]]))[:, 0] == pytest.approx([0.2, 0.5])
    # Calibrated first: a logit of slope 2 makes odds of 2 odds of 4.
    twice = Calibration(kind="platt", curves=(Platt(kind="platt", slope=2, intercept=0),))
    assert send(twice, prior, np.array([[0.5], [2 / 3]]))[:, 0] == pytest.approx([0.2, 0.5])
    assert send(twice, None, np.array([[0.5], [2 / 3]]))[:, 0] == pytest.approx([0.5, 0.8])
    thirds = Prior(trained=(1 / 3, 1 / 3, 1 / 3), test=(0.2, 0.4, 0.4))
    shifted = send(Calibration(exclusive=True), thirds, np.array([[0.5, 0.25, 0.25]]))
    assert shifted[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_a_test_prevalence_corrects_from_the_known_labels_of_training():
    y, p = noisy()
    y[::5] = np.nan
    oof, examples = tables(y, p, ["x"])
    decision = decide(oof, examples, "binary", False, EvaluateSettings(test_prevalence=(0.05,)))
    assert decision.prior.trained == pytest.approx((np.nanmean(y),))
    table = sent(decision, oof)
    p = oof["p_x"].to_numpy(float)
    odds = p / (1 - p) * (0.05 / 0.95) * (1 - np.nanmean(y)) / np.nanmean(y)
    assert table["p_x"].to_numpy() == pytest.approx(odds / (1 + odds))
    assert list(table.columns) == list(oof.columns) and table["p_x"].dtype == np.float64


def test_a_test_prevalence_that_cannot_be_corrected_to():
    oof, examples = tables(*noisy(labels=2), "ab")
    with pytest.raises(ConfigError, match="test_prevalence: give 2 numbers, for a, b"):
        decide(oof, examples, "multilabel", False, EvaluateSettings(test_prevalence=(0.1,)))
    settings = EvaluateSettings(test_prevalence=(0.1, 0.2))
    with pytest.raises(ConfigError, match=r"which balancing .* hid from the model: set evaluate.calibration too"):
        decide(oof, examples, "multilabel", False, settings, balanced=True)
    decide(oof, examples, "multilabel", False, settings)
    calibrated = settings.model_copy(update={"calibration": "platt"})
    assert decide(oof, examples, "multilabel", False, calibrated, balanced=True).prior.test == (0.1, 0.2)


def test_nothing_is_changed_without_calibration_and_prior():
    oof, examples = tables(*noisy(), ["x"])
    assert sent(decide(oof, examples, "binary", False, EvaluateSettings(), views="dihedral"), oof) is oof


def decision_of(labels, thresholds, classes=None):
    cuts = {
        label: Threshold(rule="f1", threshold=value, on_the_rows_that_chose_it={}, cross_validated=None)
        for label, value in thresholds.items()
    }
    return Decision(task="t", labels=labels, views="none", calibration=Calibration(), thresholds=cuts, classes=classes)


def decided(decision, **p):
    table = pd.DataFrame({f"p_{label}": values for label, values in p.items()})
    return with_decisions(decision, table)["decision"].tolist()


def test_decisions_of_one_label():
    assert decided(decision_of(("x",), {"x": 0.4}), x=[0.39, 0.4, 0.41]) == ["not x", "x", "x"]
    assert decided(decision_of(("x",), {"x": None}), x=[0.49, 0.5]) == ["not x", "x"]


def test_decisions_of_several_labels():
    decision = decision_of(("a", "b", "c", "d"), {"a": 0.2, "b": 0.7, "c": None})  # d: without a known row
    p = {"d": [0.6, 0.1, 0.1], "a": [0.2, 0.19, 0.3], "b": [0.69, 0.6, 0.7], "c": [0.5, 0.4, 0.49]}
    assert decided(decision, **p) == ["a|c|d", "none", "a|b"]


def test_decisions_of_classes():
    p = {"a": [0.6, 0.2], "b": [0.3, 0.5], "c": [0.1, 0.3]}
    factors = {"a": 0.4, "b": 1.0, "c": 1.6}
    for classes, expected in (
        (ClassFactors(balanced_accuracy_of_argmax=0.5), ["a", "b"]),
        (ClassFactors(balanced_accuracy_of_argmax=0.5, factors=factors, applied=False), ["a", "b"]),
        (ClassFactors(balanced_accuracy_of_argmax=0.5, factors=factors, applied=True), ["b", "b"]),
    ):
        assert decided(decision_of(("a", "b", "c"), {"a": 0.1, "b": 0.9, "c": None}, classes), **p) == expected


NUMBERS = st.floats(-1e6, 1e6)
SORTED = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(lambda values: tuple(sorted(values)))
CURVES = {
    "platt": st.builds(Platt, kind=st.just("platt"), slope=NUMBERS, intercept=NUMBERS),
    "isotonic": st.builds(Isotonic, kind=st.just("isotonic"), p=SORTED, q=SORTED),
    "beta": st.builds(Beta, kind=st.just("beta"), a=NUMBERS, b=NUMBERS, intercept=NUMBERS),
}


@st.composite
def calibrations(draw):
    kind, exclusive = draw(st.sampled_from(calibration.KINDS)), draw(st.booleans())
    if kind == "none":
        return Calibration(kind=kind, exclusive=exclusive)
    if kind == "temperature":
        return Calibration(kind=kind, exclusive=exclusive, temperature=draw(st.floats(0.02, 60)))
    curve = st.one_of(CURVES[kind], st.just(Unchanged(kind="unchanged")))
    return Calibration(kind=kind, exclusive=exclusive, curves=(draw(curve), draw(curve)))


@given(calibrations(), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_a_calibration_survives_json_bit_for_bit(fitted, seed):
    again = Calibration.model_validate_json(json.dumps(fitted.as_json()))
    assert again == fitted
    p = np.random.default_rng(seed).dirichlet([1, 1], 20)
    p[:2] = [[0, 1], [1, 0]]
    assert (calibration.apply(again, p) == calibration.apply(fitted, p)).all()
    prior = Prior(trained=(0.1, 0.9), test=(1 / 3, 2 / 3))
    assert (send(again, Prior.model_validate_json(json.dumps(prior.as_json())), p) == send(fitted, prior, p)).all()


@pytest.mark.parametrize("kind", calibration.KINDS)
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_decision_survives_json_bit_for_bit(kind, exclusive):
    y, p = classes() if exclusive else noisy(labels=3)
    oof, examples = tables(y, p, "abc")
    options = EvaluateSettings(calibration=kind, test_prevalence=(0.2, 0.3, 0.5))
    decision = decide(oof, examples, "multiclass" if exclusive else "multilabel", exclusive, options, "flips")
    again = Decision.model_validate_json(json.dumps(decision.as_json()))
    assert again == decision and again.views == "flips" and again.calibration.kind == kind
    pd.testing.assert_frame_equal(sent(again, oof), sent(decision, oof), check_exact=True)
    assert with_decisions(again, sent(again, oof)).equals(with_decisions(decision, sent(decision, oof)))


def test_curves_are_scikit_learns_predictions():
    y, p = noisy(500)
    new = np.concatenate([[0.0, 1.0, 1e-9], np.random.default_rng(5).random(200)])
    truth, clipped = y[:, 0] > 0.5, np.clip(new, 1e-7, 1 - 1e-7)

    def fitted(kind):
        return calibration.apply(calibration.fit(kind, y, p, exclusive=False), new[:, None])[:, 0]

    def logistic(features):
        model = LogisticRegression(C=np.inf).fit(features(p[:, 0]), truth)
        assert (model.coef_ > 0).all()
        return model.predict_proba(features(clipped))[:, 1]

    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, 0], truth)
    assert fitted("isotonic") == pytest.approx(isotonic.predict(new), abs=1e-12)
    assert fitted("platt") == pytest.approx(logistic(lambda p: np.log(p / (1 - p))[:, None]), abs=1e-12)
    expected = logistic(lambda p: np.column_stack([np.log(p), -np.log1p(-p)]))
    assert fitted("beta") == pytest.approx(expected, abs=1e-12)

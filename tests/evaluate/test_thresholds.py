import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kit.config import parse_rule
from kit.config.evaluate import _RULES
from kit.errors import ConfigError
from kit.evaluate.thresholds import (
    _OBJECTIVES,
    all_cuts,
    best_threshold,
    class_weights,
    cross_validated,
    cross_validated_classes,
    decided,
)


def counts(y, predicted):
    pairs = (y & predicted, ~y & predicted, y & ~predicted, ~y & ~predicted)
    return tuple(int(pair.sum()) for pair in pairs)


def held_out(p, fold):
    return [(fold == k, p) for k in np.unique(fold)]


def share(part, whole):
    return part / whole if whole else 0.0


def matthews(tp, fp, fn, tn):
    return share(tp * tn - fp * fn, ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5)


# What each rule maximises, by its definition, from tp, fp, fn, tn.
DEFINITIONS = {
    "f1": lambda tp, fp, fn, tn: share(2 * tp, 2 * tp + fp + fn),
    "fbeta:2": lambda tp, fp, fn, tn: share(5 * tp, 5 * tp + fp + 4 * fn),
    "youden": lambda tp, fp, fn, tn: share(tp, tp + fn) - share(fp, fp + tn),
    "mcc": matthews,
    "sensitivity_at_specificity:0.7": lambda tp, fp, fn, tn: (
        share(tp, tp + fn) if 1 - share(fp, fp + tn) >= 0.7 - 1e-12 else -1
    ),
    "specificity_at_sensitivity:0.7": lambda tp, fp, fn, tn: (
        1 - share(fp, fp + tn) if share(tp, tp + fn) >= 0.7 - 1e-12 else -1
    ),
    "cost:1,5": lambda tp, fp, fn, tn: -(fp + 5 * fn),
    "prevalence": lambda tp, fp, fn, tn: -abs(tp + fp - (tp + fn)),
    "prevalence:0.25": lambda tp, fp, fn, tn: -abs(tp + fp - 0.25 * (tp + fp + fn + tn)),
}
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30)


@pytest.mark.parametrize("rule", DEFINITIONS)
@given(rows=ROWS)
@settings(max_examples=100, deadline=None)
def test_no_threshold_is_better_by_brute_force(rule, rows):
    y, p = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 6
    thresholds = [2.0, *np.unique(p)]  # 2: no row is positive
    values = [DEFINITIONS[rule](*counts(y, p >= t)) for t in thresholds]
    chosen = best_threshold(all_cuts(y, p), rule)
    best = max(values)
    assert DEFINITIONS[rule](*counts(y, p >= chosen)) == pytest.approx(best)
    largest = max(t for t, value in zip(thresholds, values, strict=True) if value >= best - 1e-9)
    assert chosen == largest if largest < 2 else chosen > p.max()


def test_by_hand():
    # cuts .8 .6 .4 .2: F1 = 2/3 (1 of 1, 1 of 2), 1/2, 4/5 (2 of 3, 2 of 2), 2/3
    y, p = np.array([1, 0, 1, 0], bool), np.array([0.8, 0.6, 0.4, 0.2])
    assert best_threshold(all_cuts(y, p), "f1") == 0.4
    assert decided(y, p >= 0.4)["f1"] == pytest.approx(4 / 5)


def test_a_threshold_of_float32_scores_cuts_them_as_it_should():
    y, p = np.array([0, 1, 1], bool), np.array([0.1, 0.7, 0.8], np.float32)
    chosen = best_threshold(all_cuts(y, p), "f1")
    assert ((p >= chosen) == y).all()
    none = best_threshold(all_cuts(~y & False, p), "cost:1,1")
    assert not (p >= none).any()


def test_the_cross_validated_value_uses_other_folds_thresholds():
    y = np.array([1, 0, 1, 0, 1, 0, 1, 0], float)
    p = np.array([0.9, 0.8, 0.9, 0.8, 0.3, 0.2, 0.3, 0.2])
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    # Fold 0 cut at fold 1's .3: all four positive (2 right). Fold 1 cut at fold 0's .9: none. F1 = 2*2 / (2*2 + 2 + 2).
    values = cross_validated(y, held_out(p, fold), "f1")
    assert values["f1"] == pytest.approx(0.5)
    assert (values["recall"], values["specificity"]) == (0.5, 0.5)
    assert cross_validated(y, held_out(p, fold * 0), "f1") is None


def test_a_cross_validated_value_uses_known_labels_alone_and_the_other_folds_scores():
    y = np.array([1, 0, np.nan, 1, 0, np.nan])
    p, fold = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.9]), np.array([0, 0, 0, 1, 1, 1])
    assert cross_validated(y, held_out(p, fold), "f1") == cross_validated(
        y[~np.isnan(y)], held_out(p[~np.isnan(y)], fold[~np.isnan(y)]), "f1"
    )
    assert cross_validated(y, held_out(p, fold), "f1")["f1"] < 1
    one_scale = np.array([0.9, 0.8, 0.1, 0.9, 0.8, 0.9])
    assert cross_validated(y, [(fold == 0, one_scale), (fold == 1, one_scale)], "f1")["f1"] == 1


def test_no_cross_validated_value_where_a_single_fold_has_known_labels():
    y, fold = np.array([1, 0, np.nan, np.nan]), np.array([0, 0, 1, 1])
    assert cross_validated(y, held_out(np.array([0.9, 0.1, 0.5, 0.5]), fold), "f1") is None


def test_every_rule_of_the_settings_has_an_objective():
    assert set(_OBJECTIVES) == set(_RULES)


@pytest.mark.parametrize(
    "rule",
    [
        "f2",
        "fbeta",
        "fbeta:x",
        "fbeta:0",
        "cost:1",
        "cost:1,-1",
        "cost:1,inf",
        "prevalence:2",
        "f1:3",
        "sensitivity_at_specificity",
    ],
)
def test_rules_that_do_not_exist(rule):
    with pytest.raises(ConfigError, match="threshold rule"):
        parse_rule(rule)


def test_the_rule_is_named_in_the_error():
    with pytest.raises(ConfigError, match="write cost:FP,FN, the costs of a false positive and a false negative"):
        parse_rule("cost:3")
    with pytest.raises(ConfigError, match="did you mean 'youden'"):
        parse_rule("yuden")


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
@example(17183)  # where it is best never to predict one class
def test_class_factors_are_never_worse_than_argmax(seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(3), rng.choice(3, 40, p=[0.7, 0.2, 0.1])])
    p = rng.dirichlet([4, 2, 1], len(truth)) + 0.2 * np.eye(3)[truth]
    p /= p.sum(axis=1, keepdims=True)
    factors = class_weights(np.eye(3)[truth], p)
    argmax, weighted = (sk.balanced_accuracy_score(truth, q.argmax(axis=1)) for q in (p, p * factors))
    assert weighted >= argmax
    # none of many other factors of one class is better: each is searched exactly
    for c in range(3):
        for factor in np.geomspace(0.01, 100, 41):
            other = factors.copy()
            other[c] *= factor
            assert sk.balanced_accuracy_score(truth, (p * other).argmax(axis=1)) <= weighted + 1e-9


def test_rare_classes_are_predicted_where_argmax_never_does():
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 900, p=[0.9, 0.05, 0.05])
    likelihood = np.exp(rng.normal(np.eye(3)[truth] * 2, 1))
    p = likelihood * [0.9, 0.05, 0.05]
    p /= p.sum(axis=1, keepdims=True)
    classes = cross_validated_classes(np.eye(3)[truth], held_out(p, np.arange(900) % 5))
    assert sk.balanced_accuracy_score(truth, classes) > sk.balanced_accuracy_score(truth, p.argmax(axis=1)) + 0.1

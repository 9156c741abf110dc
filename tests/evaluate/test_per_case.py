"""Cases of several images: their predictions and truths, by hand, and the rule that is tuned, nested."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kit.competition import Target
from kit.decisions import CaseRule
from kit.errors import ConfigError
from kit.evaluate.metrics import METRICS, metric_of
from kit.evaluate.per_case import RULES, by_case, choose_rule, examples_of_cases
from kit.evaluate.validation import epoch_values
from kit.tables import probabilities

NAN = float("nan")
AUC = metric_of(Target("binary", ("x",), "roc_auc"), labels=("x",))


def breasts():
    """Patient p1 with two views of the left breast and one of the right, p2 with one view."""
    return pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "case": ["p1", "p1", "p1", "p2"],
            "side": ["L", "L", "R", "R"],
            "group": ["p1", "p1", "p1", "p2"],
            "split": "train",
            "y_x": [0.0, NAN, 1.0, NAN],
        }
    )


def predictions(*p):
    return pd.DataFrame({"id": ["a", "b", "c", "d"], "fold": [0, 0, 0, 1], "p_x": np.float32(p)})


@pytest.mark.parametrize(
    ("rule", "part", "expected"),
    [
        ("mean", None, (0.1 + 0.3 + 0.8) / 3),
        ("max", None, 0.8),
        ("noisy_or", None, 1 - 0.9 * 0.7 * 0.2),
        ("mean", "side", (0.2 + 0.8) / 2),
        ("max", "side", 0.8),
        ("noisy_or", "side", 1 - 0.8 * 0.2),
    ],
)
def test_rules_by_hand(rule, part, expected):
    table = by_case(predictions(0.1, 0.3, 0.8, 0.5), breasts(), CaseRule(rule=rule, part=part), False)
    assert table["id"].tolist() == ["p1", "p2"] and table["fold"].tolist() == [0, 1]
    assert table["p_x"].tolist() == pytest.approx([expected, 0.5])
    assert table["p_x"].dtype == np.float32


def test_the_largest_mean_of_a_side_is_not_the_largest_image():
    table = by_case(predictions(0.1, 0.9, 0.6, 0.5), breasts(), CaseRule(rule="max", part="side"), False)
    assert table["p_x"][0] == pytest.approx(0.6)


@given(st.integers(0, 10**6), st.sampled_from(RULES))
@settings(max_examples=40, deadline=None)
def test_what_holds_for_every_rule(seed, rule):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"id": [f"i{n}" for n in range(30)], "case": rng.integers(0, 9, 30).astype(str)})
    p = pd.DataFrame({"id": rows["id"], "fold": 0, "p_x": rng.random(30), "p_y": rng.random(30)})
    table = by_case(p, rows, CaseRule(rule=rule), False)
    shuffled = by_case(
        p.sample(frac=1, random_state=seed), rows.sample(frac=1, random_state=seed), CaseRule(rule=rule), False
    )
    pd.testing.assert_frame_equal(table, shuffled)
    assert table["id"].tolist() == sorted(rows["case"].unique())
    each = p.assign(case=rows["case"]).groupby("case")[["p_x", "p_y"]]
    low, high = each.min().to_numpy(), each.max().to_numpy()
    assert (probabilities(table) >= low - 1e-6).all()  # more images never say less than the least of them
    if rule != "noisy_or":
        assert (probabilities(table) <= high + 1e-6).all()
    alone = by_case(p, rows.assign(case=rows["id"]), CaseRule(rule=rule), False)
    assert probabilities(alone) == pytest.approx(p.sort_values("id")[["p_x", "p_y"]].to_numpy(), abs=1e-6)


def test_classes_of_a_case_sum_to_one():
    rows = pd.DataFrame({"id": list("abcd"), "case": list("uuvv")})
    p = pd.DataFrame({"id": list("abcd"), "p_x": [0.9, 0.2, 0.5, 0.5], "p_y": [0.1, 0.8, 0.5, 0.5]})
    for rule in RULES:
        assert probabilities(by_case(p, rows, CaseRule(rule=rule), True)).sum(axis=1) == pytest.approx([1, 1])


def test_a_case_has_what_any_of_its_images_has():
    cases = examples_of_cases(breasts(), False)
    assert cases["id"].tolist() == ["p1", "p2"] and cases["side"].tolist() == ["L", "R"]
    assert cases["y_x"][0] == 1 and np.isnan(cases["y_x"][1])
    unknown = breasts().assign(y_x=[0.0, NAN, 0.0, 0.0])  # a view of which nothing is known might have it
    assert np.isnan(examples_of_cases(unknown, False)["y_x"][0])


def test_a_part_that_the_table_does_not_have():
    with pytest.raises(
        ConfigError, match=r"evaluate\.case_part: the example table has no column 'sides'; did you mean 'side'"
    ):
        by_case(predictions(0, 0, 0, 0), breasts(), CaseRule(rule="max", part="sides"), False)


def drawn(seed, informative, cases=200, views=3):
    """Cases of three views; the finding shows in one view alone, or nothing says anything of it."""
    rng = np.random.default_rng(seed)
    true = np.arange(cases) % 2
    shows = (rng.integers(0, views, cases)[:, None] == np.arange(views)) & (true[:, None] == 1) & informative
    p = np.clip(rng.uniform(0.05, 0.5, (cases, views)) + 0.45 * shows, 0, 1)
    ids, names = [f"i{n:04}" for n in range(cases * views)], np.repeat([f"c{n:03}" for n in range(cases)], views)
    examples = pd.DataFrame(
        {"id": ids, "case": names, "group": names, "split": "train", "y_x": np.repeat(true, views) * 1.0}
    )
    fold = np.repeat(rng.permutation(cases) % 4, views)
    return pd.DataFrame({"id": ids, "fold": fold, "p_x": np.float32(p.ravel())}), examples


def test_the_rule_that_fits_is_found():
    oof, examples = drawn(0, informative=True)
    rule, nested = choose_rule(oof, examples, AUC, "tuned", None)
    assert rule.rule == "max" and rule.metric == "roc_auc"
    largest = oof.assign(case=examples["case"], y=examples["y_x"]).groupby("case").agg({"p_x": "max", "y": "max"})
    expected = roc_auc_score(largest["y"], largest["p_x"])
    assert rule.on_the_cases_that_chose_it["max"] == pytest.approx(expected)
    assert rule.nested == pytest.approx(expected)  # every fold's others choose it, too
    assert len(nested) == 200 and nested["id"].is_unique


def test_a_fold_does_not_choose_its_own_rule():
    oof, examples = drawn(0, informative=True)
    _, nested = choose_rule(oof, examples, AUC, "tuned", None)
    own = oof["fold"] == 2
    changed = examples.assign(y_x=np.where(own, 1 - examples["y_x"], examples["y_x"]))
    _, again = choose_rule(oof, changed, AUC, "tuned", None)
    inside = nested["fold"] == 2
    assert (nested["p_x"][inside] == again["p_x"][inside]).all()


def test_the_nested_value_of_noise_shows_no_gain():
    best, honest = [], []
    for seed in range(40):
        rule, _ = choose_rule(*drawn(seed, informative=False, cases=60), AUC, "tuned", None)
        best.append(max(rule.on_the_cases_that_chose_it.values()))
        honest.append(rule.nested)
    error = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(best) > 0.51 and np.mean(honest) < 0.5 + 3 * error


def test_a_rule_that_is_named_is_taken_as_it_is():
    oof, examples = drawn(0, informative=True)
    rule, table = choose_rule(oof, examples, AUC, "noisy_or", None)
    assert rule == CaseRule(rule="noisy_or", part=None) and rule.nested is None
    pd.testing.assert_frame_equal(table, by_case(oof, examples, rule, False))


def test_epochs_are_chosen_by_cases():
    oof, examples = drawn(0, informative=True)
    means = oof.assign(case=examples["case"], y=examples["y_x"]).groupby("case")[["p_x", "y"]].mean()
    values = epoch_values(oof, examples, ["x"], "binary", METRICS["roc_auc"])
    assert values["val_roc_auc"] == pytest.approx(roc_auc_score(means["y"], means["p_x"]))

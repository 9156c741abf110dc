"""Metrics of competitions, each against an independent implementation: scikit-learn's, or the published formula."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kit.competition import Target
from kit.config import EvaluateSettings
from kit.errors import ConfigError
from kit.evaluate import ensemble
from kit.evaluate.blend import Rows
from kit.evaluate.decision import as_scored, decide, decisions_of
from kit.evaluate.metrics import METRICS, metric_of, monitor_of
from kit.evaluate.resample import numbered, statistic
from kit.evaluate.score import Yardstick, compare_runs, score
from kit.evaluate.validation import epoch_values

NAN = float("nan")
SEEDS = st.integers(0, 10**6)
OF_PROBABILITIES = [name for name, metric in METRICS.items() if metric.needs == "probabilities"]
TRAUMA = {
    "bowel": ["bowel_healthy", "bowel_injury"],
    "extravasation": ["extravasation_healthy", "extravasation_injury"],
    **{organ: [f"{organ}_{grade}" for grade in ("healthy", "low", "high")] for organ in ("kidney", "liver", "spleen")},
}
TRAUMA_LABELS = [name for group in TRAUMA.values() for name in group]
TRAUMA_WEIGHTS = {
    "bowel_injury": 2,
    "extravasation_injury": 6,
    **{
        f"{organ}_{grade}": weight
        for organ in ("kidney", "liver", "spleen")
        for grade, weight in (("low", 2), ("high", 4))
    },
}


def bound(name, labels=(), exclusive=False, settings=None, **options):
    return metric_of(Target("", (), name, metric_options=options), settings, labels, exclusive)


def drawn(seed, rows=60, labels=1):
    """Labels of which both classes occur, and probabilities with ties."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (rows, labels)).astype(float)
    y[:2] = [[0.0], [1.0]]
    return y, rng.integers(0, 12, (rows, labels)) / 11


def drawn_classes(seed, rows=80, classes=5):
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    p = rng.dirichlet(np.ones(classes), rows) + 0.3 * np.eye(classes)[true]
    return np.eye(classes)[true], p / p.sum(axis=1, keepdims=True)


@given(SEEDS, st.sampled_from([0.0, 0.5, 0.8, 0.95]))
@settings(max_examples=60, deadline=None)
def test_partial_auc_is_scikit_learns_on_exchanged_classes(seed, above):
    y, p = drawn(seed)
    limit = 1 - above
    # McClish's standardised value, scaled back; of the exchanged classes, for scikit-learn limits the other rate.
    scaled = sk.roc_auc_score(1 - y[:, 0], -p[:, 0], max_fpr=limit)
    expected = scaled if limit == 1 else limit**2 / 2 + (limit - limit**2 / 2) * 2 * (scaled - 0.5)
    assert bound("partial_auc", above=above)(y, p) == pytest.approx(expected)


def test_partial_auc_of_perfect_and_of_constant_predictions():
    y = np.array([[0.0], [0], [1], [1]])
    assert bound("partial_auc")(y, y) == pytest.approx(0.2)  # the whole of the strip
    assert bound("partial_auc")(y, y * 0 + 0.5) == pytest.approx(0.02)  # the triangle below the diagonal
    assert np.isnan(bound("partial_auc")(y * 0, y))


def published_pfbeta(labels, predictions, beta):
    """As RSNA 2022 published it, row by row."""
    y_true_count, ctp, cfp = 0, 0, 0
    for label, raw in zip(labels, predictions, strict=True):
        prediction = min(max(raw, 0), 1)
        if label:
            y_true_count += 1
            ctp += prediction
        else:
            cfp += prediction
    c_precision, c_recall = ctp / (ctp + cfp), ctp / y_true_count
    if c_precision > 0 and c_recall > 0:
        return (1 + beta**2) * (c_precision * c_recall) / (beta**2 * c_precision + c_recall)
    return 0


@given(SEEDS, st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_pfbeta_is_the_published_one(seed, beta):
    y, p = drawn(seed)
    metric = bound("pfbeta", beta=beta)
    assert metric(y, p) == pytest.approx(published_pfbeta(y[:, 0], p[:, 0], beta))
    hard = (p > 0.5).astype(float)  # of hard predictions it is the plain one
    assert metric(y, hard) == pytest.approx(sk.fbeta_score(y[:, 0], hard[:, 0], beta=beta, zero_division=0))
    assert metric.rule == f"fbeta:{beta:g}"


def test_pfbeta_where_nothing_is_there_or_nothing_is_found():
    y = np.array([[0.0], [1]])
    assert bound("pfbeta")(y, y * 0) == 0
    assert np.isnan(bound("pfbeta")(y * 0, y))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_weighted_log_loss_of_haemorrhages(seed):
    labels = ["any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]
    y, p = drawn(seed, labels=6)
    p = np.clip(p, 0.01, 0.99)
    weights = np.tile([2.0, 1, 1, 1, 1, 1], (len(y), 1))  # as in 2019, of all rows and labels together
    expected = sk.log_loss(y.ravel(), p.ravel(), sample_weight=weights.ravel())
    assert bound("weighted_log_loss", labels, weights={"any": 2})(y, p) == pytest.approx(expected)
    assert bound("weighted_log_loss", labels)(y, p) == pytest.approx(METRICS["log_loss"](y, p))


def published_trauma_score(solution, submission):
    """As RSNA 2023 published it, with scikit-learn."""
    losses, healthy = [], []
    for group in TRAUMA.values():
        share = submission[group].div(submission[group].sum(axis=1), axis=0)
        weight = solution[group] @ [TRAUMA_WEIGHTS.get(name, 1) for name in group]
        losses.append(sk.log_loss(solution[group].to_numpy(), share.to_numpy(), sample_weight=weight))
        healthy.append(share[group[0]])
    injured = 1 - solution[[group[0] for group in TRAUMA.values()]].min(axis=1)
    any_injury = (1 - pd.concat(healthy, axis=1)).max(axis=1)
    losses.append(sk.log_loss(injured, any_injury, sample_weight=np.where(injured == 1, 6, 1)))
    return np.mean(losses)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_grouped_log_loss_of_abdominal_trauma(seed):
    rng = np.random.default_rng(seed)
    y = np.hstack([np.eye(len(group))[rng.integers(0, len(group), 50)] for group in TRAUMA.values()])
    y[0] = np.hstack([np.eye(len(group))[0] for group in TRAUMA.values()])  # nobody is healthy throughout by chance
    p = rng.uniform(0.05, 0.9, y.shape)
    solution, submission = (pd.DataFrame(values, columns=TRAUMA_LABELS) for values in (y, p))
    metric = bound("grouped_log_loss", TRAUMA_LABELS, groups=TRAUMA, weights=TRAUMA_WEIGHTS)
    assert metric(y, p) == pytest.approx(published_trauma_score(solution, submission))
    y[3, :2] = NAN  # unknown: not a row of its group, nor of any injury
    assert np.isfinite(metric(y, p))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_weighted_auc_of_aneurysms(seed):
    labels = [*(f"place {n}" for n in range(13)), "Aneurysm Present"]
    y, p = drawn(seed, labels=14)
    each = [sk.roc_auc_score(y[:, n], p[:, n]) for n in range(14)]
    metric = bound("weighted_auc", labels, weights={"Aneurysm Present": 13})
    assert metric(y, p) == pytest.approx((each[13] + np.mean(each[:13])) / 2)  # as the page of 2025 has it
    assert metric.only([3])(y[:, [3]], p[:, [3]]) == pytest.approx(each[3])


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_metrics_of_classes_are_scikit_learns(seed):
    y, p = drawn_classes(seed)
    true, decided = y.argmax(axis=1), p.argmax(axis=1)
    labels = list("abcde")
    kappa = sk.cohen_kappa_score(true, decided, weights="quadratic", labels=range(5))
    assert bound("quadratic_kappa", labels, True)(y, p) == pytest.approx(kappa)
    assert bound("balanced_accuracy", labels, True)(y, p) == pytest.approx(sk.balanced_accuracy_score(true, decided))
    assert bound("macro_f1", labels, True)(y, p) == pytest.approx(sk.f1_score(true, decided, average="macro"))


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_metrics_of_decided_labels_are_scikit_learns(seed):
    y, p = drawn(seed, labels=3)
    decided = p >= 0.5
    decided[0] = True
    p = decided.astype(float)
    labels = list("abc")
    assert bound("macro_f1", labels)(y, p) == pytest.approx(sk.f1_score(y, decided, average="macro"))
    for name, theirs in (("balanced_accuracy", sk.balanced_accuracy_score), ("quadratic_kappa", sk.cohen_kappa_score)):
        expected = np.mean([theirs(y[:, n], decided[:, n]) for n in range(3)])
        assert bound(name, labels)(y, p) == pytest.approx(expected), name


def harrell(time, event, risk):
    """Pair by pair: comparable where one is known to have its event before the other's time (or its last visit)."""
    ordered, pairs = 0.0, 0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                pairs += 1
                ordered += (risk[i] > risk[j]) + (risk[i] == risk[j]) / 2
    return ordered / pairs


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_c_index_is_harrells(seed):
    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 12, 40), rng.random(40) < 0.6
    event[0] = True
    ends = np.unique(time[event])  # a label for each time at which there is an event: "by then"
    y = np.where(event[:, None] & (time[:, None] <= ends), 1.0, np.where(time[:, None] >= ends, 0.0, NAN))
    p = np.sort(rng.integers(0, 9, (40, len(ends))) / 8, axis=1)
    assert METRICS["c_index"](y, p) == pytest.approx(harrell(time, event, p.sum(axis=1)))


def test_the_c_index_of_one_label_is_the_auc():
    y, p = drawn(0)
    assert METRICS["c_index"](y, p) == pytest.approx(sk.roc_auc_score(y, p))


@pytest.mark.parametrize("name", ["partial_auc", "weighted_auc", "c_index"])
@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_metrics_of_ranks_do_not_see_how_scores_are_scaled(name, seed):
    y, p = drawn(seed)
    assert METRICS[name](y, p) == pytest.approx(METRICS[name](y, p**3))
    exchanged = METRICS["weighted_auc"](y, p) + METRICS["weighted_auc"](1 - y, p)
    assert exchanged == pytest.approx(1)


@pytest.mark.parametrize("name", OF_PROBABILITIES)
@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_no_metric_depends_on_the_order_of_rows_or_counts_unknown_ones(name, seed):
    y, p = drawn(seed, labels=2)
    order = np.random.default_rng(seed).permutation(len(y))
    metric = bound(name, ("a", "b"))
    assert metric(y[order], p[order]) == pytest.approx(metric(y, p))
    unknown = np.vstack([y, [[NAN, NAN]]]), np.vstack([p, [[0.3, 0.9]]])
    assert metric(*unknown) == pytest.approx(metric(y, p))


@given(SEEDS, st.sampled_from(["macro_f1", "balanced_accuracy", "quadratic_kappa", "grouped_log_loss"]))
@settings(max_examples=60, deadline=None)
def test_a_resample_of_classes_is_the_metric_of_the_rows_drawn(seed, name):
    rng = np.random.default_rng(seed)
    y, p = drawn_classes(seed, 30, 4)
    options = (
        {"groups": {"one": ["a", "b"], "two": ["c", "d"]}, "weights": {"b": 3}} if name.startswith("grouped") else {}
    )
    metric = bound(name, tuple("abcd"), True, **options)
    p = np.eye(4)[p.argmax(axis=1)] if metric.decisions else p
    group_of, count = numbered(rng.integers(0, 12, 30))
    times = rng.integers(0, 4, count)
    rows = np.repeat(np.arange(30), times[group_of])
    if len(rows):
        each = [metric.only([n])(y[rows][:, [n]], p[rows][:, [n]]) for n in range(4)]
        expected = [metric(y[rows], p[rows]), *each]
        assert statistic(metric, y, p, group_of)(times) == pytest.approx(expected, nan_ok=True)


def test_a_metric_without_a_resampled_form_is_called_with_the_rows_drawn():
    y, p = drawn(0, labels=2)
    plain = replace(METRICS["roc_auc"], name="mine", resampled=None)
    times = np.random.default_rng(0).integers(0, 3, len(y))
    expected = statistic(METRICS["roc_auc"], y, p, np.arange(len(y)))(times)
    assert statistic(plain, y, p, np.arange(len(y)))(times) == pytest.approx(expected)
    assert np.isnan(statistic(plain, y, p, np.arange(len(y)))(times * 0)).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("roc_auc", {"weights": {}}, "roc_auc takes no option 'weights'; it takes none"),
        ("partial_auc", {"abov": 0.8}, "takes no option 'abov'; did you mean 'above'"),
        ("partial_auc", {"above": 1}, "metric_options.above = 1: a true-positive rate from 0 on and below 1"),
        ("pfbeta", {"beta": 0}, "metric_options.beta = 0: a number above 0"),
        ("weighted_auc", {"weights": {"b": -1}}, "a number for each label is needed"),
        ("weighted_auc", {"weights": {"c": 2}}, "metric_options.weights: there is no label 'c'"),
        ("grouped_log_loss", {"groups": {"x": ["a"]}}, "lists of two or more labels"),
        ("grouped_log_loss", {"groups": {"x": ["a", "c"]}}, "metric_options.groups: there is no label 'c'"),
    ],
)
def test_options_that_a_metric_does_not_take(name, options, message):
    with pytest.raises(ConfigError, match=message):
        bound(name, ("a", "b"), **options)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_scores_intervals_blends_and_monitoring_work_with_each(name, exclusive):
    rng, labels, count = np.random.default_rng(0), ("a", "b", "c"), 150
    true = rng.integers(0, 3, count)
    y = np.eye(3)[true] if exclusive else rng.integers(0, 2, (count, 3)).astype(float)
    raw = rng.dirichlet(np.ones(3), (2, count)) + y[None] * 0.4
    members = raw / raw.sum(axis=2, keepdims=True) if exclusive else np.clip(raw, 0, 1)
    ids = [f"i{n}" for n in range(count)]
    examples = pd.DataFrame(
        {"id": ids, "group": ids, "split": "train", **{f"y_{x}": y[:, n] for n, x in enumerate(labels)}}
    )
    tables = [
        pd.DataFrame({"id": ids, "fold": np.arange(count) % 3, **{f"p_{x}": p[:, n] for n, x in enumerate(labels)}})
        for p in members
    ]
    options = EvaluateSettings(resamples=100)
    metric = bound(name, labels, exclusive, options)
    task = "multiclass" if exclusive else "multilabel"
    decision = decide(tables[0], examples, task, exclusive, options, metric=metric)
    scores = score(tables[0], tables[0].head(0).drop(columns="fold"), examples, Yardstick(metric, exclusive, options))
    assert scores.interval.low <= scores.value <= scores.interval.high
    assert set(scores.labels) == set(labels) and all(each.value is not None for each in scores.labels.values())
    assert scores.value == pytest.approx(metric(y, as_scored(metric, y, members[0], tables[0]["fold"].to_numpy())))
    assert decision.sends == ("decisions" if metric.decisions else "probabilities")
    assert set(np.unique(decisions_of(decision, members[0]))) == {0.0, 1.0}
    values = epoch_values(tables[0], examples, labels, task, metric)
    assert np.isfinite(values[f"val_{monitor_of(metric).name}"])
    same, other = compare_runs(dict(zip("ab", tables, strict=True)), examples, metric, options)
    assert same.difference == 0 and other.low <= other.high
    rows = Rows(members, y, metric, exclusive, pd.DataFrame(index=range(count)))
    table, _ = ensemble.compare_blends(
        ["best_single", "greedy"], rows, np.arange(count) % 3, np.arange(count), 100, 0.95
    )
    assert table["nested"].notna().all() and ensemble.choose_blend(table) in table.index


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "quadratic_kappa"])
def test_decisions_are_scored_by_cuts_that_other_folds_choose(name):
    """A model whose probabilities are all small: cut at .5 it finds nothing, and the cut of a fold is no other's."""
    rng = np.random.default_rng(0)
    y, fold = (rng.random((400, 1)) < 0.2).astype(float), np.arange(400) % 4
    p = np.clip(0.05 + 0.1 * y + rng.normal(0, 0.04, (400, 1)), 0, 0.4)
    metric = bound(name, ("a",), settings=EvaluateSettings())
    measured = as_scored(metric, y, p, fold)
    assert metric(y, measured) > metric(y, p) + 0.3
    assert set(np.unique(measured)) == {0.0, 1.0}
    changed = y.copy()
    changed[fold == 1] = 1 - changed[fold == 1]  # the truth of a fold decides nothing in it
    assert (as_scored(metric, changed, p, fold)[fold == 1] == measured[fold == 1]).all()


def test_probabilities_can_be_sent_as_decisions():
    y, p = drawn(0, 200)
    metric = bound("pfbeta", ("a",), settings=EvaluateSettings(send="decisions"))
    assert metric.decisions and set(np.unique(as_scored(metric, y, p, np.arange(200) % 4))) <= {0.0, 1.0}
    assert not bound("macro_f1", ("a",), settings=EvaluateSettings(send="probabilities")).decisions

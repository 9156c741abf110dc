"""Labels that look wrong, against cleanlab, the authors' own code, on planted errors."""

import numpy as np
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
from cleanlab.rank import get_label_quality_scores

from kit.evaluate.label_errors import CLASS, COLUMNS, confident, label_errors

ROWS, FIRST = 3000, 50
RNG = np.random.default_rng


def _frames(y, p, labels):
    ids = [f"image{n}" for n in range(len(y))]
    oof = pd.DataFrame({"id": ids, "fold": 0, **{f"p_{name}": p[:, n] for n, name in enumerate(labels)}})
    examples = pd.DataFrame({"id": ids, **{f"y_{name}": y[:, n] for n, name in enumerate(labels)}})
    return oof, examples.sample(frac=1, random_state=0).astype({f"y_{name}": np.float32 for name in labels})


def _yes_or_no(seed, share):
    """Labels of which 5 % are turned, and the probabilities of a fair model of the true ones: int [rows], [rows]."""
    rng = RNG(seed)
    true = rng.random(ROWS) < share
    p = 1 / (1 + np.exp(-rng.normal(np.where(true, 2.0, -2.0), 1.2)))
    turned = rng.random(ROWS) < 0.05
    return (true ^ turned).astype(int), p.astype(np.float32).astype(np.float64), turned


def _of_cleanlab(given, p):
    """Ids of cleanlab's label issues by the confident joint, ranked by normalised margin."""
    found = find_label_issues(
        given, p, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    return [f"image{n}" for n in found]


@pytest.mark.once
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_binary_labels_are_those_of_cleanlab(share):
    given, p, turned = _yes_or_no(0, share)
    table = label_errors(*_frames(given[:, None], p[:, None], ["tumour"]), ["tumour"], exclusive=False)
    expected = _of_cleanlab(given, np.stack([1 - p, p], axis=1))
    assert {*table["id"]} == {*expected}
    assert len({*table["id"][:FIRST]} & {*expected[:FIRST]}) >= 0.9 * FIRST
    assert [*table.columns] == [*COLUMNS] and [*table["rank"]] == [*range(1, len(table) + 1)]
    number = table["id"].str.removeprefix("image").astype(int)
    assert (table["given"] == given[number].astype(str)).all() and (table["given"] != table["suggested"]).all()
    np.testing.assert_allclose(table["p"], np.where(given == 1, p, 1 - p)[number])
    assert turned[number[:FIRST]].mean() > 0.9  # it finds what was planted


@pytest.mark.once
def test_classes_are_those_of_cleanlab():
    rng, names = RNG(1), ["benign", "malignant", "normal", "rare"]
    true = rng.choice(4, ROWS, p=[0.4, 0.3, 0.27, 0.03])
    logits = rng.normal(0, 1, (ROWS, 4))
    logits[np.arange(ROWS), true] += 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    turned = rng.random(ROWS) < 0.06
    given = np.where(turned, (true + rng.integers(1, 4, ROWS)) % 4, true)
    table = label_errors(*_frames(np.eye(4)[given], p, names), names, exclusive=True)
    expected = _of_cleanlab(given, p)
    assert {*table["label"]} == {CLASS} and {*expected} <= {*table["id"]}
    kept = [int(name.removeprefix("image")) for name in {*table["id"]} - {*expected}]
    assert (p[kept].argmax(axis=1) == given[kept]).all()  # cleanlab leaves out what is the likeliest class all the same
    assert len({*table["id"][:FIRST]} & {*expected[:FIRST]}) >= 0.9 * FIRST
    number = table["id"].str.removeprefix("image").astype(int)
    assert [*table["given"]] == [names[n] for n in given[number]]
    quality = get_label_quality_scores(given, p, method="normalized_margin")
    np.testing.assert_allclose(table["score"], quality[number], atol=1e-6)
    assert (turned[number[:FIRST]]).mean() > 0.9


@pytest.mark.once
def test_several_labels_are_those_of_cleanlab_and_unknown_ones_are_left_out():
    names = ["mass", "nodule", "hernia"]
    columns = [_yes_or_no(seed, share)[:2] for seed, share in enumerate([0.3, 0.2, 0.05])]
    given, p = (np.stack([column[n] for column in columns], axis=1) for n in (0, 1))
    oof, examples = _frames(given, p, names)
    table = label_errors(oof, examples, names, exclusive=False)
    listed = [list(np.flatnonzero(row)) for row in given]
    for n, name in enumerate(names):
        own = table[table["label"] == name]
        expected, *_ = find_multilabel_issues_per_class(
            listed, p, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
        )
        expected = [f"image{row}" for row in expected[n]]
        assert len({*own["id"][:FIRST]} & {*expected[:FIRST]}) >= 0.9 * min(FIRST, len(expected))
    known = examples["id"].str.removeprefix("image").astype(int) >= 500
    unknown = examples.assign(y_mass=examples["y_mass"].where(known))
    rest = label_errors(oof, unknown, names, exclusive=False)
    first = {f"image{n}" for n in range(500)}
    assert not first & {*rest["id"][rest["label"] == "mass"]}
    pd.testing.assert_frame_equal(
        rest[rest["label"] != "mass"].drop(columns="rank").reset_index(drop=True),
        table[table["label"] != "mass"].drop(columns="rank").reset_index(drop=True),
    )


@pytest.mark.once
def test_the_rule_by_hand():
    """Means of the given: class 0 (.9 + .8 + .2) / 3 = .633, class 1 (.7 + .9) / 2 = .8."""
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    assert [*confident(np.array([0, 0, 0, 1, 1]), p)] == [0, 0, 1, 1, 1]


@pytest.mark.once
@pytest.mark.parametrize("exclusive", [False, True])
def test_labels_without_errors_and_boxes_give_an_empty_table(exclusive):
    y, names = np.eye(2)[[0, 0, 1]], ["a", "b"]
    oof, examples = _frames(y, np.where(y > 0, 0.9, 0.1), names)
    assert label_errors(oof, examples, names, exclusive).empty
    constant = examples.assign(y_a=np.float32(1), y_b=np.float32(0))
    assert label_errors(oof, constant, names, exclusive).empty  # no image of the other class: nothing to compare with
    of_boxes = pd.DataFrame({"id": examples["id"], "fold": 0, "boxes": [[]] * 3})
    table = label_errors(of_boxes, examples, names, exclusive)
    assert table.empty and [*table.columns] == [*COLUMNS]

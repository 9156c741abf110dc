"""Boosted trees that correct a head by metadata: against LightGBM, on what can be found, and on noise."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.metrics import log_loss, roc_auc_score

from kit.errors import ConfigError
from kit.models.boosted import Boosted, BoostedModel, Tree, logits
from kit.train import gbdt

pytestmark = pytest.mark.once


def patients(rng, count, each):
    """Lesions, of which the largest of each patient are malignant; sizes differ more between patients."""
    groups = np.repeat(np.arange(count), each)
    size = 5 * rng.normal(size=count)[groups] + rng.normal(size=len(groups))
    z = size - pd.Series(size).groupby(groups).transform("mean").to_numpy()
    y = (z + 0.3 * rng.normal(size=len(groups)) > 0.8).astype(float)
    sex = rng.choice(["f", "m", None], len(groups))
    return pd.DataFrame({"group": groups.astype(str), "size": size, "sex": sex}), y[:, None], groups


@pytest.mark.parametrize("classes", [1, 3])
def test_trees_are_lightgbms(classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 3] = np.nan_to_num(x[:, 3])  # lacks no value in training
    y = np.nan_to_num(x[:, 0]) + np.isnan(x[:, 1]) + 0.3 * rng.normal(size=500)
    target = np.digitize(y, [0.5] if classes == 1 else [0, 1]).astype(float)
    objective = {"objective": "cross_entropy"} if classes == 1 else {"objective": "multiclass", "num_class": classes}
    booster = lightgbm.train({**objective, "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, target), 20)
    trees = [gbdt._tree(each["tree_structure"]) for each in booster.dump_model()["tree_info"]]
    new = rng.normal(size=(300, 4))
    new[rng.random(new.shape) < 0.2] = np.nan
    for rows in (x, new):
        ours = np.stack([sum(tree.predict(rows) for tree in trees[n::classes]) for n in range(classes)], axis=1)
        np.testing.assert_allclose(ours, booster.predict(rows, raw_score=True).reshape(-1, classes), atol=1e-12)


def test_what_is_large_for_its_patient_is_found():
    rng = np.random.default_rng(1)
    table, y, groups = patients(rng, 60, 10)
    train, base = groups < 40, np.full(y.shape, y.mean())
    found = {}
    for per_group in (False, True):
        trees = gbdt.fit(
            base[train],
            table[train],
            y[train],
            groups[train] % 5,
            exclusive=False,
            names=["size", "sex"],
            per_group=per_group,
        )
        assert Boosted.model_validate_json(trees.model_dump_json()) == trees
        p = trees.probabilities(base[~train], table[~train])
        assert p.dtype == np.float32
        found[per_group] = roc_auc_score(y[~train, 0], p[:, 0])
    assert found[True] > 0.95
    assert found[False] < 0.75


def test_the_same_seed_gives_the_same_trees():
    table, y, groups = patients(np.random.default_rng(2), 20, 10)
    base = np.full(y.shape, 0.3)
    options = {"exclusive": False, "names": ["size"], "per_group": True}
    trees = [gbdt.fit(base, table, y, groups % 3, seed=seed, **options) for seed in (1, 1, 2)]
    assert trees[0] == trees[1] != trees[2]


def test_noise_is_no_gain():
    """Where metadata say nothing, the head is left as it is, or nearly; fitted and scored on other rows."""
    losses = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n = 400
        score = rng.normal(size=n)
        y = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float)[:, None]
        base = (1 / (1 + np.exp(-score)))[:, None]
        table = pd.DataFrame(rng.normal(size=(n, 6)), columns=list("abcdef")).assign(group=np.arange(n) // 4)
        train = np.arange(n) < n // 2
        inner = (np.arange(n) // 4 % 5)[train]
        names = list("abcdef")
        trees = gbdt.fit(
            base[train], table[train], y[train], inner, exclusive=False, names=names, per_group=True, seed=seed
        )
        after = trees.probabilities(base[~train], table[~train])[:, 0]
        losses.append(log_loss(y[~train, 0], after) - log_loss(y[~train, 0], base[~train, 0]))
    assert -0.002 < np.mean(losses) < 0.01


def test_exclusive_classes_unknown_labels_and_classes_that_are_missing():
    rng = np.random.default_rng(3)
    n = 300
    site = rng.integers(0, 3, n)
    classes = np.where(rng.random(n) < 0.9, site, rng.integers(0, 3, n))
    y = np.eye(4, dtype=np.float32)[classes]  # the fourth class does not occur
    y[:20] = np.nan
    table = pd.DataFrame({"group": np.arange(n).astype(str), "site": np.array(["arm", "back", "leg"])[site]})
    base = np.full((n, 4), 0.25, np.float32)
    trees = gbdt.fit(base, table, y, np.arange(n) % 3, exclusive=True, names=["site"])
    p = trees.probabilities(base, table)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert (p.argmax(axis=1) == site).mean() > 0.95
    assert p[:, 3].max() < 0.05


def test_labels_of_their_own_one_of_which_is_constant_or_unknown():
    table, y, groups = patients(np.random.default_rng(4), 30, 10)
    labels = np.column_stack([y[:, 0], np.zeros(len(y)), np.full(len(y), np.nan)])
    labels[::7, 0] = np.nan
    base = np.full(labels.shape, 0.2, np.float32)
    trees = gbdt.fit(base, table, labels, groups % 5, exclusive=False, names=["size"], per_group=True)
    assert [bool(each) for each in trees.trees] == [True, False, False]
    p = trees.probabilities(base, table)
    np.testing.assert_allclose(p[:, 1:], 0.2, atol=1e-6)
    assert roc_auc_score(y[:, 0], p[:, 0]) > 0.95


def test_a_rare_label_gets_no_trees():
    table, y, groups = patients(np.random.default_rng(7), 40, 10)
    base = np.full(y.shape, 0.2)
    options = {"exclusive": False, "names": ["size"], "per_group": True}
    for most, expected in ((29, False), (31, True)):
        kept = y * (np.cumsum(y) <= most)[:, None]
        assert bool(gbdt.fit(base, table, kept, groups % 5, **options).trees[0]) == expected


def test_a_single_inner_fold_fits_nothing():
    table, y, _ = patients(np.random.default_rng(5), 10, 10)
    trees = gbdt.fit(np.full(y.shape, np.nan), table, y, np.zeros(len(y)), exclusive=False, names=["size"])
    base = np.full(y.shape, 0.3, np.float32)
    np.testing.assert_array_equal(trees.probabilities(base, table), base)


def test_images_alone_are_enough_where_no_tree_asks_for_more():
    tree = Tree(feature=(0,), threshold=(0.0,), missing=(False,), left=(-1,), right=(-2,), value=(-1.0, 1.0))
    table, y, groups = patients(np.random.default_rng(6), 30, 10)
    fitted = gbdt.fit(np.full(y.shape, 0.2), table, y, groups % 3, exclusive=False, names=["size"], per_group=True)

    class Network:
        def predict_on_batch(self, images):
            return np.array([[0.2], [0.8]], np.float32)

    with pytest.raises(ConfigError, match="needs the group, size of each image, which images alone do not have"):
        BoostedModel(Network(), fitted).predict_on_batch(np.zeros((2, 8, 8, 3), np.uint8))
    alone = BoostedModel(Network(), fitted.model_copy(update={"trees": ((tree,),)}))
    p = alone.predict_on_batch(np.zeros((2, 8, 8, 3), np.uint8))
    np.testing.assert_allclose(logits(p, False)[:, 0], [np.log(1 / 4) - 1, np.log(4) + 1], rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"left": (1, 1)},  # a circle
        {"left": (-1, -2), "right": (-1, -3)},  # a leaf twice, a split never
        {"right": (-3, -9)},
        {"value": (1.0, 2.0)},
        {"value": (1.0, 2.0, float("nan"))},
        {"threshold": (1.0,)},
        {"feature": (0, -1)},
    ],
)
def test_trees_that_are_none_are_refused(change):
    whole = {
        "feature": (0, 1),
        "threshold": (0.0, 1.0),
        "missing": (True, False),
        "left": (1, -1),
        "right": (-3, -2),
        "value": (1.0, 2.0, 3.0),
    }
    assert Tree(**whole).predict(np.array([[-1.0, 2], [0, 1], [1, 0], [np.nan, np.nan]])).tolist() == [2, 1, 3, 2]
    with pytest.raises(ValidationError):
        Tree(**{**whole, **change})


def test_without_lightgbm(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(ConfigError, match="gbdt needs LightGBM: pip install lightgbm"):
        gbdt.import_lightgbm()

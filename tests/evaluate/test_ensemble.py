import numpy as np
import pandas as pd
import pytest

from kit.errors import DataError
from kit.evaluate import ensemble
from kit.evaluate.blend import BLENDS, Rows, fit
from kit.evaluate.metrics import METRICS, roc_auc


def oof(seed=0, rows=40, **columns):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"id": [f"i{n:02}" for n in range(rows)], "fold": np.arange(rows) % 4})
    return table.assign(p_x=rng.random(rows).astype(np.float32), **columns)


def test_runs_are_aligned_by_id():
    first, second = oof(0), oof(1)
    table, members = ensemble.aligned({"a": first, "b": second.sample(frac=1, random_state=0)}, "training")
    assert members[:, :, 0] == pytest.approx(np.stack([first["p_x"], second["p_x"]]))
    assert members.dtype == np.float64
    pd.testing.assert_frame_equal(table, first[["id", "fold"]])


def examples(rows=40, **columns):
    table = pd.DataFrame({"id": [f"i{n:02}" for n in range(rows)], "y_x": np.float32(np.arange(rows) // 3 % 2)})
    return table.assign(**columns)


def test_runs_of_the_same_truth():
    ids, shuffled = oof()["id"], examples().sample(frac=1, random_state=0)
    ensemble.require_same_truth({"a": examples(), "b": shuffled, "c": examples(50)}, ids, ["x"])
    unknown = examples(y_x=np.float32(np.nan))
    ensemble.require_same_truth({"a": unknown, "b": unknown}, ids, ["x"])  # unknown labels are equal to each other
    for first, second in ((examples(), examples(y_x=np.float32(0))), (unknown, examples()), (examples(), unknown)):
        bad = "i00" if first is unknown or second is unknown else "i03"
        with pytest.raises(DataError, match=f"b and a have different labels, such as those of {bad}"):
            ensemble.require_same_truth({"a": first, "b": second}, ids, ["x"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (oof(1, rows=39), "b and a have different training images: 1 are in only one of them, such as i39"),
        (oof(1).assign(fold=lambda t: (t["fold"] + 1) % 4), "b and a have different folds: 40 images, such as i00"),
        (oof(1).rename(columns={"p_x": "p_z"}), "b predicts other labels than a: z"),
    ],
)
def test_runs_that_cannot_be_blended(other, message):
    with pytest.raises(DataError, match=message):
        ensemble.aligned({"a": oof(0), "b": other}, "training")


def noisy(count=900):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (count, 1)).astype(float)
    common = rng.normal(0, 1, (count, 1))
    members = np.stack([1 / (1 + np.exp(-(2 * y - 1 + common + rng.normal(0, s, (count, 1))))) for s in (0.5, 1, 3)])
    return Rows(members, y, METRICS["roc_auc"], False, pd.DataFrame(index=range(count))), np.arange(count) % 5


def test_each_fold_is_blended_by_a_fit_on_the_others():
    rows, fold = noisy()
    predictions = ensemble.nested("convex", rows, fold)
    for k in range(5):
        held = rows.where(fold == k)
        expected = fit("convex", rows.where(fold != k)).apply(held.members, held.metadata)
        assert predictions[fold == k] == pytest.approx(expected)


def test_a_surely_better_blend_is_chosen_else_the_mean():
    rows, fold = noisy()
    table, predictions = ensemble.compare_blends(["convex", "best_single"], rows, fold, np.arange(len(fold)), 300, 0.95)
    assert list(table.index) == ["mean", "convex", "best_single"]
    assert table.loc["mean", ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]
    assert table.loc["convex", "nested"] == pytest.approx(roc_auc(rows.y, predictions["convex"]))
    assert table.loc["convex", "gain"] == pytest.approx(table.loc["convex", "nested"] - table.loc["mean", "nested"])
    assert table.loc["convex", "gain_low"] > 0 and table.loc["convex", "better"] == 1 and table.loc["convex", "sure"]
    assert ensemble.choose_blend(table) == table["gain"].idxmax() != "mean"
    equal = Rows(rows.members[[0, 0]], rows.y, METRICS["roc_auc"], False, rows.metadata)
    table, _ = ensemble.compare_blends(["convex", "rank"], equal, fold, np.arange(len(fold)), 300, 0.95)
    assert ensemble.choose_blend(table) == "mean"


def test_a_gain_is_positive_where_smaller_is_better_too():
    rows, fold = noisy()
    rows = Rows(rows.members, rows.y, METRICS["log_loss"], False, rows.metadata)
    table, _ = ensemble.compare_blends(["convex"], rows, fold, np.arange(len(fold)), 200, 0.95)
    assert table.loc["convex", "nested"] < table.loc["mean", "nested"]
    assert table.loc["convex", "gain"] > 0 and ensemble.choose_blend(table) == "convex"


def test_one_fold_is_too_few():
    rows, fold = noisy()
    with pytest.raises(DataError, match="at least two folds"):
        ensemble.compare_blends(["mean"], rows, fold * 0, np.arange(len(fold)), 200, 0.95)


def test_correlations_are_spearmans():
    rows, _ = noisy()
    correlations = ensemble.correlations(rows.members, ["a", "b", "c"])
    expected = pd.DataFrame(rows.members[:, :, 0].T).corr(method="spearman")
    assert correlations.to_numpy() == pytest.approx(expected.to_numpy())


@pytest.mark.parametrize("name", [name for name in BLENDS if name not in ("stack", "boost")])
def test_folds_on_different_scales_are_no_gain_for_a_blend(name):
    # Two equal members: no blend can be better than either. Ranked fold by fold it would seem to be.
    rng = np.random.default_rng(0)
    y, fold = rng.integers(0, 2, (800, 1)).astype(float), np.arange(800) % 4
    p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5))) / 4 + fold[:, None] / 4
    rows = Rows(np.stack([p, p]), y, METRICS["roc_auc"], False, pd.DataFrame(index=range(800)))
    table, _ = ensemble.compare_blends([name], rows, fold, np.arange(800), 200, 0.95)
    assert ensemble.choose_blend(table) == "mean"
    assert table.loc[name, "gain"] < 5e-3

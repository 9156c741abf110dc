import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kit.config import EvaluateSettings
from kit.evaluate.clusters import of_clusters
from kit.evaluate.metrics import find_metric

ROWS = 400


@pytest.fixture
def tables():
    """Predictions left out and out of fold, with examples: the left-out ones know less, cluster 2 has one class."""
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    cluster = np.where(np.arange(ROWS) < 200, 0, 1)
    cluster[(np.arange(ROWS) >= 360) & (y == 1)] = 2
    ids = [f"i{n:03}" for n in range(ROWS)]
    examples = pd.DataFrame({"id": ids, "group": [f"g{n // 2}" for n in range(ROWS)], "y_a": y.astype(np.float32)})
    p = {noise: (1 / (1 + np.exp(-rng.normal(2 * y - 1, noise)))).astype(np.float32) for noise in (1.0, 4.0)}
    oof = pd.DataFrame({"id": ids, "fold": np.arange(ROWS) // 2 % 3, "p_a": p[1.0]})
    looks = np.array(["L +1.0", "L -1.0", "b +2.0"])[cluster]
    left = pd.DataFrame({"id": ids, "fold": cluster, "looks": looks, "p_a": p[4.0]})
    return left.sample(frac=1, random_state=0), oof, examples


def test_against_the_predictions_out_of_fold(tables):
    left, oof, examples = tables
    found = of_clusters(*tables, find_metric("roc_auc"), EvaluateSettings(resamples=200))
    y, ours = examples["y_a"], left.sort_values("id", ignore_index=True)
    assert found.value == pytest.approx(roc_auc_score(y, ours["p_a"]))
    assert found.out_of_fold == pytest.approx(roc_auc_score(y, oof["p_a"]))
    assert found.difference == pytest.approx(found.value - found.out_of_fold)
    assert found.low < found.difference < found.high < 0
    first, second, third = found.clusters
    inside = ours["fold"] == 1
    assert second.value == pytest.approx(roc_auc_score(y[inside], ours["p_a"][inside]))
    assert second.out_of_fold == pytest.approx(roc_auc_score(y[inside], oof["p_a"][inside]))
    assert (third.value, third.rows, third.groups, third.looks) == (None, 20, 20, "b +2.0")
    assert found.within == pytest.approx((first.value + second.value) / 2)


def test_the_same_predictions_cost_nothing(tables):
    left, oof, examples = tables
    same = left.drop(columns="p_a").merge(oof[["id", "p_a"]], on="id")
    found = of_clusters(same, oof, examples, find_metric("roc_auc"), EvaluateSettings(resamples=100))
    assert (found.difference, found.low, found.high) == (0, 0, 0) and found.within == found.within_out_of_fold


def test_clusters_that_could_not_be_left_out_are_missing(tables):
    left, oof, examples = tables
    found = of_clusters(left[left["fold"] != 0], oof, examples, find_metric("roc_auc"), EvaluateSettings(resamples=100))
    assert [part.rows for part in found.clusters] == [180, 20]
    rows = left["id"][left["fold"] != 0]
    other = oof.set_index("id").loc[rows, "p_a"]
    assert found.out_of_fold == pytest.approx(roc_auc_score(examples.set_index("id").loc[rows, "y_a"], other))

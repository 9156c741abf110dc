"""On uninformative predictions an honest estimate shows no gain; the optimistic one does, which exposes it."""

import numpy as np
import pandas as pd
import pytest

from kit.evaluate import ensemble
from kit.evaluate.blend import BLENDS, Rows, fit
from kit.evaluate.metrics import METRICS, roc_auc
from kit.evaluate.thresholds import all_cuts, best_threshold, cross_validated, decided

FITTED = ("best_single", "convex", "nnls", "greedy", "stack", "boost")  # those that are fitted to labels


def test_the_f1_threshold_of_noise():
    rng = np.random.default_rng(0)
    optimistic, honest, uninformed = [], [], []
    for _ in range(200):
        y, p, fold = rng.random(60) < 0.5, rng.random(60), np.arange(60) % 5
        optimistic.append(decided(y, p >= best_threshold(all_cuts(y, p), "f1"))["f1"])
        honest.append(cross_validated(y.astype(float), [(fold == k, p) for k in range(5)], "f1")["f1"])
        uninformed.append(decided(y, y | True)["f1"])  # all positive: the best without information
    assert np.mean(optimistic) > np.mean(uninformed) + 0.01
    assert np.mean(honest) < np.mean(uninformed)


@pytest.mark.parametrize("name", BLENDS)
def test_a_blend_of_noise(name):
    rng = np.random.default_rng(0)
    optimistic, honest, chosen = [], [], []
    for _ in range(12):
        y = rng.integers(0, 2, (150, 1)).astype(float)
        rows = Rows(rng.random((6, 150, 1)), y, METRICS["roc_auc"], False, pd.DataFrame(index=range(150)))
        fold = rng.permutation(150) % 5
        table, _ = ensemble.compare_blends([name], rows, fold, np.arange(150), 100, 0.95)
        honest.append(table.loc[name, "nested"])
        optimistic.append(table.loc[name, "optimistic"])
        chosen.append(ensemble.choose_blend(table) != "mean")
        assert roc_auc(y, fit(name, rows).apply(rows.members, rows.metadata)) == table.loc[name, "optimistic"]
    error = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(honest) < 0.5 + 3 * error
    assert np.mean(chosen) <= 0.25  # a 95 % interval lies above 0 for 1 in 40, by chance
    if name in FITTED:
        assert np.mean(optimistic) > 0.5 + 0.04
        assert np.mean(optimistic) > np.mean(honest) + 0.04


def test_the_choice_among_all_blends_of_noise():
    rng, chosen = np.random.default_rng(1), []
    for _ in range(30):
        y = rng.integers(0, 2, (150, 1)).astype(float)
        rows = Rows(rng.random((4, 150, 1)), y, METRICS["roc_auc"], False, pd.DataFrame(index=range(150)))
        quick = [name for name in BLENDS if name not in ("greedy", "boost")]
        table, _ = ensemble.compare_blends(quick, rows, rng.permutation(150) % 5, np.arange(150), 400, 0.95)
        chosen.append(ensemble.choose_blend(table) != "mean")
    assert np.mean(chosen) <= 0.1  # 30 choices at 2.5 % in all

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kit.submit.tracking import as_text, track, track_ledger

NAN = float("nan")


def test_numbers_are_scipys():
    rng = np.random.default_rng(0)
    oof = rng.normal(0.9, 0.01, 12)
    board = oof - 0.02 + rng.normal(0, 0.004, 12)
    tracking = track(oof, board)
    assert tracking.spearman == pytest.approx(stats.spearmanr(oof, board).statistic)
    assert tracking.kendall == pytest.approx(stats.kendalltau(oof, board).statistic)
    exact = stats.kendalltau(oof, board, alternative="greater", method="exact").pvalue
    assert tracking.chance == pytest.approx(exact, abs=0.004)
    assert tracking.low < tracking.spearman < tracking.high
    assert tracking.gap == pytest.approx(np.median(board - oof))


@given(st.integers(0, 10**6), st.integers(4, 7))
@settings(max_examples=25, deadline=None)
def test_the_chance_of_few_submissions_is_exact(seed, count):
    rng = np.random.default_rng(seed)
    oof, board = rng.permutation(count) * 1.0, rng.permutation(count) * 1.0
    exact = stats.kendalltau(oof, board, alternative="greater", method="exact").pvalue
    assert track(oof, board).chance == pytest.approx(exact)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_only_ranks_count(seed):
    rng = np.random.default_rng(seed)
    oof, board = rng.random(9), rng.random(9)
    one, other = track(oof, board), track(oof**3, board * 7 - 2)
    assert (one.spearman, one.kendall, one.chance) == pytest.approx((other.spearman, other.kendall, other.chance))
    losses = track(-oof, -board)  # of a metric where less is better, both turn round
    assert losses.spearman == pytest.approx(one.spearman) and losses.chance == pytest.approx(one.chance)


def test_verdicts():
    rising = np.arange(10) / 10
    assert track(rising, rising - 0.01).verdict == "tracks"
    assert track(rising, -rising).verdict == "does not track"
    assert track(rising[:4], rising[:4]).verdict == "unknown"  # perfect, and nothing
    assert track(rising, np.ones(10)).verdict == "unknown"
    noisy = np.array([3, 0, 5, 1, 7, 2, 6, 4]) / 8
    assert track(rising[:8], noisy).verdict == "unknown"
    assert track(np.array([NAN, 1.0]), np.array([1.0, NAN])).count == 0


def test_chance_seldom_tracks():
    rng = np.random.default_rng(0)
    verdicts = [track(rng.random(8), rng.random(8)).verdict for _ in range(100)]
    assert verdicts.count("tracks") <= 0.08 * 100


def test_a_ledger_by_competition_metric_and_board():
    oof = np.arange(6) / 100 + 0.9
    rows = {"competition": "pcam", "metric": "roc_auc", "oof": oof, "public": oof - 0.01, "private": NAN}
    other = {"competition": "rsna", "metric": "roc_auc", "oof": [0.5], "public": [0.4], "private": [NAN]}
    parts = track_ledger(pd.concat([pd.DataFrame(rows), pd.DataFrame(other)], ignore_index=True))
    assert set(parts) == {("pcam", "roc_auc", "public"), ("rsna", "roc_auc", "public")}
    good, few = parts["pcam", "roc_auc", "public"], parts["rsna", "roc_auc", "public"]
    assert as_text(good, "public")[0] == "out of fold against public: your validation tracks the public board"
    assert "Spearman 1.00" in as_text(good, "public")[1] and "6 submissions" in as_text(good, "public")[1]
    assert as_text(few, "public") == [
        "out of fold against public: too few submissions to say (1 submission with both scores)"
    ]

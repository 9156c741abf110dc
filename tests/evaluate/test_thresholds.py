import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.evaluate.thresholds import cross_validated_f1, f1_at, max_f1_threshold


def f1(y, called):
    """By definition: 2 TP / (2 TP + FP + FN), and 0 when there is nothing to find and nothing was called."""
    hits, misses = int((y & called).sum()), int((y ^ called).sum())
    return 2 * hits / (2 * hits + misses) if hits or misses else 0.0


rows = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=30)


@given(rows)
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore:No positive class found:UserWarning")
def test_no_threshold_is_better_than_brute_force(rows):
    y, p = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 6
    best = max(f1(y, p >= t) for t in np.unique(p))
    chosen = max_f1_threshold(y, p)
    assert f1_at(y, p, chosen) == pytest.approx(best)
    assert chosen == max(t for t in np.unique(p) if f1(y, p >= t) == best)


def test_by_hand():
    # cuts .8 .6 .4 .2: F1 = 2/3 (1 of 1, 1 of 2), 1/2, 4/5 (2 of 3, 2 of 2), 2/3
    y, p = np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.4, 0.2])
    assert max_f1_threshold(y, p) == 0.4
    assert f1_at(y, p, 0.4) == pytest.approx(4 / 5)


def test_the_cross_validated_value_uses_other_folds_thresholds():
    y = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    p = np.array([0.9, 0.8, 0.9, 0.8, 0.3, 0.2, 0.3, 0.2])
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    # Fold 0 cut at fold 1's .3: all four positive (2 right). Fold 1 cut at fold 0's .9: none. F1 = 2*2 / (2*2 + 2 + 2).
    assert cross_validated_f1(y, p, fold) == pytest.approx(0.5)


def test_on_noise_it_shows_no_gain_and_the_optimistic_value_does():
    rng = np.random.default_rng(0)
    optimistic, honest = [], []
    for _ in range(40):
        y, p, fold = rng.random(60) < 0.5, rng.random(60), np.arange(60) % 5
        optimistic.append(f1_at(y, p, max_f1_threshold(y, p)))
        honest.append(cross_validated_f1(y, p, fold))
    call_all_positive = 2 / 3  # precision .5, recall 1: the best that can be had without information
    assert np.mean(optimistic) > call_all_positive + 0.02
    assert np.mean(honest) < call_all_positive

import numpy as np
import pytest
from scipy import stats

from kit.evaluate.bootstrap import bootstrap
from kit.evaluate.metrics import roc_auc


def mean(y, p):
    return float(p.mean())


def test_the_interval_of_a_mean_is_the_textbooks():
    rng = np.random.default_rng(0)
    p = rng.normal(0, 1, (400, 1))
    low, high = bootstrap(mean, p, p, np.arange(400), 4000, 0.95)
    error = stats.sem(p[:, 0])
    assert low == pytest.approx(p.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(p.mean() + 1.96 * error, abs=0.15 * error)


def test_rows_of_one_group_are_drawn_together():
    # 40 groups of 25 equal rows hold the information of 40 rows, not of 1,000: the interval is 5 times as wide.
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 40)
    p, groups = np.repeat(values, 25)[:, None], np.repeat(np.arange(40), 25)
    by_group = np.diff(bootstrap(mean, p, p, groups, 2000, 0.95))
    by_row = np.diff(bootstrap(mean, p, p, np.arange(1000), 2000, 0.95))
    assert by_group / by_row == pytest.approx(5, rel=0.15)
    shuffled = rng.permutation(1000)
    assert bootstrap(mean, p[shuffled], p[shuffled], groups[shuffled], 500, 0.95) == pytest.approx(
        bootstrap(mean, p, p, groups, 500, 0.95)
    )


def test_groups_of_different_size_are_whole_in_every_resample():
    groups = np.array(["a"] * 1 + ["b"] * 4 + ["c"] * 2)
    seen = []

    def record(y, p):
        seen.append(p[:, 0].tolist())
        return 0.0

    code = np.unique(groups, return_inverse=True)[1].astype(float)[:, None]
    bootstrap(record, code, code, groups, 50, 0.9)
    for rows in seen:
        assert all(rows.count(c) % size == 0 for c, size in ((0.0, 1), (1.0, 4), (2.0, 2)))
        assert sum(rows.count(c) / size for c, size in ((0.0, 1), (1.0, 4), (2.0, 2))) == 3


def test_resamples_without_both_classes_are_left_out():
    y, p = np.array([[1.0], [0.0], [0.0]]), np.array([[0.9], [0.1], [0.2]])
    assert bootstrap(roc_auc, y, p, np.arange(3), 200, 0.95) == (1.0, 1.0)
    assert np.isnan(bootstrap(roc_auc, y * 0, p, np.arange(3), 100, 0.95)).all()

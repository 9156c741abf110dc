"""Golden values: example 2 of DeLong et al. 1988, whose data and results the manual of SAS's PROC LOGISTIC prints
(albumin, total protein and K-G score of 43 women; "Comparing Receiver Operating Characteristic Curves")."""

import numpy as np
import pytest

from kit.evaluate.delong import delong, delong_interval
from kit.evaluate.metrics import METRICS
from kit.evaluate.resample import interval, resample, statistic

ROWS = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""


@pytest.fixture
def example():
    albumin, protein, score, outcome = np.array(ROWS.split(), float).reshape(-1, 4).T
    return outcome == 1, np.stack([albumin, protein, 10 - score])


def test_the_papers_example(example):
    areas, covariance = delong(*example)
    assert areas == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    contrast = np.array([[1, 0, -1], [0, 1, -1]])  # each of the two against the K-G score
    assert contrast @ areas == pytest.approx([0.0108, -0.0780], abs=5e-5)
    errors = np.sqrt(np.diag(contrast @ covariance @ contrast.T))
    assert errors == pytest.approx([0.0953, 0.1046], abs=5e-5)
    assert delong_interval(example[0], example[1][0], 0.95) == pytest.approx((0.5549, 0.9182), abs=5e-5)


def test_the_bootstrap_agrees():
    rng = np.random.default_rng(0)
    positive = rng.random(600) < 0.3
    p = rng.normal(positive * 1.0, 1)
    times = resample([statistic(METRICS["roc_auc"], positive[:, None] * 1.0, p[:, None], np.arange(600))], 600, 2000)
    assert interval(times[:, 0, 0], 0.95) == pytest.approx(delong_interval(positive, p, 0.95), abs=0.006)


def test_one_row_of_a_class_has_no_variance():
    areas, covariance = delong(np.array([True, False, False]), np.array([[0.3, 0.2, 0.1]]))
    assert np.isnan(areas).all() and np.isnan(covariance).all()
    assert np.isnan(delong_interval(np.array([True, False, False]), np.array([0.3, 0.2, 0.1]), 0.95)).all()

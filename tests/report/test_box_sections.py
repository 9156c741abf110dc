"""RSNA's metric by overlap."""

import numpy as np
import pytest

from kit.evaluate.boxes.metrics import rsna_mean_average_precision
from kit.report.boxes import rsna_by_iou
from tests.evaluate.boxes.made import boxes_of, drawn


@pytest.mark.parametrize("empty", ["left_out", "one", "zero"])
def test_the_mean_over_overlaps_is_the_metric(empty):
    rng = np.random.default_rng(3)
    truth, found = drawn(rng, 40, 3), drawn(rng, 40, 3, scores=20)
    values = rsna_by_iou(truth, found, empty)
    assert values.mean() == pytest.approx(rsna_mean_average_precision(truth, found, empty))
    assert (np.diff(values) <= 1e-12).all()


def test_by_hand():
    truth = boxes_of([(0, 0, 10, 10)], [], [(0, 0, 10, 10)])
    found = boxes_of([(0, 0, 10, 6, 0.9)], [], [(0, 0, 10, 10, 0.8), (20, 20, 5, 5, 0.7)])
    values = rsna_by_iou(truth, found, "left_out")  # overlaps: .6 and 1, with a false box beside it
    assert values[:4] == pytest.approx([(1 + 0.5) / 2] * 4) and values[4:] == pytest.approx([0.25] * 4)

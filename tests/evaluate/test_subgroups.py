"""Intervals of parts of the images."""

import numpy as np
import pandas as pd
import pytest

from kit.config import load_config
from kit.evaluate.metrics import METRICS
from kit.evaluate.resample import statistic
from kit.evaluate.subgroups import intervals
from kit.schemas import Subgroup

pytestmark = pytest.mark.once


def test_each_part_is_resampled_by_its_own_patients():
    rng = np.random.default_rng(0)
    rows = 400
    y = (np.arange(rows) % 2).astype(float)[:, None]
    noise = np.where(np.arange(rows) < 200, 1.0, 4.0)[:, None]
    p = 1 / (1 + np.exp(-(2 * y - 1 + noise * rng.normal(size=(rows, 1)))))
    table = pd.DataFrame({"group": [f"p{n // 2}" for n in range(rows)], "sex": ["F"] * 200 + ["M"] * 200})
    parts = [Subgroup(column="sex", part=part, rows=200, value=0.5, small=part == "X") for part in ("F", "M", "X")]
    settings = load_config("pcam").evaluate

    def of_part(inside, group_of):
        assert group_of.max() == 99  # two images of each of 100 patients
        return statistic(METRICS["roc_auc"], y[inside], p[inside], group_of)

    (sharp, wide, small) = intervals(table, parts, of_part, 100, settings)
    assert 0.9 < sharp[0] < sharp[1] <= 1 and wide[1] < 0.9 and wide[1] - wide[0] > sharp[1] - sharp[0]
    for inside, (low, high) in ((slice(0, 200), sharp), (slice(200, 400), wide)):
        assert low < METRICS["roc_auc"](y[inside], p[inside]) < high
    assert np.isnan(small).all()

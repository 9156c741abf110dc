"""Everything that boxes are measured by, with intervals by patient."""

from collections.abc import Sequence

import numpy as np

from kit.boxes import Boxes
from kit.config import EvaluateSettings
from kit.evaluate.boxes.matching import by_label
from kit.evaluate.boxes.metrics import (
    COUNTS,
    FALSE_POSITIVES,
    EmptyImages,
    ap50_of,
    ap_of,
    counts_of,
    froc_of,
    mean_of_defined,
    rsna_of,
)
from kit.evaluate.metrics import METRICS
from kit.evaluate.resample import Statistic, by_group, interval, numbered, resample, statistic
from kit.schemas import BoxReport, LabelScore, Number

# `froc` is the mean of the sensitivities that follow it; `image_roc_auc` that of an image's best box.
MEASURES = (
    "ap50",
    "ap",
    "froc",
    *(f"sensitivity_at_{rate:g}" for rate in FALSE_POSITIVES),
    "image_roc_auc",
    "rsna",
    *COUNTS,
)


def report(
    truth: Boxes, predictions: Boxes, kept: Boxes, groups: np.ndarray, labels: Sequence[str], settings: EvaluateSettings
) -> BoxReport:
    """`MEASURES` of each label, and their mean over the labels for which each is defined.

    `predictions` are all boxes, by which AP, FROC and the area are measured; `kept` are those sent, by which RSNA's
    metric and the counts are. `groups` [images] are the patients that the intervals resample.
    """
    group_of, count = numbered(groups)
    pairs = zip(by_label(truth, predictions, len(labels)), by_label(truth, kept, len(labels)), strict=True)
    of_labels = [
        measures(true, predicted, sent, group_of, settings.empty_images) for (true, predicted), (_, sent) in pairs
    ]

    def everything(times: np.ndarray) -> np.ndarray:
        each = np.array([of_label(times) for of_label in of_labels])
        return np.array([[mean_of_defined(column) for column in each.T], *each])

    values = everything(np.ones(count, np.int64))
    drawn = resample([everything], count, settings.resamples)[:, 0]

    def scores(row: int) -> dict[str, LabelScore]:
        return {
            name: _score(values[row, n], *interval(drawn[:, row, n], settings.confidence))
            for n, name in enumerate(MEASURES)
        }

    return BoxReport(labels={label: scores(n + 1) for n, label in enumerate(labels)}, mean=scores(0))


def measures(
    truth: Boxes, predictions: Boxes, kept: Boxes, group_of: np.ndarray, empty_images: EmptyImages = "left_out"
) -> Statistic:
    """`MEASURES` of the boxes of one label, for resamples of groups: float64 [measures]; NaN where undefined."""
    positive = np.bincount(truth.image, minlength=truth.images) > 0
    best = np.zeros(truth.images)
    np.maximum.at(best, predictions.image, predictions.score)
    area = statistic(METRICS["roc_auc"], positive[:, None].astype(np.float64), best[:, None], group_of)
    before = [ap50_of(truth, predictions), ap_of(truth, predictions), froc_of(truth, predictions)]
    after = [rsna_of(truth, kept, empty_images), counts_of(truth, kept)]
    statistics = [
        *(by_group(value, group_of) for value in before),
        lambda times: area(times)[:1],
        *(by_group(value, group_of) for value in after),
    ]
    return lambda times: np.concatenate([of_rows(times) for of_rows in statistics])


def _score(*numbers: float) -> LabelScore:
    value, low, high = (_defined(float(number)) for number in numbers)
    return LabelScore(value=value, low=low, high=high)


def _defined(number: float) -> Number:
    return None if np.isnan(number) else number

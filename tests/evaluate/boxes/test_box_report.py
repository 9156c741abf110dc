import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kit.boxes import joined, nothing
from kit.config import EvaluateSettings
from kit.evaluate.boxes.metrics import box_ap, box_ap50, counts_of, froc, rsna_mean_average_precision
from kit.evaluate.boxes.report import MEASURES, report
from tests.evaluate.boxes.made import boxes_of, drawn

SETTINGS = EvaluateSettings(resamples=100)


def test_every_measure_of_every_label():
    rng = np.random.default_rng(0)
    truth, predictions = drawn(rng, 40, 3, labels=2), drawn(rng, 40, 6, labels=2, scores=9)
    truth = joined([truth, predictions.where(np.arange(len(predictions)) % 5 == 0)])  # some are found
    kept = predictions.where(predictions.score >= 0.5)
    boxes = report(truth, predictions, kept, np.arange(40) // 2, ["a", "b"], SETTINGS)
    assert list(boxes.mean) == list(boxes.labels["a"]) == list(MEASURES)
    for n, label in enumerate("ab"):
        true, predicted, sent = (part.where(part.label == n) for part in (truth, predictions, kept))
        expected = {
            "ap50": box_ap50(true, predicted),
            "ap": box_ap(true, predicted),
            "froc": froc(true, predicted)[0],
            "sensitivity_at_0.125": froc(true, predicted)[1],
            "sensitivity_at_8": froc(true, predicted)[-1],
            "image_roc_auc": roc_auc_score(np.isin(np.arange(40), true.image), predicted.best(2)[:, n]),
            "rsna": rsna_mean_average_precision(true, sent),
            "mean_iou": counts_of(true, sent)(np.ones(40))[3],
        }
        for name, value in expected.items():
            score = boxes.labels[label][name]
            assert score.value == pytest.approx(value), name
            assert score.low < score.value < score.high, name
    for name, mean in boxes.mean.items():
        assert mean.value == pytest.approx((boxes.labels["a"][name].value + boxes.labels["b"][name].value) / 2)


def test_what_is_undefined_is_none():
    boxes = report(nothing(4), nothing(4), nothing(4), np.arange(4), ["a"], SETTINGS).labels["a"]
    assert all(score.value is None and score.low is None for score in boxes.values())
    settings = EvaluateSettings(resamples=100, empty_images="one")
    truth = boxes_of([(0, 0, 4, 4)], [], [])
    assert report(truth, nothing(3), nothing(3), np.arange(3), ["a"], settings).mean["rsna"].value == 2 / 3

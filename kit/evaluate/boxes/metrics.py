"""Metrics of predicted boxes against true ones: RSNA's, COCO's average precision, FROC, and those at a cut.

Of several labels, each is measured alone, and the mean is taken over those for which the metric is defined; a box hits
only a box of its own label. Functions whose names end in `_of` match and sort once, and return a function of how often
each image counts, for a bootstrap (kit.evaluate.resample).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np

from kit.boxes import Boxes
from kit.evaluate.boxes.matching import Matches, by_label, match

RSNA_IOUS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # as pycocotools has them, rounding errors included
FALSE_POSITIVES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # an image: where FROC is read
COUNTS = ("precision", "recall", "f1", "mean_iou")  # the values of `counts_of`
FROC_IOU, COUNTS_IOU = 0.4, 0.5
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100  # boxes of an image and label that COCO looks at

# What an image counts that has neither a true nor a predicted box.
EmptyImages = Literal["left_out", "one", "zero"]
# How often each image counts (int [images]) -> values.
Weighed = Callable[[np.ndarray], np.ndarray]


def rsna_mean_average_precision(truth: Boxes, predictions: Boxes, empty_images: EmptyImages = "left_out") -> float:
    """The metric of the RSNA Pneumonia Detection Challenge (2018): the mean of `per_image` over the images that count.

    NaN if none does. All predictions count alike, however small their score: cut them first.
    """
    return _value(partial(rsna_of, empty_images=empty_images), truth, predictions)


def box_ap50(truth: Boxes, predictions: Boxes) -> float:
    """COCO's AP50: average precision at IoU of .5 or more."""
    return _value(ap50_of, truth, predictions)


def box_ap(truth: Boxes, predictions: Boxes) -> float:
    """COCO's AP: the mean of the average precisions at IoU of .5, .55, ... .95 or more."""
    return _value(ap_of, truth, predictions)


def froc(
    truth: Boxes, predictions: Boxes, iou: float = FROC_IOU, rates: Sequence[float] = FALSE_POSITIVES
) -> np.ndarray:
    """The mean sensitivity, then that at each rate of false positives an image: float64 [1 + rates] (see `froc_of`)."""
    return froc_of(truth, predictions, iou, rates)(_once(truth))


def per_image(truth: Boxes, predictions: Boxes, empty_images: EmptyImages = "left_out") -> np.ndarray:
    """RSNA's metric of each image, float64 [images]: the mean of TP / (TP + FP + FN) at IoU above .4, .45, ... .75.

    As the competition's page describes it: boxes are checked in the order of their scores. Which of several true boxes
    one takes, the page does not say; here it is the best (kit.evaluate.boxes.matching). Nor does it say what an image
    without any box, true or predicted, is: NaN (it does not count), 1 or 0. The scores of the leaderboard are possible
    only if it is left out.
    """
    return per_image_at([-np.inf], truth, predictions, empty_images)[:, 0]


def per_image_at(
    cuts: Sequence[float] | np.ndarray, truth: Boxes, predictions: Boxes, empty_images: EmptyImages = "left_out"
) -> np.ndarray:
    """`per_image` of the boxes whose score is at least each of the cuts: float64 [images, cuts]."""
    matches = match(truth, predictions, RSNA_IOUS)
    images, order = truth.images, np.argsort(cuts)
    passed = np.searchsorted(np.asarray(cuts)[order], matches.score, "right")  # how many cuts each box survives
    counts = np.bincount(matches.image * (len(order) + 1) + passed, minlength=images * (len(order) + 1))
    kept = np.empty((images, len(order)), np.int64)
    kept[:, order] = counts.reshape(images, len(order) + 1)[:, :0:-1].cumsum(axis=1)[:, ::-1]
    last = np.searchsorted(matches.image, np.arange(images))[:, None] + kept - 1
    values = np.append(_values(matches), np.nan)
    return np.where(kept > 0, values[last], _without_boxes(matches, empty_images)[:, None])


def rsna_of(truth: Boxes, predictions: Boxes, empty_images: EmptyImages = "left_out") -> Weighed:
    """The mean of `per_image` over the images that count, of boxes of one label: float64 [1]."""
    values = per_image(truth, predictions, empty_images)
    sums = np.stack([np.nan_to_num(values), ~np.isnan(values)])

    def value(times: np.ndarray) -> np.ndarray:
        total, count = _weighed(sums, times)
        return np.array([total / count if count else np.nan])

    return value


def ap50_of(truth: Boxes, predictions: Boxes) -> Weighed:
    """COCO's AP50 of boxes of one label: float64 [1]."""
    return ap_of(truth, predictions, COCO_IOUS[:1])


def ap_of(truth: Boxes, predictions: Boxes, ious: Sequence[float] = COCO_IOUS) -> Weighed:
    """The mean average precision of boxes of one label at these IoUs: float64 [1]; NaN where there is no true box.

    As pycocotools computes it (all areas, 100 boxes an image): the mean, over recalls of 0, .01, ... 1, of the best
    precision at that recall or a higher one. Boxes of equal score come in the order of the images.
    """
    matches = match(truth, predictions, ious, inclusive=True)
    matches = matches.where(matches.rank < _MOST)
    order = np.argsort(-matches.score, kind="stable")
    image = matches.image[order]
    hits = [np.flatnonzero(hit) for hit in matches.hit[order].T]

    def value(times: np.ndarray) -> np.ndarray:
        positives = int(times @ matches.true)
        if not positives:
            return np.array([np.nan])
        drawn = times[image]
        boxes = np.cumsum(drawn)
        # Precision falls at every miss: only that at hits can be the best.
        return np.array([np.mean([_interpolated(drawn[hit], boxes[hit], positives) for hit in hits])])

    return value


def froc_of(
    truth: Boxes, predictions: Boxes, iou: float = FROC_IOU, rates: Sequence[float] = FALSE_POSITIVES
) -> Weighed:
    """FROC: the mean, then the sensitivity at each rate of false positives an image: float64 [1 + rates].

    The sensitivity is the share of true boxes that are hit (IoU above `iou`; by default RSNA's least) at the lowest cut
    with no more false positives an image, in the mean over all images, than the rate. The mean at 1/8, 1/4, ... 8 is
    the CPM of LUNA16 (Setio et al. 2017), but not interpolated between cuts; and a second box on one that is hit
    already is a false positive here. Each label has its own cuts. NaN where there is no true box.
    """
    each = each_label(partial(_froc_of_label, iou=iou, rates=rates), truth, predictions)
    return lambda times: np.array([mean_of_defined(column) for column in each(times).T])


def counts_of(truth: Boxes, predictions: Boxes, iou: float = COUNTS_IOU) -> Weighed:
    """`COUNTS` of the boxes that were kept: precision, recall and F1 at IoU above `iou`, and the mean IoU: float64 [4].

    Hits are counted over all images and labels. `mean_iou` is that of the predicted boxes with the true box they are
    matched with, wherever there is any overlap. NaN where there is nothing to count.
    """
    hits, overlaps = match(truth, predictions, [iou]), match(truth, predictions, [0.0])

    def summed(boxes: Matches | Boxes, values: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(boxes.image, values, truth.images)

    tp, overlap = summed(hits, hits.hit[:, 0]), summed(overlaps, overlaps.iou)
    sums = np.stack([tp, summed(predictions), hits.true, overlap, summed(overlaps, overlaps.iou > 0)])

    def value(times: np.ndarray) -> np.ndarray:
        tp, predicted, true, overlap, matched = _weighed(sums, times)
        with np.errstate(invalid="ignore"):
            return np.array([tp, tp, 2 * tp, overlap]) / np.array([predicted, true, predicted + true, matched])

    return value


def each_label(
    of_label: Callable[[Boxes, Boxes], Weighed], truth: Boxes, predictions: Boxes, labels: int | None = None
) -> Weighed:
    """The values of one label after the other, float64 [labels, values]: of those that occur, or of so many."""
    each = [of_label(*boxes) for boxes in by_label(truth, predictions, labels)]
    return lambda times: np.array([value(times) for value in each])


def mean_of_defined(values: Sequence[float] | np.ndarray) -> float:
    """The mean of those values that are not NaN; NaN if all are."""
    numbers = np.asarray(values, np.float64)
    defined = numbers[~np.isnan(numbers)]
    return float(defined.mean()) if len(defined) else float("nan")


def _value(of_label: Callable[[Boxes, Boxes], Weighed], truth: Boxes, predictions: Boxes) -> float:
    return mean_of_defined(each_label(of_label, truth, predictions)(_once(truth))[:, 0])


def _froc_of_label(truth: Boxes, predictions: Boxes, iou: float, rates: Sequence[float]) -> Weighed:
    matches = match(truth, predictions, [iou])
    order = np.argsort(-matches.score, kind="stable")
    image, hit, ends = matches.image[order], matches.hit[order, 0], _ends(matches.score[order])

    def value(times: np.ndarray) -> np.ndarray:
        positives = int(times @ matches.true)
        if not positives:
            return np.full(1 + len(rates), np.nan)
        drawn = times[image]
        boxes, hits = np.cumsum(drawn)[ends], np.cumsum(drawn * hit)[ends]
        allowed = np.searchsorted(boxes - hits, np.asarray(rates) * times.sum(), "right")
        sensitivity = np.append(0, hits)[allowed] / positives
        return np.append(sensitivity.mean(), sensitivity)

    return value


def _values(matches: Matches) -> np.ndarray:
    """RSNA's metric of each box's image if that box is the last of it that is kept: float64 [n]."""
    hits = np.cumsum(matches.hit, axis=0)
    first = np.flatnonzero(matches.rank == 0)
    counts = np.diff(np.append(first, len(hits)))
    above = hits[first] - matches.hit[first]  # those of the images before
    hits -= np.repeat(above, counts, axis=0)
    boxes = matches.rank + 1 + matches.true[matches.image]
    return np.mean(hits / (boxes[:, None] - hits), axis=1)


def _without_boxes(matches: Matches, empty_images: EmptyImages) -> np.ndarray:
    """RSNA's metric of each image as long as no box is predicted: float64 [images]."""
    return np.where(matches.true > 0, 0.0, {"left_out": np.nan, "one": 1.0, "zero": 0.0}[empty_images])


def _interpolated(drawn: np.ndarray, boxes: np.ndarray, positives: int) -> float:
    """Average precision from hits by falling score: how often each counts, and how many boxes there are up to it."""
    hits = np.cumsum(drawn)
    precision = hits / np.maximum(boxes, 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # 0: a recall that is not reached
    return float(best[np.searchsorted(hits / positives, _RECALLS)].mean())


def _ends(falling: np.ndarray) -> np.ndarray:
    """Where each run of equal scores ends: no cut can be between them."""
    return np.flatnonzero(np.append(np.diff(falling) < 0, True)[: len(falling)])


def _weighed(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The sums of values [k, images], each image as often as it counts."""
    # `values @ times` waits for all of BLAS's threads: a hundred times as long beside other work.
    return (values * times).sum(axis=1)


def _once(truth: Boxes) -> np.ndarray:
    return np.ones(truth.images, np.int64)

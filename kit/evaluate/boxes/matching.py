"""Which predicted boxes hit a true one: what every metric of boxes counts.

Predictions of an image are taken by falling score, those of equal score in their order. Each takes, among the true
boxes of its label that none before it took, the one that it overlaps most, if that is enough. So whether a box is a hit
depends on the boxes above it alone: leaving out those below a cut changes nothing for the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kit.boxes import Boxes, paired_iou

_ROUNDING = 1e-9  # by so much, an overlap may come out larger than it is


@dataclass(frozen=True)
class Matches:
    """Predicted boxes, image after image and within an image by falling score, and at which thresholds each is a hit.

    `image`, `rank` int64 [n]: its number, and how many boxes of it come before · `score` float64 [n] · `hit` bool
    [n, thresholds] · `iou` float64 [n]: with the true box that it hits at the first threshold, or 0 · `true` int64
    [images]: how many true boxes there are.
    """

    image: np.ndarray
    rank: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    iou: np.ndarray
    true: np.ndarray

    def where(self, keep: np.ndarray) -> "Matches":
        """Those of the boxes for which `keep` (bool [n]) is true, the first so many of each image."""
        image, rank, score, hit, iou = (x[keep] for x in (self.image, self.rank, self.score, self.hit, self.iou))
        return Matches(image, rank, score, hit, iou, self.true)


def match(truth: Boxes, predictions: Boxes, thresholds: Sequence[float], inclusive: bool = False) -> Matches:
    """The matches at thresholds of IoU, rising: above which boxes are hits, or (`inclusive`) from which on.

    Above means by more than a rounding error; `inclusive` compares as pycocotools does.
    """
    if truth.images != predictions.images:
        raise ValueError(f"the truth is of {truth.images} images, the predictions are of {predictions.images}")
    boxes = predictions.where(np.lexsort((-predictions.score, predictions.image)))
    rank = np.arange(len(boxes)) - np.searchsorted(boxes.image, boxes.image)
    predicted, true = _pairs(truth, boxes)
    overlap = paired_iou(boxes.xywh[predicted], truth.xywh[true])
    limits = np.minimum(thresholds, 1 - 1e-10) if inclusive else np.asarray(thresholds) + _ROUNDING
    enough = overlap[:, None] >= limits if inclusive else overlap[:, None] > limits
    # In the order of ranks; the last pair of a prediction is its best (of equal ones, the last true box).
    order = np.lexsort((true, overlap, predicted, rank[predicted]))
    order = order[enough[order, 0]]
    hit, iou = np.zeros((len(boxes), len(limits)), bool), np.zeros(len(boxes))
    free = np.ones((len(truth), len(limits)), bool)
    predicted, true, overlap, enough = predicted[order], true[order], overlap[order], enough[order]
    for start, end in pairwise([*_starts(rank[predicted]), len(order)]):  # every image's first box, then every second
        usable = enough[start:end] & free[true[start:end]]
        places = np.where(usable, np.arange(start, end)[:, None], -1)
        best = np.maximum.reduceat(places, _starts(predicted[start:end]), axis=0)
        of_threshold = np.nonzero(best >= 0)[1]
        pair = best[best >= 0]
        hit[predicted[pair], of_threshold] = True
        free[true[pair], of_threshold] = False
        lowest = pair[of_threshold == 0]
        iou[predicted[lowest]] = overlap[lowest]
    true_boxes = np.bincount(truth.image, minlength=truth.images)
    return Matches(boxes.image, rank, boxes.score, hit, iou, true_boxes)


def by_label(truth: Boxes, predictions: Boxes, labels: int | None = None) -> Iterator[tuple[Boxes, Boxes]]:
    """The true and the predicted boxes of one label after the other; of those that occur, if it is not said how many.

    Of no box at all, there is one label.
    """
    numbers = np.union1d(truth.label, predictions.label) if labels is None else np.arange(labels)
    for label in numbers if len(numbers) else [0]:
        yield truth.where(truth.label == label), predictions.where(predictions.label == label)


def _pairs(truth: Boxes, predictions: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of a predicted and a true box (their numbers) of the same image and label."""
    labels = 1 + max(truth.label.max(initial=0), predictions.label.max(initial=0))
    place, own = (boxes.image * labels + boxes.label for boxes in (truth, predictions))
    order = np.argsort(place, kind="stable")
    first, end = (np.searchsorted(place[order], own, side) for side in ("left", "right"))
    counts = end - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(np.arange(len(own)), counts), order[np.repeat(first, counts) + within]


def _starts(numbers: np.ndarray) -> np.ndarray:
    """Where each run of equal numbers (not negative) begins."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))

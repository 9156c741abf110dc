"""Small makers of boxes, shared by the tests of what is measured in them."""

import numpy as np

from kit.boxes import Boxes


def boxes_of(*images):
    """Boxes of images, each a list of (x, y, width, height[, score[, label]])."""
    rows = [(n, *box, *(1.0, 0)[len(box) - 4 :]) for n, image in enumerate(images) for box in image]
    table = np.array(rows, float).reshape(-1, 7)
    return Boxes(len(images), table[:, 0].astype(int), table[:, 1:5], table[:, 6].astype(int), table[:, 5])


def drawn(rng, images, most, labels=1, scores=None):
    """Boxes on a coarse grid, where equal overlaps are frequent: up to `most` an image, none in some of them.

    `scores`: how many different ones there are; None: all are 1.
    """
    image = np.repeat(np.arange(images), rng.integers(0, most + 1, images) * (rng.random(images) < 0.7))
    count = len(image)
    xywh = np.column_stack([rng.integers(0, 5, (count, 2)), rng.integers(3, 9, (count, 2))]).astype(float)
    score = np.ones(count) if scores is None else rng.integers(1, scores + 1, count) / scores
    return Boxes(images, image, xywh, rng.integers(0, labels, count), score)


def repeated(boxes, times):
    """The boxes of a set of images that holds each image so many times (int [images])."""
    rows = [np.flatnonzero(boxes.image == n) for n in np.repeat(np.arange(boxes.images), times)]
    number = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    place = np.concatenate([np.empty(0, int), *rows])
    return Boxes(len(rows), number, boxes.xywh[place], boxes.label[place], boxes.score[place])

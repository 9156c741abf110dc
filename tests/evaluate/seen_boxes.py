"""Made-up boxes, and a metric of them as plainly as it can be written."""

import numpy as np

from kit.boxes import Boxes, iou

THRESHOLDS = np.arange(40, 80, 5) / 100


def drawn(rng, images=3, most=12, labels=2):
    """Boxes at random places, in images of side 1."""
    image = np.repeat(np.arange(images), rng.integers(0, most, images))
    size = rng.uniform(0.1, 0.5, (len(image), 2))
    xywh = np.hstack([rng.uniform(0, 1, size.shape) * (1 - size), size])
    return Boxes(images, image, xywh, rng.integers(0, labels, len(image)), rng.random(len(image)))


def seen(rng, truth, misses=0.2, jitter=0.03, false=0.5, grown=1.0):
    """Predictions of true boxes: near them, larger by a factor, some missed, and others where nothing is."""
    hits = truth.where(rng.random(len(truth)) >= misses)
    centre = hits.xywh[:, :2] + hits.xywh[:, 2:] / 2 + rng.normal(0, jitter, (len(hits), 2))
    size = hits.xywh[:, 2:] * grown * np.exp(rng.normal(0, jitter, (len(hits), 2)))
    wrong = drawn(rng, truth.images, 3, 1)
    wrong = wrong.where(rng.random(len(wrong)) < false)
    image = np.concatenate([hits.image, wrong.image])
    order = np.argsort(image, kind="stable")
    score = np.concatenate([rng.beta(4, 2, len(hits)), rng.beta(2, 4, len(wrong))])
    label = np.concatenate([hits.label, wrong.label])
    xywh = np.concatenate([np.hstack([centre - size / 2, size]), wrong.xywh])
    return Boxes(truth.images, image[order], xywh[order], label[order], score[order])


def per_image(truth, predictions):
    """Mean precision of each image over the thresholds; NaN for an image without true and predicted boxes."""
    return np.array([_of_image(truth, predictions, image) for image in range(truth.images)])


def at_cuts(truth, predictions, cuts):
    """`per_image` at each cut, float64 [cuts, images]."""
    return np.stack([per_image(truth, predictions.where(predictions.score >= cut)) for cut in cuts])


def _of_image(truth, predictions, image):
    true, own = truth.xywh[truth.image == image], predictions.where(predictions.image == image)
    if not len(true) and not len(own):
        return np.nan
    if not len(true) or not len(own):
        return 0.0
    overlap = iou(own.xywh[np.argsort(-own.score, kind="stable")], true)
    values = []
    for threshold in THRESHOLDS:
        free = overlap.copy()
        hits = 0
        for row in free:
            if row.max() > threshold + 1e-9:
                hits += 1
                free[:, row.argmax()] = 0
        values.append(hits / (len(true) + len(own) - hits))
    return float(np.mean(values))

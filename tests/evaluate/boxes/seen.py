"""Made-up predictions of true boxes, and boxes at random."""

import numpy as np

from kit.boxes import Boxes


def scattered(rng, images=3, most=12, labels=2):
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
    wrong = scattered(rng, truth.images, 3, 1)
    wrong = wrong.where(rng.random(len(wrong)) < false)
    image = np.concatenate([hits.image, wrong.image])
    order = np.argsort(image, kind="stable")
    score = np.concatenate([rng.beta(4, 2, len(hits)), rng.beta(2, 4, len(wrong))])
    label = np.concatenate([hits.label, wrong.label])
    xywh = np.concatenate([np.hstack([centre - size / 2, size]), wrong.xywh])
    return Boxes(truth.images, image[order], xywh[order], label[order], score[order])

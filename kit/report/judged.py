"""Predicted probabilities beside the truth: what the sections on them are made of."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kit.decisions import Decision
from kit.evaluate.sent import sent
from kit.tables import probabilities, truth, with_truth

FEW = 3  # labels, up to which each has room for lines of its folds and a matrix


@dataclass(frozen=True)
class Judged:
    """Predictions of images with the truth: `y` float [images, labels], NaN where unknown.

    `p` [images, labels] are probabilities as the models gave them, by which they are ranked; `sent` those that the
    decision cuts; `fold` int [images]: whose model predicted the image.
    """

    labels: tuple[str, ...]
    fold: np.ndarray
    y: np.ndarray
    p: np.ndarray
    sent: np.ndarray

    def names(self, n: int) -> tuple[str, str]:
        """What an image without the label, and one with it, is called."""
        return f"not {self.labels[n]}", self.labels[n]

    def most_positive(self) -> np.ndarray:
        """The labels with the most images first, int [labels]."""
        return np.argsort(-np.nansum(self.y, axis=0), kind="stable")


def judged(table: pd.DataFrame, examples: pd.DataFrame, decision: Decision) -> Judged:
    """Predictions (id, `p_*`; fold where there is one) with the truth from the example table."""
    labels = decision.labels
    fold = table["fold"].to_numpy() if "fold" in table else np.zeros(len(table), np.int64)
    y = truth(with_truth(table, examples, labels), labels).astype(np.float64)
    p = probabilities(table, labels).astype(np.float64)
    return Judged(labels, fold, y, p, probabilities(sent(decision, table), labels).astype(np.float64))


def end_of_axis(values: np.ndarray) -> float:
    """Where an axis of probabilities ends: at 1, or a little beyond the largest where all are small."""
    largest = float(values.max(initial=0))
    return 1.0 if largest > 0.5 or largest <= 0 else min(1.0, 1.15 * largest)

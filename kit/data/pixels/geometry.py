"""Placeholder until the geometry of steps is merged."""

import numpy as np

from kit.boxes import Boxes
from kit.config import ImageSettings


def to_shares(boxes: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings) -> Boxes:
    """Shares."""
    return boxes.scaled(1 / np.column_stack([widths, heights]))


def to_source(shares: Boxes, heights: np.ndarray, widths: np.ndarray, settings: ImageSettings) -> Boxes:
    """Pixels."""
    return shares.scaled(np.column_stack([widths, heights]))

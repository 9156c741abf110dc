"""`predict`: how trained folds score images."""

from typing import Literal

from pydantic import Field

from kit.config.base import Settings


class BoxSettings(Settings):
    """`predict.boxes`: which boxes are kept of each image."""

    merge: Literal["nms", "soft_nms", "wbf"] = "nms"
    iou: float = Field(0.5, gt=0, le=1)
    min_score: float = Field(0.01, ge=0, le=1)
    at_most: int = Field(20, ge=1)


class PredictSettings(Settings):
    """`predict`: batch size and test-time augmentation."""

    batch_size: int = Field(256, ge=1)  # images
    # Views of each image whose predictions are averaged: mirror 2 (left-right), flips 4, dihedral 8 (flips and quarter
    # turns), crops 6 (the whole, four corners, centre), scales 3 (as it is, 0.9, 1.1).
    tta: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"] = "none"
    boxes: BoxSettings = BoxSettings()

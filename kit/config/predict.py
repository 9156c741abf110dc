"""`predict`: how trained folds score images."""

from typing import Literal

from pydantic import Field

from kit.config.base import Settings


class BoxSettings(Settings):
    """`predict.boxes`: how the boxes that a network finds become the boxes of an image."""

    # How boxes of one object become one: the best of them (nms), the others only weakened (soft_nms), or the boxes of
    # all views, folds and runs averaged (wbf, weighted boxes fusion; those of one network go through nms first).
    merge: Literal["nms", "soft_nms", "wbf"] = "wbf"
    iou: float = Field(0.5, ge=0, lt=1)  # intersection over union above which two boxes are of one object
    # Boxes with a smaller score are dropped. Keep it well below the cut that is tuned later: fusion needs the weak too.
    min_score: float = Field(0.01, ge=0, lt=1)
    at_most: int = Field(20, ge=1)  # boxes of an image that are kept, the best
    # For soft_nms: the smaller, the more an overlap weakens a score (by exp(-iou² / sigma)); null: by 1 - iou, above
    # `iou` only.
    sigma: float | None = Field(0.5, gt=0)


class PredictSettings(Settings):
    """`predict`: batch size, test-time augmentation and boxes."""

    batch_size: int = Field(256, ge=1)  # images at a time, at most; on a CPU at most 32
    # Views of each image whose predictions are averaged: mirror 2 (left-right), flips 4, dihedral 8 (flips and quarter
    # turns), crops 6 (the whole, four corners, centre), scales 3 (as it is, 0.9, 1.1).
    tta: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"] = "none"
    boxes: BoxSettings = BoxSettings()

"""`predict`: how trained folds score images."""

from typing import Literal

from pydantic import Field

from kit.config.base import Settings


class PredictSettings(Settings):
    """`predict`: batch size and test-time augmentation."""

    batch_size: int = Field(256, ge=1)  # images
    # Views of each image whose predictions are averaged: mirror 2 (left-right), flips 4, dihedral 8 (flips and quarter
    # turns), crops 6 (the whole, four corners, centre), scales 3 (as it is, 0.9, 1.1).
    tta: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"] = "none"

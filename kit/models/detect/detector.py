"""What all networks that find boxes have in common: how they learn, and how their outputs are read."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kit.boxes import Boxes


class Detector(keras.Model):
    """A functional model from uint8 images [B, H, W, C] to a dictionary of float32 tensors that it alone can read.

    A batch of training images is a dictionary: `image` uint8 [B, H, W, C] · `boxes` float32 [B, N, 4] (x, y, width,
    height in pixels of these images) · `box_labels` int32 [B, N] · `box_mask` bool [B, N], false for padding, whose
    boxes and labels are 0. N may be 0 boxes in any image, and in all.
    """

    def with_targets(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with what must move along with the pixels, before augmentation: `mask` float32 [B, H, W, L]."""
        return {**batch}

    @abstractmethod
    def losses(self, batch: Mapping[str, Any]) -> Any:
        """The loss of each image, float32 [B]; runs the network itself, in training."""

    @abstractmethod
    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        """The boxes of a batch of outputs, in pixels of the images, at most so many of each image and label.

        Several may be of one object: what is merged later (kit.predict.merging) is not merged here.
        """

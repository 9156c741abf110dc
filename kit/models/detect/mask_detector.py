"""What networks that paint a mask of the boxes have in common: filled boxes as targets, the loss, boxes of a mask."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kit.boxes import Boxes
from kit.models.detect.detector import Detector
from kit.models.detect.mask_boxes import Areas

MASK = "mask"
_BCE, _IOU = 0.25, 0.75  # weights of the two parts of the loss
_PRIOR = 0.1  # the probability that an untrained network gives to every cell
_EMPTY = 1e-4  # added to both areas of the IoU, as a share of the images: see mask_loss


class MaskDetector(Detector):
    """A Detector whose output is `mask`, float32 [B, h, w, L]: the probability that a cell is in a box.

    A cell is `stride` pixels wide and high. The layer called `mask` turns logits into probabilities. Of an image that
    is no whole number of cells wide or high, the last cells reach beyond it.
    """

    def __init__(
        self,
        inputs: keras.KerasTensor,
        outputs: Mapping[str, keras.KerasTensor],
        *,
        stride: int,
        areas: Areas,
        name: str,
    ) -> None:
        super().__init__(inputs, outputs, name=name)
        self.stride, self.areas = stride, areas

    def with_targets(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        size, labels = self.input_shape[1:3], self.get_layer(MASK).output.shape[-1]
        mask = filled(batch["boxes"], batch["box_labels"], batch["box_mask"], size, labels)
        return {**batch, MASK: mask}

    def losses(self, batch: Mapping[str, Any]) -> Any:
        logits = keras.Model(self.inputs[0], self.get_layer(MASK).input)(batch["image"], training=True)
        return mask_loss(shares(batch[MASK], self.stride), logits)

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        return self.areas.boxes(outputs[MASK], self.stride, self.input_shape[1:3], at_most)


def painted(name: str, inputs: Any, x: Any, outputs: int, stride: int, areas: Areas) -> MaskDetector:
    """The network whose last feature map is `x`, with its last layers: logits and mask, in float32 at any precision."""
    bias = keras.initializers.Constant(math.log(_PRIOR / (1 - _PRIOR)))
    logits = layers.Conv2D(outputs, 1, bias_initializer=bias, name="logits", dtype="float32")(x)
    mask = layers.Activation("sigmoid", name=MASK, dtype="float32")(logits)
    return MaskDetector(inputs, {MASK: mask}, stride=stride, areas=areas, name=name)


def filled(boxes: Any, labels: Any, valid: Any, size: tuple[int, int], outputs: int) -> Any:
    """The share of each pixel that boxes of each label cover, float32 [B, height, width, outputs], 0 to 1.

    `boxes` [B, N, 4] are x, y, width, height in pixels, of which (i, j) covers i to i + 1, j to j + 1; those that are
    not `valid` [B, N] cover nothing. Where boxes of a label overlap, shares are summed, up to 1.
    """

    def covered(start: Any, length: Any, pixels: int) -> Any:
        edge = ops.arange(pixels, dtype="float32")
        start, end = start[..., None], (start + length)[..., None]
        return ops.clip(ops.minimum(end, edge + 1) - ops.maximum(start, edge), 0.0, 1.0)

    boxes = ops.cast(boxes, "float32")
    rows = covered(boxes[..., 1], boxes[..., 3], size[0])
    columns = covered(boxes[..., 0], boxes[..., 2], size[1])
    of_label = ops.one_hot(labels, outputs, dtype="float32") * ops.cast(valid, "float32")[..., None]
    return ops.minimum(ops.einsum("bnh,bnw,bnl->bhwl", rows, columns, of_label), 1.0)


def shares(mask: Any, stride: int) -> Any:
    """The mean of a mask [B, H, W, L] in each cell of `stride` pixels, or in what of the cell is in the image."""
    _, height, width, labels = mask.shape
    rows, columns = _pixels(height, stride), _pixels(width, stride)
    beyond = ((0, 0), (0, len(rows) * stride - height), (0, len(columns) * stride - width), (0, 0))
    cells = ops.reshape(ops.pad(mask, beyond), (-1, len(rows), stride, len(columns), stride, labels))
    return ops.sum(cells, axis=(2, 4)) / np.outer(rows, columns)[..., None]


def _pixels(side: int, stride: int) -> np.ndarray:
    """How many pixels of a side are in each cell, float32."""
    return np.diff([*range(0, side, stride), side]).astype("float32")


def mask_loss(target: Any, logits: Any) -> Any:
    """.25 binary cross-entropy of each image + .75 (1 - soft IoU) of the batch, float32 [B], the mean over labels.

    `target` [B, h, w, L] is 0 to 1. With t and p for target and probability and e for a constant, the soft IoU is
    (mean min(t, p) + e) / (mean max(t, p) + e). Where t is 0 or 1, that is the usual (tp) / (t + p - tp); where a cell
    is covered in part, it is best for p = t. The means are those of the batch: an image without boxes would have an IoU
    of 1 as soon as nothing is found in it, and where many are, networks learn to find nothing anywhere. For the same
    reason e is small: of a mask that is p everywhere, the IoU grows with p from 0 on only if e < (mean t)^2.
    """
    target, logits = ops.cast(target, "float32"), ops.cast(logits, "float32")
    entropy = ops.relu(logits) - logits * target + ops.softplus(-ops.abs(logits))
    probability = ops.sigmoid(logits)
    both, union = ops.minimum(target, probability), ops.maximum(target, probability)
    iou = (ops.mean(both, axis=(0, 1, 2)) + _EMPTY) / (ops.mean(union, axis=(0, 1, 2)) + _EMPTY)
    return _BCE * ops.mean(entropy, axis=(1, 2, 3)) + _IOU * ops.mean(1 - iou)

"""RetinaNet (Lin et al. 2017, arXiv:1708.02002): the loss and the boxes of KerasHub's network.

KerasHub's own loss is 0 for a batch without boxes, matches no anchor at all to a box unlike any of them, and depends on
the rest of the batch; torchvision's, from which its COCO weights come, does none of that and is what this is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kit.boxes import Boxes
from kit.models.detect.box_ops import best_boxes, corners_of, focal_loss, pairwise_iou
from kit.models.detect.detector import Detector
from kit.models.detect.matching import with_a_place

_POSITIVE, _NEGATIVE = 0.5, 0.4  # intersection over union from which an anchor is of a box, below which of none
_LARGEST = np.log(1000 / 16)  # as in torchvision: a box is at most so many times (in logs) the size of its anchor


class RetinaNet(Detector):
    """A network with outputs `logits` [B, A, L] and `deltas` [B, A, 4], of A anchors.

    `anchors`, float32 [A, 4] as [x, y, width, height] in pixels, is to be set by who builds it.
    """

    anchors: np.ndarray

    def losses(self, batch: Mapping[str, Any]) -> Any:
        """Focal loss of all anchors but those in doubt, and L1 of the deltas, per anchor with a box (1 at least)."""
        batch = with_a_place(batch)
        outputs = self(batch["image"], training=True)
        box, positive, doubtful = match_anchors(self.anchors, batch["boxes"], batch["box_mask"])
        boxes = ops.take_along_axis(batch["boxes"], box[..., None], axis=1)
        labels = ops.take_along_axis(ops.cast(batch["box_labels"], "int32"), box, axis=1)
        targets = ops.one_hot(labels, outputs["logits"].shape[-1]) * positive[..., None]
        classes = focal_loss(targets, outputs["logits"]) * (1 - doubtful)[..., None]
        distance = ops.abs(outputs["deltas"] - encoded(boxes, self.anchors)) * positive[..., None]
        count = ops.maximum(ops.sum(positive, axis=1), 1.0)
        return (ops.sum(classes, axis=(1, 2)) + ops.sum(distance, axis=(1, 2))) / count

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        """Each anchor, moved and stretched as the network says."""
        deltas = np.asarray(outputs["deltas"], np.float64)
        sides = self.anchors[:, 2:] * np.exp(np.minimum(deltas[..., 2:], _LARGEST))
        centres = self.anchors[:, :2] + self.anchors[:, 2:] / 2 + deltas[..., :2] * self.anchors[:, 2:]
        corners = np.concatenate([centres - sides / 2, centres + sides / 2], axis=-1)
        scores = 1 / (1 + np.exp(-np.asarray(outputs["logits"], np.float64)))
        return best_boxes(corners, scores, at_most, self.input_shape[1:3])


def match_anchors(anchors: Any, boxes: Any, real: Any) -> tuple[Any, Any, Any]:
    """The number of each anchor's box, int32 [B, A], and which anchors have one, and which are in doubt, float 0 or 1.

    An anchor belongs to the box it overlaps most, from intersection over union .5; between .4 and .5 it is in doubt.
    Whatever the overlap, those that overlap a box most (if at all) are that box's. `boxes` [B, N, 4] and anchors [A, 4]
    are [x, y, width, height]; `real` bool [B, N] is false for padding. N is 1 at least.
    """
    overlap = pairwise_iou(corners_of(ops.convert_to_tensor(anchors))[None], corners_of(boxes))
    overlap = ops.where(real[:, None], overlap, 0.0)
    most = ops.max(overlap, axis=1, keepdims=True)
    best = (overlap >= most) & (most > 0)  # of a box
    nearest = ops.max(overlap, axis=2)
    forced = ops.any(best, axis=2)
    box = ops.argmax(overlap + ops.where(best, 2.0, 0.0), axis=2)
    positive = forced | (nearest >= _POSITIVE)
    doubtful = ~positive & (nearest >= _NEGATIVE)
    return ops.cast(box, "int32"), ops.cast(positive, "float32"), ops.cast(doubtful, "float32")


def encoded(boxes: Any, anchors: np.ndarray) -> Any:
    """What moves anchors [A, 4] onto boxes [B, A, 4]: offsets of the centres and logs of the sides, by the anchors'."""
    sides = ops.maximum(boxes[..., 2:], 1e-3)  # padding has none
    offsets = boxes[..., :2] + boxes[..., 2:] / 2 - anchors[:, :2] - anchors[:, 2:] / 2
    return ops.concatenate([offsets / anchors[:, 2:], ops.log(sides / anchors[:, 2:])], axis=-1)

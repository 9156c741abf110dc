"""Mask R-CNN on any registered model (He et al. 2017, arXiv:1703.06870): regions are proposed, then judged.

All boxes count as filled: the masks that it learns say where in a region the box is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kit.boxes import Boxes
from kit.errors import ConfigError
from kit.models.detect import fpn, regions
from kit.models.detect.box_ops import best_boxes, clip_corners, corners_of
from kit.models.detect.detector import Detector
from kit.models.detect.neck import levels_of
from kit.models.detect.roi_align import RegionAlign

_FINEST, _COARSEST = 2, 6  # levels of the pyramid; regions take their features from all but the last
_CELLS, _MASK_CELLS, _MASK = 7, 14, 28  # sides of a region's features, of those for its mask, and of the mask
_MARGIN = 1.25  # a detection's mask is of a region so much wider and higher, or it could but shrink
_CANONICAL = 224 / 1024  # share of the image's side at which a region takes its features from level 4
_ANCHORS = 256  # of an image that are learnt from, at most half of them positive


@dataclass(frozen=True)
class Sampling:
    """How many regions of an image the heads learn from, how many of those may be positive; the class loss's weight."""

    rois: int
    positives: int
    class_weight: float


@dataclass(frozen=True)
class Parts:
    """What the network consists of; no container that Keras would count as layers once more.

    `trunk`: images -> maps (a list, finest first), logits [B, A] and offsets [B, A, 4] of the `anchors` [A, 4];
    `proposals`: those two -> regions [B, R, 4]. `align` and `align_masks`: regions and maps -> features of the regions
    [B · R, side, side, C]. `box_head`: features -> logits [B · R, L + 1] (the first: no box) and offsets [B · R, L, 4].
    `mask_head`: features -> logits [B · R, 28, 28, L]. Regions and anchors are corners in pixels.
    """

    anchors: np.ndarray
    trunk: keras.Model
    proposals: keras.layers.Layer
    align: RegionAlign
    box_head: keras.Model
    align_masks: RegionAlign
    mask_head: keras.Model


class MaskRCNN(Detector):
    """Its outputs are the D best pairs of region and label of each image, best first.

    `corners` [B, D, 4] in pixels, `scores` [B, D] and `masks` [B, D, 28, 28] in 0..1, `labels` [B, D]. A mask covers
    its `regions` [B, D, 4], which are somewhat larger; with `tighten`, boxes end where their masks do. Without, there
    is a mask of the best alone, [B, 1, 28, 28].
    """

    def __init__(self, inputs: Any, outputs: Any, parts: Parts, sampling: Sampling, tighten: bool, **kwargs: Any):
        super().__init__(inputs, outputs, **kwargs)
        self.parts, self.sampling, self.tighten = parts, sampling, tighten
        self.seed = keras.random.SeedGenerator()

    def losses(self, batch: Mapping[str, Any]) -> Any:
        # One more row of padding: the nearest of no boxes is a box, too.
        boxes, labels, mask = (
            ops.pad(batch[name], [[0, 0], [0, 1], *([0, 0] for _ in batch[name].shape[2:])])
            for name in ("boxes", "box_labels", "box_mask")
        )
        corners = ops.cast(corners_of(boxes), "float32") * _float(mask)[..., None]
        maps, logits, offsets = self.parts.trunk(batch["image"], training=True)
        logits, offsets = _float(logits), _float(offsets)
        proposals = self.parts.proposals(logits, offsets)
        # The boxes themselves are among the regions: at first, nothing else is near them.
        proposals = ops.stop_gradient(ops.concatenate([proposals, corners], axis=1))
        of_anchors = self._anchor_loss(logits, offsets, corners, mask)
        return of_anchors + self._region_loss(maps, proposals, corners, labels, mask)

    def _anchor_loss(self, logits: Any, offsets: Any, corners: Any, mask: Any) -> Any:
        """Which anchors have a box (IoU from .7, or the highest of a box; none: below .3), and where it is."""
        overlap, nearest = regions.matched(self.parts.anchors[None], corners, mask)
        highest = ops.max(overlap, axis=-1)
        of_a_box = ops.any((overlap > 0) & (overlap >= ops.max(overlap, axis=1, keepdims=True)), axis=-1)
        positive = ops.logical_or(highest >= 0.7, of_a_box)
        negative = ops.logical_and(highest < 0.3, ops.logical_not(positive))
        index, positive, valid = regions.sample(positive, negative, self._noise(highest), _ANCHORS, _ANCHORS // 2)
        truth = regions.rows(corners, regions.rows(nearest, index))
        targets = regions.offsets(truth, ops.take(self.parts.anchors, index, axis=0))
        class_loss = ops.binary_crossentropy(_float(positive), regions.rows(logits, index), from_logits=True)
        box_loss = _smooth_l1(regions.rows(offsets, index) - targets)
        return _mean(class_loss, valid) + _mean(box_loss, positive)

    def _region_loss(self, maps: Any, proposals: Any, corners: Any, labels: Any, mask: Any) -> Any:
        """Which label a region has (that of the box with an IoU from .5, or none), where the box is, and its mask."""
        overlap, nearest = regions.matched(proposals, corners, mask)
        positive = ops.max(overlap, axis=-1) >= 0.5
        padding = ops.any(proposals[..., 2:] <= proposals[..., :2], axis=-1)
        negative = ops.logical_not(ops.logical_or(positive, padding))
        rois, positives = self.sampling.rois, self.sampling.positives
        index, positive, valid = regions.sample(positive, negative, self._noise(positive), rois, positives)
        nearest = regions.rows(nearest, index)
        rois, truth, label = (
            regions.rows(values, at) for values, at in ((proposals, index), (corners, nearest), (labels, nearest))
        )
        class_loss, box_loss = self._box_losses(maps, rois, truth, label, positive)
        first = slice(0, positives)  # where the positive ones are
        mask_loss = self._mask_losses(maps, rois[:, first], truth[:, first], label[:, first])
        return (
            self.sampling.class_weight * _mean(class_loss, valid)
            + _mean(box_loss, positive)
            + _mean(mask_loss, positive[:, first])
        )

    def _box_losses(self, maps: Any, rois: Any, truth: Any, label: Any, positive: Any) -> tuple[Any, Any]:
        logits, offsets = self.parts.box_head(self.parts.align(rois, maps), training=True)
        count, labels = rois.shape[1], offsets.shape[1]
        logits = _float(ops.reshape(logits, (-1, count, labels + 1)))
        offsets = _of_label(_float(ops.reshape(offsets, (-1, count, labels, 4))), label, axis=2)
        targets = ops.where(positive, label + 1, 0)
        class_loss = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        return class_loss, _smooth_l1(offsets - regions.offsets(truth, rois))

    def _mask_losses(self, maps: Any, rois: Any, truth: Any, label: Any) -> Any:
        logits = self.parts.mask_head(self.parts.align_masks(rois, maps), training=True)
        logits = _float(ops.reshape(logits, (-1, rois.shape[1], *logits.shape[1:])))
        targets = regions.filled(truth, rois, _MASK)
        crossentropy = ops.binary_crossentropy(targets, _of_label(logits, label, axis=4), from_logits=True)
        return ops.mean(crossentropy, axis=(2, 3))

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        corners = outputs["corners"]
        if self.tighten:
            corners = tightened(corners, outputs["regions"], outputs["masks"])
        labels = np.arange(self.parts.box_head.outputs[1].shape[1])
        scores = np.where(outputs["labels"][..., None] == labels, outputs["scores"][..., None], 0)
        boxes = best_boxes(corners, scores, at_most, self.input_shape[1:3])
        return boxes.where(boxes.score > 0)

    def _noise(self, like: Any) -> Any:
        return keras.random.uniform(ops.shape(like), seed=self.seed)


class Proposals(layers.Layer):
    """Logits [B, A] and offsets [B, A, 4] of anchors -> the best regions [B, R, 4] (see `regions.proposals`)."""

    def __init__(self, anchors: np.ndarray, image: tuple[int, int], count: int, iou: float, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.anchors, self.image, self.count, self.iou = anchors, image, count, iou

    def call(self, logits: Any, offsets: Any) -> Any:
        logits, offsets = ops.stop_gradient(logits), ops.stop_gradient(offsets)
        return regions.proposals(logits, offsets, self.anchors, self.image, self.count, self.iou)


class Detections(layers.Layer):
    """Regions [B, R, 4] and what the box head says of them -> corners, regions for masks, scores and labels.

    The first two are [B, D, 4], the others [B, D].
    """

    def __init__(self, labels: int, image: tuple[int, int], count: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.labels, self.image, self.count = labels, image, count

    def call(self, proposals: Any, logits: Any, offsets: Any) -> tuple[Any, ...]:
        rois = proposals.shape[1]
        corners = regions.moved(proposals[:, :, None], ops.reshape(offsets, (-1, rois, self.labels, 4)))
        corners = ops.reshape(clip_corners(corners, *self.image), (-1, rois * self.labels, 4))
        scores = ops.reshape(ops.softmax(logits)[:, 1:], (-1, rois * self.labels))
        best, index = ops.top_k(scores, min(self.count, rois * self.labels))
        corners = regions.rows(corners, index)
        around = clip_corners(regions.widened(corners, _MARGIN), *self.image)
        return corners, around, best, ops.cast(index % self.labels, "float32")

    def compute_output_shape(self, proposals_shape: Any, logits_shape: Any, offsets_shape: Any) -> Any:
        shape = (proposals_shape[0], min(self.count, proposals_shape[1] * self.labels))
        return (*shape, 4), (*shape, 4), shape, shape


class Masks(layers.Layer):
    """Logits [B · D, 28, 28, L] and labels [B, D] -> the mask of each detection's own label, [B, D, 28, 28]."""

    def call(self, logits: Any, labels: Any) -> Any:
        logits = ops.reshape(logits, (-1, labels.shape[1], *logits.shape[1:]))
        return ops.sigmoid(_of_label(logits, ops.cast(labels, "int32"), axis=4))

    def compute_output_shape(self, logits_shape: Any, labels_shape: Any) -> Any:
        return (*labels_shape, *logits_shape[1:3])


def tightened(corners: np.ndarray, areas: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Corners [B, D, 4] around the cells from .5 of masks [B, D, 28, 28], which cover `areas` [B, D, 4].

    They stay as they are where there is no such cell.
    """
    covered = masks >= 0.5
    result = corners.copy()
    for axis in (0, 1):
        line = np.any(covered, axis=2 + axis)  # [B, D, 28]: columns, then rows
        first, last = line.argmax(axis=-1), line.shape[-1] - line[..., ::-1].argmax(axis=-1)
        start, end = areas[..., axis], areas[..., axis + 2]
        cell, some = (end - start) / line.shape[-1], line.any(axis=-1)
        result[..., axis] = np.where(some, start + first * cell, corners[..., axis])
        result[..., axis + 2] = np.where(some, start + last * cell, corners[..., axis + 2])
    return result


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    backbone: str = "resnet50",
    backbone_arguments: Mapping[str, Any] | None = None,
    channels: int = 256,
    units: int = 1024,
    anchor_scale: float = 8.0,
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    proposals: int = 128,
    proposal_iou: float = 0.7,
    rois: int = 64,
    positives: float = 0.25,
    class_weight: float = 1.0,
    detections: int = 32,
    tighten: bool = False,
) -> MaskRCNN:
    """An untrained MaskRCNN for so many labels (`outputs`).

    `channels` of the pyramid and the mask head; `units` of the two dense layers of the box head; anchors are
    `anchor_scale` strides wide, with `anchor_ratios` (height / width). Regions: the best `proposals` that suppression
    above `proposal_iou` leaves of four times as many. In training, `rois` of an image are sampled, a share of at most
    `positives` of them positive; `class_weight` multiplies the loss of their labels. The best `detections` are the
    outputs. With `tighten`, boxes end where their masks do, which made them worse on made-up ellipses. Raises
    ConfigError for impossible numbers.
    """
    _check_counts(channels=channels, units=units, proposals=proposals, rois=rois, detections=detections)
    _check_shares(proposal_iou=proposal_iou, positives=positives)
    if not anchor_ratios or min(*anchor_ratios, anchor_scale) <= 0:
        raise ConfigError(
            f"model.arguments.anchor_ratios = {[*anchor_ratios]}, anchor_scale = {anchor_scale}: one ratio or more, "
            "all above 0, are needed"
        )
    image = shape[:2]
    inputs, levels = levels_of(backbone, shape, backbone_arguments or {})
    pyramid = fpn.pyramid(levels, _FINEST, _COARSEST, channels)
    aligned = {int(name[1:]): x for name, x in pyramid.items() if name != f"P{_COARSEST}"}
    maps = list(aligned.values())
    canonical = _CANONICAL * (image[0] * image[1]) ** 0.5
    anchors = regions.anchors({name: x.shape[1:3] for name, x in pyramid.items()}, image, anchor_scale, anchor_ratios)

    logits, offsets = _of_anchors(list(pyramid.values()), channels, len(anchor_ratios))
    parts = Parts(
        anchors=anchors,
        trunk=keras.Model(inputs, [maps, logits, offsets]),
        proposals=Proposals(anchors, image, proposals, proposal_iou, name="proposals"),
        align=RegionAlign(list(aligned), image, _CELLS, canonical, name="align"),
        box_head=_box_head(channels, units, outputs),
        align_masks=RegionAlign(list(aligned), image, _MASK_CELLS, canonical, name="align_masks"),
        mask_head=_mask_head(channels, outputs),
    )
    proposed = parts.proposals(logits, offsets)
    judged = parts.box_head(parts.align(proposed, maps))
    corners, areas, scores, labels = Detections(outputs, image, detections, name="detections")(proposed, *judged)
    # Where masks change nothing, one alone is computed, so that the weights of the head are part of the network.
    masked = detections if tighten else 1
    aligned_masks = parts.align_masks(areas[:, :masked], maps)
    masks = Masks(dtype="float32", name="masks")(parts.mask_head(aligned_masks), labels[:, :masked])
    best = {"corners": corners, "regions": areas, "scores": scores, "labels": labels, "masks": masks}
    sampling = Sampling(rois, max(1, round(positives * rois)), class_weight)
    return MaskRCNN(inputs, best, parts=parts, sampling=sampling, tighten=tighten, name="mask_rcnn")


def _check_counts(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"model.arguments.{name} = {number}: 1 or more is needed")


def _check_shares(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number <= 1:
            raise ConfigError(f"model.arguments.{name} = {number}: a number above 0, and at most 1, is needed")


def _of_anchors(maps: Sequence[Any], channels: int, ratios: int) -> tuple[Any, Any]:
    """Logits [B, A] and offsets [B, A, 4] of all anchors, `ratios` at each place of maps [B, h, w, channels]."""
    inputs = keras.Input((None, None, channels))
    x = layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal")(inputs)
    logits = layers.Conv2D(ratios, 1, kernel_initializer=_small(0.01), dtype="float32")(x)
    offsets = layers.Conv2D(4 * ratios, 1, kernel_initializer=_small(0.01), dtype="float32")(x)
    flat = layers.Reshape((-1,), dtype="float32")(logits), layers.Reshape((-1, 4), dtype="float32")(offsets)
    head = keras.Model(inputs, flat, name="anchor_head")
    all_logits, all_offsets = zip(*map(head, maps), strict=True)
    return (
        layers.Concatenate(axis=1, dtype="float32", name="anchor_logits")(all_logits),
        layers.Concatenate(axis=1, dtype="float32", name="anchor_offsets")(all_offsets),
    )


def _box_head(channels: int, units: int, labels: int) -> keras.Model:
    inputs = keras.Input((_CELLS, _CELLS, channels))
    x = layers.Flatten()(inputs)
    for _ in range(2):
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
    logits = layers.Dense(labels + 1, kernel_initializer=_small(0.01), dtype="float32")(x)
    offsets = layers.Dense(4 * labels, kernel_initializer=_small(0.001), dtype="float32")(x)
    return keras.Model(inputs, [logits, layers.Reshape((labels, 4), dtype="float32")(offsets)], name="box_head")


def _mask_head(channels: int, labels: int) -> keras.Model:
    inputs = x = keras.Input((_MASK_CELLS, _MASK_CELLS, channels))
    for _ in range(4):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Conv2DTranspose(channels, 2, strides=2, activation="relu", kernel_initializer="he_normal")(x)
    logits = layers.Conv2D(labels, 1, kernel_initializer=_small(0.01), dtype="float32")(x)
    return keras.Model(inputs, logits, name="mask_head")


def _small(deviation: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=deviation)


def _of_label(values: Any, label: Any, axis: int) -> Any:
    """Of `values` [B, n, ..., L, ...], whose labels are on `axis`, those of each one's `label` int [B, n]."""
    own = ops.one_hot(label, values.shape[axis], dtype="float32")
    others = [1] * (len(values.shape) - 3)
    others.insert(axis - 2, values.shape[axis])
    return ops.sum(values * ops.reshape(own, (-1, values.shape[1], *others)), axis=axis)


def _smooth_l1(difference: Any) -> Any:
    """The smooth L1 loss (Girshick 2015, equation 3), the mean over the last axis."""
    size = ops.abs(difference)
    return ops.mean(ops.where(size < 1, 0.5 * size * size, size - 0.5), axis=-1)


def _mean(values: Any, where: Any) -> Any:
    """For each image [B] what it adds to the batch's mean of `values` [B, n] `where` bool [B, n], times B."""
    where = _float(where)
    share = ops.cast(ops.shape(where)[0], "float32") / ops.maximum(ops.sum(where), 1.0)
    return ops.sum(values * where, axis=1) * share


def _float(values: Any) -> Any:
    return ops.cast(values, "float32")

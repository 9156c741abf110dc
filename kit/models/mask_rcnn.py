"""Mask R-CNN on any registered model (He et al. 2017, arXiv:1703.06870): regions are proposed, then judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kit.boxes import Boxes
from kit.models import fpn, regions
from kit.models.box_ops import best_boxes, corners_of
from kit.models.detector import Detector
from kit.models.neck import levels_of
from kit.models.roi_align import RegionAlign

_FINEST, _COARSEST = 2, 6  # levels of the pyramid; regions take their features from up to the one before the last
_CELLS, _MASK_CELLS, _MASK = 7, 14, 28  # side of the features of a region, of those for its mask, and of the mask
_ANCHORS = 256  # anchors of an image that teach, at most half of them positive


@dataclass(frozen=True)
class Lesson:
    """How the second stage is taught: `rois` regions an image, of which at most `positives` (a number) are positive."""

    rois: int
    positives: int
    class_weight: float


@dataclass(frozen=True)
class Parts:
    """What a MaskRCNN consists of; not a container that Keras would count as layers of their own.

    `trunk`: images -> maps (a list, finest first), and the anchors' logits [B, A] and offsets [B, A, 4]. `propose`:
    those two -> regions [B, R, 4], corners. `align`, `judge`: regions and maps -> features -> logits [B · R, L + 1]
    (the first is that of no box) and offsets [B · R, L, 4]. `align_mask`, `outline`: -> logits [B · R, 28, 28, L].
    """

    trunk: keras.Model
    anchors: np.ndarray
    propose: keras.layers.Layer
    align: RegionAlign
    judge: keras.Model
    align_mask: RegionAlign
    outline: keras.Model


class Proposals(layers.Layer):
    """Logits [B, A] and offsets [B, A, 4] of anchors -> the best regions [B, R, 4] (see `regions.proposals`)."""

    def __init__(self, anchors: np.ndarray, image: tuple[int, int], count: int, threshold: float, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.anchors, self.image, self.count, self.threshold = anchors, image, count, threshold

    def call(self, logits: Any, offsets: Any) -> Any:
        logits, offsets = ops.stop_gradient(logits), ops.stop_gradient(offsets)
        return regions.proposals(logits, offsets, self.anchors, self.image, self.count, self.threshold)


class Detections(layers.Layer):
    """Regions [B, R, 4], and what `judge` says of them -> the best pairs of region and label, D of each image.

    Their corners [B, D, 4], refined and clipped, scores [B, D] in 0..1, best first, and labels [B, D].
    """

    def __init__(self, labels: int, image: tuple[int, int], count: int, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.labels, self.image, self.count = labels, image, count

    def call(self, proposed: Any, logits: Any, offsets: Any) -> tuple[Any, Any, Any]:
        pairs = proposed.shape[1] * self.labels
        corners = regions.moved(proposed[:, :, None], ops.reshape(offsets, (-1, proposed.shape[1], self.labels, 4)))
        height, width = self.image
        corners = ops.clip(corners, 0.0, np.array([width, height, width, height], "float32"))
        scores = ops.reshape(ops.softmax(logits)[:, 1:], (-1, pairs))
        best, index = ops.top_k(scores, min(self.count, pairs))
        label = ops.cast(index % self.labels, "float32")
        return regions.rows(ops.reshape(corners, (-1, pairs, 4)), index), best, label

    def compute_output_shape(self, proposed_shape: Any, logits_shape: Any, offsets_shape: Any) -> Any:
        count = min(self.count, proposed_shape[1] * self.labels)
        return (*proposed_shape[:1], count, 4), (*proposed_shape[:1], count), (*proposed_shape[:1], count)


class Outlines(layers.Layer):
    """Masks' logits [B · D, 28, 28, L] and labels [B, D] -> the mask of each detection's own label [B, D, 28, 28]."""

    def call(self, logits: Any, label: Any) -> Any:
        shape = (-1, label.shape[1], *logits.shape[1:])
        own = ops.one_hot(ops.cast(label, "int32"), logits.shape[-1])[:, :, None, None]
        return ops.sum(ops.sigmoid(ops.reshape(logits, shape)) * own, axis=-1)

    def compute_output_shape(self, logits_shape: Any, label_shape: Any) -> Any:
        return (*label_shape, *logits_shape[1:3])


class MaskRCNN(Detector):
    """Outputs: `corners` [B, D, 4], `scores` [B, D], `labels` [B, D], `masks` [B, D, 28, 28] of detections.

    A mask, in 0..1, covers its box; all boxes count as filled.
    """

    def __init__(self, inputs: Any, outputs: Any, parts: Parts, lesson: Lesson, tighten: bool, **kwargs: Any):
        super().__init__(inputs, outputs, **kwargs)
        self.parts, self.lesson, self.tighten = parts, lesson, tighten
        self.seed = keras.random.SeedGenerator()

    def losses(self, batch: Mapping[str, Any]) -> Any:
        corners = ops.cast(corners_of(batch["boxes"]), "float32")
        maps, logits, by = self.parts.trunk(batch["image"], training=True)
        first = self._first_stage(logits, by, corners, batch["box_mask"])
        proposed = self.parts.propose(logits, by)
        return first + self._second_stage(maps, proposed, corners, batch["box_labels"], batch["box_mask"])

    def _first_stage(self, logits: Any, by: Any, corners: Any, mask: Any) -> Any:
        """Which anchors are near a box, and how far: 0.7 of intersection over union, or the nearest there is."""
        overlap, nearest = regions.matched(self.parts.anchors[None], corners, mask)
        best = ops.max(overlap, axis=-1)
        for_a_box = ops.any((overlap > 0) & (overlap >= ops.max(overlap, axis=1, keepdims=True)), axis=-1)
        positive = ops.logical_or(best >= 0.7, for_a_box)
        negative = ops.logical_and(best < 0.3, ops.logical_not(positive))
        index, positive, valid = regions.sample(positive, negative, self._noise(best), _ANCHORS, _ANCHORS // 2)
        anchors = ops.take(self.parts.anchors, index, axis=0)
        targets = regions.offsets(regions.rows(corners, regions.rows(nearest, index)), anchors)
        wrong = ops.binary_crossentropy(_float(positive), _float(regions.rows(logits, index)), from_logits=True)
        far = _smooth(_float(regions.rows(by, index)) - targets)
        return _mean(wrong, valid) + _mean(far, positive)

    def _second_stage(self, maps: Any, proposed: Any, corners: Any, labels: Any, mask: Any) -> Any:
        """What is in a sample of the proposed regions, where exactly, and which part of them is covered.

        The boxes themselves are among what is proposed: at first nothing else is near them.
        """
        lesson, parts = self.lesson, self.parts
        proposed = ops.stop_gradient(ops.concatenate([proposed, corners], axis=1))
        overlap, nearest = regions.matched(proposed, corners, mask)
        positive = ops.max(overlap, axis=-1) >= 0.5
        whole = ops.all(proposed[..., 2:] > proposed[..., :2], axis=-1)  # not padding
        negative = ops.logical_and(whole, ops.logical_not(positive))
        index, positive, valid = regions.sample(
            positive, negative, self._noise(positive), lesson.rois, lesson.positives
        )
        rois, nearest = regions.rows(proposed, index), regions.rows(nearest, index)
        truth, label = regions.rows(corners, nearest), regions.rows(labels, nearest)

        logits, by = parts.judge(parts.align(rois, maps), training=True)
        count, kinds = rois.shape[1], by.shape[1]
        own = ops.one_hot(label, kinds, dtype="float32")
        logits, by = ops.reshape(logits, (-1, count, kinds + 1)), ops.reshape(by, (-1, count, kinds, 4))
        kind = ops.where(positive, label + 1, 0)
        wrong = ops.sparse_categorical_crossentropy(kind, _float(logits), from_logits=True)
        far = _smooth(ops.sum(_float(by) * own[..., None], axis=2) - regions.offsets(truth, rois))

        first = min(lesson.positives, count)  # where the positive ones are
        rois, truth, own = rois[:, :first], truth[:, :first], own[:, :first, None, None]
        outline = parts.outline(parts.align_mask(rois, maps), training=True)
        outline = ops.sum(_float(ops.reshape(outline, (-1, first, _MASK, _MASK, kinds))) * own, axis=-1)
        uncovered = ops.binary_crossentropy(regions.filled(truth, rois, _MASK), outline, from_logits=True)
        uncovered = ops.mean(uncovered, axis=(2, 3))
        return lesson.class_weight * _mean(wrong, valid) + _mean(far, positive) + _mean(uncovered, positive[:, :first])

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        labels = outputs["labels"].astype(int)[..., None] == np.arange(self.parts.judge.outputs[1].shape[1])
        scores = np.where(labels, outputs["scores"][..., None], 0)
        corners = outputs["corners"]
        if self.tighten:
            corners = tightened(corners, outputs["masks"])
        boxes = best_boxes(corners, scores, at_most, self.input_shape[1:3])
        return boxes.where(boxes.score > 0)

    def _noise(self, like: Any) -> Any:
        return keras.random.uniform(ops.shape(like), seed=self.seed)


def tightened(corners: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Corners [B, D, 4] around what is at least half covered in their masks [B, D, 28, 28]; as they are, where nothing is."""
    covered = masks >= 0.5
    result = corners.copy()
    for axis in (0, 1):
        line = covered.any(axis=2 + axis)  # [B, D, 28]
        first, last = line.argmax(axis=-1), line.shape[-1] - line[..., ::-1].argmax(axis=-1)
        start, cell = corners[..., axis], (corners[..., axis + 2] - corners[..., axis]) / line.shape[-1]
        some = line.any(axis=-1)
        result[..., axis] = np.where(some, start + first * cell, start)
        result[..., axis + 2] = np.where(some, start + last * cell, corners[..., axis + 2])
    return result


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str,
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
    detections: int = 32,
    class_weight: float = 1.0,
    tighten: bool = False,
) -> MaskRCNN:
    """An untrained MaskRCNN for `outputs` labels.

    `channels` of the pyramid and of masks; `units` of the two dense layers that judge a region; anchors of
    `anchor_scale` strides, with `anchor_ratios` (height / width). `proposals` regions an image are judged, which remain
    of four times as many by suppression above `proposal_iou`; the best `detections` are the outputs. In training, `rois`
    regions an image are sampled, at most that share `positives` of them of boxes; `class_weight` is that of the loss of
    their labels. With `tighten`, boxes end where their masks end.
    """
    image = shape[:2]
    inputs, levels = levels_of(backbone, shape, backbone_arguments or {})
    pyramid = fpn.pyramid(levels, _FINEST, _COARSEST, channels)
    fine = {name: x for name, x in pyramid.items() if int(name[1:]) < _COARSEST} or pyramid
    numbers = [int(name[1:]) for name in fine]
    canonical = 224 * (image[0] * image[1]) ** 0.5 / 1024

    propose_head = _region_head(channels, len(anchor_ratios))
    raw = [propose_head(x) for x in pyramid.values()]
    logits, by = (layers.Concatenate(axis=1, dtype="float32", name=name)(parts) for name, parts in
                  zip(("anchor_logits", "anchor_offsets"), zip(*raw, strict=True), strict=True))
    references = regions.anchors(
        {name: x.shape[1:3] for name, x in pyramid.items()}, image, anchor_scale, anchor_ratios
    )
    parts = Parts(
        trunk=keras.Model(inputs, [list(fine.values()), logits, by]),
        anchors=references,
        propose=Proposals(references, image, proposals, proposal_iou, name="proposals"),
        align=RegionAlign(numbers, image, _CELLS, canonical, name="align"),
        judge=_box_head(channels, units, outputs),
        align_mask=RegionAlign(numbers, image, _MASK_CELLS, canonical, name="align_mask"),
        outline=_mask_head(channels, outputs),
    )
    proposed = parts.propose(logits, by)
    judged = parts.judge(parts.align(proposed, list(fine.values())))
    corners, scores, label = Detections(outputs, image, detections, name="detections")(proposed, *judged)
    masks = Outlines(dtype="float32", name="masks")(parts.outline(parts.align_mask(corners, list(fine.values()))), label)
    lesson = Lesson(rois, max(1, round(positives * rois)), class_weight)
    found = {"corners": corners, "scores": scores, "labels": label, "masks": masks}
    return MaskRCNN(inputs, found, parts=parts, lesson=lesson, tighten=tighten, name="mask_rcnn")


def _region_head(channels: int, kinds: int) -> keras.Model:
    """A map [B, h, w, channels] -> logits [B, h · w · kinds] and offsets [B, h · w · kinds, 4] of its anchors."""
    small = keras.initializers.RandomNormal(stddev=0.01)
    inputs = keras.Input((None, None, channels))
    x = layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal")(inputs)
    logits = layers.Conv2D(kinds, 1, kernel_initializer=small, dtype="float32")(x)
    by = layers.Conv2D(4 * kinds, 1, kernel_initializer=small, dtype="float32")(x)
    return keras.Model(
        inputs, [layers.Reshape((-1,), dtype="float32")(logits), layers.Reshape((-1, 4), dtype="float32")(by)], name="rpn"
    )


def _box_head(channels: int, units: int, labels: int) -> keras.Model:
    """Features [n, 7, 7, channels] -> logits [n, labels + 1] and offsets [n, labels, 4] of n regions."""
    inputs = keras.Input((_CELLS, _CELLS, channels))
    x = layers.Flatten()(inputs)
    for _ in range(2):
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
    small, smaller = (keras.initializers.RandomNormal(stddev=deviation) for deviation in (0.01, 0.001))
    logits = layers.Dense(labels + 1, kernel_initializer=small, dtype="float32")(x)
    by = layers.Dense(4 * labels, kernel_initializer=smaller, dtype="float32")(x)
    return keras.Model(inputs, [logits, layers.Reshape((labels, 4), dtype="float32")(by)], name="box_head")


def _mask_head(channels: int, labels: int) -> keras.Model:
    """Features [n, 14, 14, channels] -> logits [n, 28, 28, labels] of n regions."""
    inputs = x = keras.Input((_MASK_CELLS, _MASK_CELLS, channels))
    for _ in range(4):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    x = layers.Conv2DTranspose(channels, 2, strides=2, activation="relu", kernel_initializer="he_normal")(x)
    small = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, layers.Conv2D(labels, 1, kernel_initializer=small, dtype="float32")(x), name="mask_head")


def _smooth(difference: Any) -> Any:
    """The smooth L1 loss, the mean over the last axis."""
    size = ops.abs(difference)
    return ops.mean(ops.where(size < 1, 0.5 * size * size, size - 0.5), axis=-1)


def _mean(values: Any, where: Any) -> Any:
    """What each image [B] contributes to the mean of `values` [B, n] over all in the batch `where` (bool) is true: their
    mean over the batch is that mean."""
    where = _float(where)
    share = ops.cast(ops.shape(where)[0], "float32") / ops.maximum(ops.sum(where), 1.0)
    return ops.sum(values * where, axis=1) * share


def _float(values: Any) -> Any:
    return ops.cast(values, "float32")


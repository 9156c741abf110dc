"""D-FINE (Peng et al. 2024, arXiv:2410.13842): the loss and the boxes of KerasHub's network.

KerasHub's own loss is of no use. It takes boxes in the unit that they come in for centres and shares of the image; its
matcher (see `matching`) pairs boxes with nearly arbitrary queries; padding is taught as label 0. This one is written
after the paper, with the weights of its authors' code (github Peterande/D-FINE), without denoising queries, for which
KerasHub wants the boxes of all images while the network is built.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from kit.boxes import Boxes
from kit.models.detect.box_ops import best_boxes, focal_loss, giou, iou
from kit.models.detect.detector import Detector
from kit.models.detect.matching import assign, with_a_place

HEAD = "head"  # the layer with all that comes after the backbone
_LABEL, _L1, _GIOU, _FINE, _DISTIL = 1.0, 5.0, 2.0, 0.15, 1.5  # weights of the losses
_COSTS = (2.0, 5.0, 2.0)  # of label, L1 and overlap, when boxes and queries are matched
_ALPHA, _GAMMA = 0.75, 2.0  # of the varifocal loss
_TEMPERATURE = 5.0


class DFine(Detector):
    """A network of Q queries that D layers refine.

    Its outputs: `logits` [B, D + 1, Q, L], `boxes` (centre, width and height as shares of the image) [B, D + 1, Q, 4],
    after a first guess and after each layer · `corners` [B, D, Q, 4, bins], the logits of how far each side of
    `reference` [B, Q, 4] is off · `first_logits` [B, Q, L] and `first_boxes`, from which the queries were chosen.
    """

    def losses(self, batch: Mapping[str, Any]) -> Any:
        """The losses of all layers and of the choice of queries, by the number of the image's boxes (at least 1)."""
        batch = with_a_place(batch)
        out = self(batch["image"], training=True)
        height, width = self.input_shape[1:3]
        sides = batch["boxes"][..., 2:]
        shares = ops.concatenate([batch["boxes"][..., :2] + sides / 2, sides], axis=-1)
        truth = shares / np.array([width, height, width, height], "float32")
        real, labels = batch["box_mask"], ops.cast(batch["box_labels"], "int32")
        logits = ops.concatenate([out["first_logits"][:, None], out["logits"]], axis=1)
        boxes = ops.concatenate([out["first_boxes"][:, None], out["boxes"]], axis=1)
        query = match_queries(logits, boxes, truth, labels, real)  # [B, D + 2, N]
        total = label_and_box_losses(logits, boxes, truth, labels, query)
        decoder = self.get_layer(HEAD).get_layer("decoder")
        bins = bin_distances(decoder.max_num_bins, decoder.upsampling_factor, decoder.reg_scale)
        layers, matched = boxes[:, 2:], query[:, 2:]
        total += _FINE * fine_loss(out["corners"], layers, out["reference"], truth, matched, bins, decoder.reg_scale)
        if out["corners"].shape[1] > 1:
            total += _DISTIL * distillation_loss(out["corners"], out["logits"][:, -1], layers, truth, matched)
        count = ops.sum(ops.cast(real, "float32"), axis=1)
        return total / ops.maximum(count, 1.0)

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        """The queries' last boxes."""
        height, width = self.input_shape[1:3]
        boxes = np.asarray(outputs["boxes"][:, -1], np.float64) * [width, height, width, height]
        corners = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)
        scores = 1 / (1 + np.exp(-np.asarray(outputs["logits"][:, -1], np.float64)))
        return best_boxes(corners, scores, at_most, (height, width))


def match_queries(logits: Any, boxes: Any, truth: Any, labels: Any, real: Any) -> Any:
    """The query of each box, int32 [B, S, N], -1 for padding, separately for S sets of predictions.

    `logits` [B, S, Q, L] · `boxes` [B, S, Q, 4] and `truth` [B, N, 4] as centre and sides, shares of the image ·
    `labels` int32 [B, N] · `real` bool [B, N].
    """
    positive = focal_loss(ops.ones_like(logits), logits) - focal_loss(ops.zeros_like(logits), logits)
    index = ops.broadcast_to(labels[:, None, None], (*ops.shape(logits)[:3], ops.shape(labels)[1]))
    label_cost = ops.take_along_axis(positive, index, axis=3)  # [B, S, Q, N]
    far = ops.sum(ops.abs(boxes[:, :, :, None] - truth[:, None, None]), axis=-1)
    overlap = giou(_corners(boxes)[:, :, :, None], _corners(truth)[:, None, None])
    costs = ops.transpose(_COSTS[0] * label_cost + _COSTS[1] * far - _COSTS[2] * overlap, (0, 1, 3, 2))
    sets, number, queries = costs.shape[1:]
    mask = ops.broadcast_to(real[:, None], (ops.shape(real)[0], sets, number))
    query = assign(ops.reshape(costs, (-1, number, queries)), ops.reshape(mask, (-1, number)))
    return ops.reshape(query, (-1, sets, number))


def label_and_box_losses(logits: Any, boxes: Any, truth: Any, labels: Any, query: Any) -> Any:
    """Varifocal, L1 and generalised-IoU losses, weighted and summed over sets of predictions: [B].

    The varifocal loss (Zhang et al. 2021, eq. 2) wants the score of a matched query to be the overlap of its box.
    """
    mine, target = _at(boxes, query), truth[:, None]
    matched = ops.cast(query >= 0, "float32")
    overlap = ops.stop_gradient(iou(_corners(mine), _corners(target))) * matched
    place = ops.one_hot(query, logits.shape[2])  # [B, S, N, Q]; nothing where there is no query
    label = ops.one_hot(labels, logits.shape[3])[:, None]  # [B, 1, N, L]
    is_label = ops.einsum("bsnq,btnl->bsql", place, label)
    wanted = ops.einsum("bsnq,btnl->bsql", place * overlap[..., None], label)
    p = ops.stop_gradient(ops.sigmoid(logits))
    weight = _ALPHA * ops.power(p, _GAMMA) * (1 - is_label) + wanted
    varifocal = ops.sum(ops.binary_crossentropy(wanted, logits, from_logits=True) * weight, axis=(1, 2, 3))
    distance = ops.sum(ops.abs(mine - target), axis=-1) * matched
    apart = (1 - giou(_corners(mine), _corners(target))) * matched
    return _LABEL * varifocal + ops.sum(_L1 * distance + _GIOU * apart, axis=(1, 2))


def bin_distances(bins: int, up: Any, scale: Any) -> Any:
    """How far each bin, [bins + 1], moves a side: W(n) of the paper's eq. 2, finer near 0."""
    bound = ops.abs(up[0] * scale[0])
    exponents = np.arange(1, bins // 2, dtype="float32") * np.float32(2 / (bins - 2))
    finer = ops.power(bound + 1, exponents) - 1
    ends = ops.reshape(2 * bound, (1,))
    return ops.concatenate([-ends, -ops.flip(finer), ops.zeros_like(ends), finer, ends])


def fine_loss(corners: Any, boxes: Any, reference: Any, truth: Any, query: Any, bins: Any, scale: Any) -> Any:
    """Fine-grained localisation (eq. 3): both bins around a side's true place, weighted by the overlap: [B].

    `corners` [B, D, Q, 4, bins] · `boxes` [B, D, Q, 4] · `reference` [B, Q, 4] · `query` [B, D, N].
    """
    mine = _at(ops.reshape(corners, (*ops.shape(corners)[:3], -1)), query)
    logits = ops.reshape(mine, (*ops.shape(mine)[:3], 4, corners.shape[-1]))
    around = _at(ops.broadcast_to(reference[:, None], ops.shape(boxes)), query)
    scale = ops.abs(scale[0])
    target = _corners(truth)[:, None]
    unit = ops.concatenate([around[..., 2:], around[..., 2:]], axis=-1) / scale
    centre = ops.concatenate([around[..., :2], around[..., :2]], axis=-1)
    away = np.array([-1, -1, 1, 1], "float32")  # outwards is positive
    distance = away * (target - centre) / ops.maximum(unit, 1e-9) - scale / 2
    left = ops.sum(ops.cast(bins <= distance[..., None], "int32"), axis=-1) - 1
    left = ops.clip(left, 0, bins.shape[0] - 2)
    low, high = ops.take(bins, left), ops.take(bins, left + 1)
    share = ops.clip((distance - low) / (high - low), 0.0, 1.0)
    logs = ops.log_softmax(logits, axis=-1)
    pick = [ops.take_along_axis(logs, (left + step)[..., None], axis=-1)[..., 0] for step in (0, 1)]
    share = ops.stop_gradient(share)
    loss = -ops.sum((1 - share) * pick[0] + share * pick[1], axis=-1)
    overlap = ops.stop_gradient(iou(_corners(_at(boxes, query)), _corners(truth)[:, None]))
    return ops.sum(loss * overlap * ops.cast(query >= 0, "float32"), axis=(1, 2))


def distillation_loss(corners: Any, logits: Any, boxes: Any, truth: Any, query: Any) -> Any:
    """Decoupled distillation (eq. 6): each layer's distributions towards the last layer's: [B].

    Matched queries count by their overlap, the others by the last layer's best score `logits` [B, Q, L]; the means of
    both by the roots of their numbers. Not divided by a number of boxes in the paper, so multiplied by it here.
    """
    matched = ops.cast(query[:, :-1] >= 0, "float32")
    overlap = iou(_corners(_at(boxes[:, :-1], query[:, :-1])), _corners(truth)[:, None]) * matched
    place = ops.one_hot(query[:, :-1], boxes.shape[2])
    is_matched = ops.sum(place, axis=2)  # [B, D - 1, Q]
    sure = ops.max(ops.sigmoid(logits), axis=-1)[:, None]
    weight = ops.einsum("bsnq,bsn->bsq", place, overlap) + (1 - is_matched) * sure
    teacher = ops.stop_gradient(corners[:, -1:]) / _TEMPERATURE
    logs = ops.log_softmax(teacher, axis=-1)
    off = ops.exp(logs) * (logs - ops.log_softmax(corners[:, :-1] / _TEMPERATURE, axis=-1))
    each = ops.stop_gradient(weight) * _TEMPERATURE**2 * ops.mean(ops.sum(off, axis=-1), axis=-1)
    hits = ops.sum(is_matched, axis=2)
    misses = boxes.shape[2] - hits
    root = ops.sqrt(hits), ops.sqrt(misses)
    mean = [ops.sum(each * m, axis=2) / ops.maximum(n, 1) for m, n in ((is_matched, hits), (1 - is_matched, misses))]
    loss = (mean[0] * root[0] + mean[1] * root[1]) / (root[0] + root[1])
    return ops.sum(loss, axis=1) * ops.maximum(hits[:, 0], 1.0)


def _at(values: Any, query: Any) -> Any:
    """values [B, S, Q, C] of the queries [B, S, N]: [B, S, N, C]; of the first where there is none."""
    return ops.take_along_axis(values, ops.maximum(query, 0)[..., None], axis=2)


def _corners(boxes: Any) -> Any:
    """Corners of boxes given by centre and sides."""
    return ops.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], axis=-1)

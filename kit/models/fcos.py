"""FCOS (Tian et al. 2019, arXiv:1904.01355): at every place of every map, is there an object, and how far are its sides?

One stage, no anchors. All that is learnt is computed from the batch in `losses`, with static shapes.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from kit.boxes import Boxes
from kit.errors import ConfigError
from kit.models import box_ops, fpn
from kit.models.detector import Detector
from kit.models.neck import levels_of

_PRIOR = 0.01  # the probability that an untrained network gives to every place (Lin et al. 2017, section 4.1)


class Places(NamedTuple):
    """Where the outputs stand: `centre` float32 [M, 2] (x, y), `stride` float32 [M], both in pixels; the places of one map after those of another."""

    centre: np.ndarray
    stride: np.ndarray


class Targets(NamedTuple):
    positive: Any  # bool [B, M]
    corners: Any
    labels: Any
    centrality: Any


class Fcos(Detector):
    places: Places
    assignment = "ranges"
    quality = "centre"
    radius = 1.5

    def losses(self, batch: Mapping[str, Any]) -> Any:
        outputs = self(batch["image"], training=True)
        logits, corners = outputs["logits"], self._corners(outputs["distances"])
        truth = ops.cast(box_ops.corners_of(ops.cast(batch["boxes"], "float32")), "float32")
        if self.assignment == "atss":
            object_of = atss(self.places, truth, batch["box_mask"])
        else:
            object_of = assign(self.places, truth, batch["box_mask"], self.radius)
        labels = ops.one_hot(batch["box_labels"], logits.shape[-1], dtype="float32")
        positive = ops.sum(object_of, axis=-1)
        target_labels = ops.einsum("bmn,bnl->bml", object_of, labels)
        target_corners = ops.einsum("bmn,bnc->bmc", object_of, truth)
        giou = box_ops.giou(corners, target_corners)
        if self.quality == "iou":
            quality = ops.stop_gradient(box_ops.iou(corners, target_corners)) * positive
            weight = positive
        else:
            quality = centrality(self.places, target_corners) * positive
            weight = quality
        count = ops.maximum(ops.sum(positive), 1.0)
        total = ops.maximum(ops.sum(weight), 1.0)
        classes = ops.sum(box_ops.focal_loss(target_labels, logits), axis=(1, 2)) / count
        boxes = ops.sum((1 - giou) * weight, axis=1) / total
        centre = ops.binary_crossentropy(quality, outputs["centres"][..., 0], from_logits=True)
        centres = ops.sum(centre * positive, axis=1) / count
        return (classes + boxes + centres) * ops.cast(ops.shape(logits)[0], "float32")

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        scores = np.sqrt(_sigmoid(outputs["logits"]) * _sigmoid(outputs["centres"]))
        x, y = self.places.centre.T
        left, top, right, bottom = np.moveaxis(outputs["distances"], -1, 0)
        corners = np.stack([x - left, y - top, x + right, y + bottom], axis=-1)
        return box_ops.best_boxes(corners, scores, at_most, self.input_shape[1:3])

    def _corners(self, distances: Any) -> Any:
        centre = self.places.centre
        return ops.concatenate([centre - distances[..., :2], centre + distances[..., 2:]], axis=-1)


def assign(places: Places, truth: Any, mask: Any, radius: float) -> Any:
    """float32 [B, M, N]"""
    centre, stride = places.centre[:, None], places.stride[:, None]
    truth = truth[:, None]  # [B, 1, N, 4]
    middle = (truth[..., :2] + truth[..., 2:]) / 2
    half = ops.maximum((truth[..., 2:] - truth[..., :2]) / 2, stride[..., None] / 2)
    off = ops.abs(centre - middle)  # [B, M, N, 2]
    inside = ops.all(off <= ops.minimum(half, radius * stride[..., None]), axis=-1)
    sides = ops.max(off + half, axis=-1)
    first, last = places.stride.min(), places.stride.max()
    low = np.where(stride == first, 0.0, 4 * stride)
    high = np.where(stride == last, np.inf, 8 * stride)
    suits = inside & (sides > low) & (sides <= high) & ops.cast(mask, "bool")[:, None]
    size = ops.where(suits, box_ops.area(truth), np.inf)
    smallest = ops.one_hot(ops.argmin(size, axis=-1), truth.shape[2], dtype="float32")
    return smallest * ops.cast(suits, "float32")


def atss(places: Places, truth: Any, mask: Any, k: int = 9) -> Any:
    boxes = truth[:, :, None]  # [B, N, 1, 4]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    anchors = np.concatenate(
        [places.centre - 4 * places.stride[:, None], places.centre + 4 * places.stride[:, None]], axis=1
    )
    overlap = box_ops.iou(boxes, anchors)  # [B, N, M]
    distance = ops.sum(ops.square(places.centre - middle), axis=-1)
    near = []
    for stride in np.unique(places.stride):
        own = distance[
            ..., np.flatnonzero(places.stride == stride)[0] : np.flatnonzero(places.stride == stride)[-1] + 1
        ]
        kth = ops.top_k(-own, min(k, own.shape[-1]))[0][..., -1:]
        near.append(-own >= kth)
    near = ops.cast(ops.concatenate(near, axis=-1), "float32")
    count = ops.sum(near, axis=-1, keepdims=True)
    mean = ops.sum(near * overlap, axis=-1, keepdims=True) / count
    std = ops.sqrt(ops.sum(near * ops.square(overlap - mean), axis=-1, keepdims=True) / (count - 1))
    half = ops.maximum((boxes[..., 2:] - boxes[..., :2]) / 2, places.stride[:, None] / 2)
    inside = ops.all(ops.abs(places.centre - middle) <= half, axis=-1)
    suits = (near > 0) & (overlap >= mean + std) & inside & ops.cast(mask, "bool")[..., None]
    suits = ops.transpose(suits, (0, 2, 1))
    value = ops.where(suits, ops.transpose(overlap, (0, 2, 1)), -1.0)
    best = ops.one_hot(ops.argmax(value, axis=-1), truth.shape[1], dtype="float32")
    return best * ops.cast(suits, "float32")


def centrality(places: Places, corners: Any) -> Any:
    before = ops.maximum(places.centre - corners[..., :2], 0.0)
    after = ops.maximum(corners[..., 2:] - places.centre, 0.0)
    return ops.sqrt(ops.prod(ops.minimum(before, after) / ops.maximum(ops.maximum(before, after), 1e-6), axis=-1))


class Distances(layers.Layer):
    """Distances in pixels, positive: exp(scale · x) · stride, with one learnt scale for each map."""

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.stride = stride

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, x: Any) -> Any:
        return self.stride * ops.exp(ops.minimum(self.scale * ops.cast(x, "float32"), 6.0))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


def build(
    *,
    shape: tuple[int, int, int],
    outputs: int,
    activation: str = "sigmoid",
    backbone: str = "resnet50",
    backbone_arguments: Mapping[str, Any] | None = None,
    finest: int = 3,
    coarsest: int = 6,
    channels: int = 256,
    depth: int = 4,
) -> Fcos:
    if channels % 8:
        raise ConfigError(f"model.arguments.channels = {channels}: a multiple of 8 is needed")
    inputs, levels = levels_of(backbone, shape, backbone_arguments or {})
    maps = fpn.pyramid(levels, finest, coarsest, channels)
    towers = {name: _tower(name, channels, depth) for name in ("class", "box")}
    last = {
        "logits": _convolution(outputs, "logits", -math.log(1 / _PRIOR - 1)),
        "distances": _convolution(4, "sides"),
        "centres": _convolution(1, "centres"),
    }
    parts: dict[str, list[Any]] = {name: [] for name in last}
    for name, x in maps.items():
        for tower, outs in (("class", ["logits"]), ("box", ["distances", "centres"])):
            y = x
            for layer in towers[tower]:
                y = layer(y)
            for out in outs:
                z = last[out](y)
                if out == "distances":
                    z = Distances(2 ** int(name[1:]), name=f"{name}_distances")(z)
                parts[out].append(layers.Reshape((-1, z.shape[-1]), name=f"{name}_{out}_rows", dtype="float32")(z))
    tensors = {
        name: layers.Concatenate(axis=1, name=name + "_all", dtype="float32")(each) if len(each) > 1 else each[0]
        for name, each in parts.items()
    }
    model = Fcos(inputs, tensors, name="fcos")
    strides = {name: 2 ** int(name[1:]) for name in maps}
    model.places = Places(
        np.concatenate([fpn.centres(x.shape[1:3], strides[name], shape[:2]) for name, x in maps.items()]),
        np.concatenate([np.full(math.prod(x.shape[1:3]), strides[name], "float32") for name, x in maps.items()]),
    )
    return model


def _tower(name, channels, depth):
    tower = []
    for n in range(depth):
        tower.append(layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv{n}", use_bias=False))
        tower.append(layers.GroupNormalization(channels // 8, name=f"{name}_norm{n}"))
        tower.append(layers.ReLU(name=f"{name}_relu{n}"))
    return tower


def _convolution(filters: int, name: str, bias: float = 0.0) -> layers.Layer:
    return layers.Conv2D(
        filters,
        3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=name,
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))

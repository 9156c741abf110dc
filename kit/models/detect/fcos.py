"""FCOS (Tian et al. 2019, arXiv:1904.01355): each place of each map says what it sees, and how far off its sides are.

One stage, no anchors. Which place is to see which box is computed in `losses`, from the batch.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from kit.boxes import Boxes
from kit.errors import ConfigError
from kit.models.detect import box_ops, fpn
from kit.models.detect.detector import Detector
from kit.models.detect.neck import levels_of

_PRIOR = 0.01  # the probability of an object at every place of an untrained network (Lin et al. 2017, section 4.1)
_RADIUS = 1.5  # strides between the middle of a box and the places that see it
_LARGEST = 6.0  # logarithm of the largest distance, in strides: keeps it finite


class Places(NamedTuple):
    """What the M rows of the outputs look at, map after map, finest first: float32 [M, 2] (x, y) and [M], in pixels."""

    centre: np.ndarray
    stride: np.ndarray


class Fcos(Detector):
    """A detector with one stage.

    Its outputs, of M places: `logits` [B, M, L]; `distances` [B, M, 4] in pixels, to the left, upper, right and lower
    side of a box; `centrality` [B, M, 1], a logit that says how near the place is to the middle of that box.
    """

    places: Places

    def losses(self, batch: Mapping[str, Any]) -> Any:
        """Focal loss of labels, GIoU loss of boxes, cross-entropy of centralities (Tian et al. 2019, eq. 2).

        Divided by the number of places that see a box, in the whole batch, times the number of images.
        """
        outputs = self(batch["image"], training=True)
        truth = box_ops.corners_of(ops.cast(batch["boxes"], "float32"))
        seen = assignment(self.places, truth, batch["box_mask"])  # [B, M, N]
        labels = ops.one_hot(batch["box_labels"], outputs["logits"].shape[-1], dtype="float32")
        sees, labels, boxes = ops.sum(seen, axis=-1), _of_seen(seen, labels), _of_seen(seen, truth)
        central = centrality(self.places, boxes) * sees
        class_loss = ops.sum(box_ops.focal_loss(labels, outputs["logits"]), axis=(1, 2))
        box_loss = ops.sum((1 - box_ops.giou(self._corners(outputs["distances"]), boxes)) * central, axis=1)
        entropy = ops.binary_crossentropy(central, outputs["centrality"][..., 0], from_logits=True)
        per_place = class_loss + ops.sum(entropy * sees, axis=1)
        loss = per_place / ops.maximum(ops.sum(sees), 1.0) + box_loss / ops.maximum(ops.sum(central), 1.0)
        return loss * ops.cast(ops.shape(loss)[0], "float32")

    def candidates(self, outputs: Mapping[str, np.ndarray], at_most: int) -> Boxes:
        """The boxes of the places with the highest scores: sqrt(probability · centrality)."""
        scores = np.sqrt(_sigmoid(outputs["logits"]) * _sigmoid(outputs["centrality"]))
        left_top, right_bottom = np.split(outputs["distances"], 2, axis=-1)
        centre = self.places.centre
        corners = np.concatenate([centre - left_top, centre + right_bottom], axis=-1)
        return box_ops.best_boxes(corners, scores, at_most, self.input_shape[1:3])

    def _corners(self, distances: Any) -> Any:
        centre = self.places.centre
        return ops.concatenate([centre - distances[..., :2], centre + distances[..., 2:]], axis=-1)


def assignment(places: Places, truth: Any, mask: Any) -> Any:
    """Which place is to see which box, float32 [B, M, N] of 0 and 1; `truth` are corners [B, N, 4], `mask` bool [B, N].

    A box is seen by places inside it and at most 1.5 strides from its middle, on the map whose range its farthest side
    is in: 4 to 8 strides, the finest map everything nearer, the coarsest everything farther. A place that could see
    several boxes sees the smallest. A box smaller than a stride counts as that large, so that some place is inside.
    """
    truth, stride = truth[:, None], places.stride[:, None]  # [B, 1, N, 4], [M, 1]
    half = (truth[..., 2:] - truth[..., :2]) / 2
    offset = ops.abs(places.centre[:, None] - (truth[..., :2] + half))  # [B, M, N, 2]
    reach = ops.minimum(ops.maximum(half, stride[..., None] / 2), _RADIUS * stride[..., None])
    farthest = ops.max(offset + half, axis=-1)
    nearer = np.where(stride == places.stride.min(), 0, 4 * stride)
    farther = np.where(stride == places.stride.max(), np.inf, 8 * stride)
    may = ops.all(offset <= reach, axis=-1) & (farthest > nearer) & (farthest <= farther) & mask[:, None]
    area = ops.where(may, box_ops.area(truth), np.inf)
    smallest = ops.cast(may & (area == ops.min(area, axis=-1, keepdims=True)), "float32")
    return smallest * ops.cast(ops.cumsum(smallest, axis=-1) <= 1, "float32")  # the first of several


def _of_seen(seen: Any, values: Any) -> Any:
    """The values [B, M, C] of the boxes that places see, of those [B, N, C] of all boxes; 0 where they see none."""
    return ops.sum(seen[..., None] * values[:, None], axis=2)  # a product of matrices would round them on a GPU or TPU


def centrality(places: Places, corners: Any) -> Any:
    """How central places are in boxes of these corners [B, M, 4], 0 to 1, [B, M] (Tian et al. 2019, eq. 3).

    A box smaller than a stride counts as that large: otherwise places outside it would learn nothing of its sides.
    """
    half = (corners[..., 2:] - corners[..., :2]) / 2
    offset = ops.abs(places.centre - (corners[..., :2] + half))
    half = ops.maximum(half, places.stride[:, None] / 2)
    ratios = ops.maximum(half - offset, 0.0) / (half + offset)
    return ops.sqrt(ratios[..., 0] * ratios[..., 1])


class Distances(layers.Layer):
    """Distances in pixels: exp(scale · x) strides, with a learnt scale for each map."""

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)  # half precision would round them to pixels
        self.stride = stride

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def call(self, x: Any) -> Any:
        return self.stride * ops.exp(ops.minimum(self.scale * x, _LARGEST))

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
    """An untrained network on maps of strides 2^`finest` to 2^`coarsest`, from a pyramid on any registered model.

    Its head, the same for all maps, is two towers of `depth` convolutions of so many `channels`. Raises ConfigError for
    impossible numbers.
    """
    if not 2 <= finest <= coarsest:
        raise ConfigError(
            f"model.arguments.finest = {finest}, coarsest = {coarsest}: 2 <= finest <= coarsest is needed"
        )
    if channels % 8 or channels < 8:
        raise ConfigError(f"model.arguments.channels = {channels}: a multiple of 8 is needed")
    inputs, levels = levels_of(backbone, shape, backbone_arguments or {})
    maps = fpn.pyramid(levels, finest, coarsest, channels)
    for_labels, for_boxes = (_tower(name, channels, depth) for name in ("class", "box"))
    logits, distances, central = _last("logits", outputs, _PRIOR), _last("distances", 4), _last("centrality", 1)
    rows: dict[str, list[Any]] = {"logits": [], "distances": [], "centrality": []}
    for name, x in maps.items():
        seen = _through(for_boxes, x)
        sides = Distances(2 ** int(name[1:]), name=f"{name}_distances")(distances(seen))
        for key, y in ("logits", logits(_through(for_labels, x))), ("distances", sides), ("centrality", central(seen)):
            rows[key].append(layers.Reshape((-1, y.shape[-1]), dtype="float32", name=f"{name}_{key}_rows")(y))
    joined = {
        key: each[0] if len(each) == 1 else layers.Concatenate(1, dtype="float32")(each) for key, each in rows.items()
    }
    detector = Fcos(inputs, joined, name="fcos")
    detector.places = _places({2 ** int(name[1:]): x.shape[1:3] for name, x in maps.items()}, shape[:2])
    return detector


def _places(sizes: Mapping[int, tuple[int, int]], image: tuple[int, int]) -> Places:
    """The places of maps with these strides and sizes."""
    centre = [fpn.centres(size, stride, image) for stride, size in sizes.items()]
    return Places(np.concatenate(centre), np.repeat([*map(float, sizes)], [*map(len, centre)]).astype("float32"))


def _tower(name: str, channels: int, depth: int) -> list[layers.Layer]:
    tower = []
    for n in range(depth):
        tower += [
            layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}{n}"),
            layers.GroupNormalization(channels // 8, name=f"{name}{n}_norm"),  # batches of large images are small
            layers.ReLU(name=f"{name}{n}_relu"),
        ]
    return tower


def _through(tower: list[layers.Layer], x: Any) -> Any:
    for layer in tower:
        x = layer(x)
    return x


def _last(name: str, filters: int, prior: float = 0.5) -> layers.Layer:
    """A last convolution, in float32, whose logits are at first about those of the probability `prior`."""
    kernel = keras.initializers.RandomNormal(stddev=0.01)
    bias = keras.initializers.Constant(math.log(prior / (1 - prior)))
    return layers.Conv2D(
        filters, 3, padding="same", kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name=name
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # where exp would overflow, this does not

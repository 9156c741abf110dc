"""Regions of images as two-stage detectors need them: anchors, offsets, suppression, sampling, filled masks.

Corners are [left, top, right, bottom] in pixels (see `kit.models.detect.box_ops`). All but `anchors` are functions of
tensors, of static shapes but for the batch, in float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kit.models.detect.box_ops import clip_corners, pairwise_iou
from kit.models.detect.fpn import centres

_SCALES = np.array([0.1, 0.1, 0.2, 0.2], "float32")  # what offsets are divided by, which brings them near 1
_FARTHEST = float(np.log(1000 / 16))  # the log of what a side may be multiplied by, against overflow
_SMALLEST = 1e-3  # pixels; the side that an empty region counts as


def anchors(
    maps: Mapping[str, tuple[int, int]], image: tuple[int, int], scale: float, ratios: Sequence[float]
) -> np.ndarray:
    """Corners float32 [A, 4] of the anchors of `maps`, {"P3": (rows, columns), ...}: map by map, place by place.

    Each place has one for each of `ratios` (height / width), of `scale` strides squared. They may reach out of the
    image (height, width).
    """
    parts = []
    for name, places in maps.items():
        stride = 2 ** int(name[1:])
        root = np.sqrt(np.asarray(ratios, "float32"))
        half = scale * stride / 2 * np.stack([1 / root, root], axis=-1)  # [ratios, 2]: width, height
        centre = centres(places, stride, image)[:, None]
        parts.append(np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4))
    return np.concatenate(parts).astype("float32")


def offsets(corners: Any, references: Any) -> Any:
    """How to get from the corners `references` to `corners`, both [..., 4]: what `moved` takes (Girshick 2015).

    The shift of the centre in sides of the reference and the log of how the sides grow, divided by .1 and .2.
    """
    centre, sides = _centre_and_sides(corners)
    from_centre, from_sides = _centre_and_sides(references)
    return ops.concatenate([(centre - from_centre) / from_sides, ops.log(sides / from_sides)], axis=-1) / _SCALES


def moved(references: Any, shifts: Any) -> Any:
    """The corners [..., 4] that offsets `shifts` lead to from the corners `references`."""
    centre, sides = _centre_and_sides(references)
    shifts = shifts * _SCALES
    middle = centre + shifts[..., :2] * sides
    half = sides * ops.exp(ops.minimum(shifts[..., 2:], _FARTHEST)) / 2
    return ops.concatenate([middle - half, middle + half], axis=-1)


def widened(corners: Any, factor: float) -> Any:
    """Corners [..., 4] with the same centre and sides `factor` times as long."""
    centre, sides = _centre_and_sides(corners)
    return ops.concatenate([centre - sides * factor / 2, centre + sides * factor / 2], axis=-1)


def rows(values: Any, index: Any) -> Any:
    """The entries `index` int [B, k] of `values` [B, n, ...]: [B, k, ...]."""
    index = ops.reshape(index, (-1, index.shape[1], *(1 for _ in values.shape[2:])))
    return ops.take_along_axis(values, index, axis=1)


def suppression(corners: Any, threshold: float) -> Any:
    """Greedy non-maximum suppression of corners [B, n, 4], best first: bool [B, n], true for those that are kept.

    A region is dropped when one that is kept, and better, covers it with an intersection over union above `threshold`.
    Exact: all regions are decided at once from what was decided last, until nothing changes. Each round settles at
    least one more, in truth nearly all.
    """
    n = corners.shape[1]
    better = np.tril(np.ones((n, n), bool), -1)  # [i, j]: j comes before i
    drops = ops.cast(ops.logical_and(pairwise_iou(corners, corners) > threshold, better), "float32")

    def decide(keep: Any, _: Any) -> tuple[Any, Any]:
        kept = ops.cast(ops.matmul(drops, keep[..., None])[..., 0] == 0, "float32")
        return kept, ops.any(kept != keep)

    start = ops.ones_like(corners[..., 0])
    keep, _ = ops.while_loop(lambda _, changed: changed, decide, (start, ops.any(start > 0)), maximum_iterations=n)
    return keep > 0


def proposals(
    logits: Any, shifts: Any, references: np.ndarray, image: tuple[int, int], count: int, threshold: float
) -> Any:
    """The `count` most promising regions of each image, best first: corners [B, count, 4] inside the image.

    `logits` [B, A] and offsets `shifts` [B, A, 4] are those of the anchors `references` [A, 4]. Suppression sees the
    best 4 · count; where it leaves too few, the best of the suppressed follow.
    """
    pool = min(4 * count, len(references))
    _, best = ops.top_k(logits, pool)
    corners = clip_corners(moved(ops.take(references, best, axis=0), rows(shifts, best)), *image)
    has_area = ops.all(corners[..., 2:] > corners[..., :2], axis=-1)
    keep = ops.logical_and(suppression(corners, threshold), has_area)
    rank = np.arange(pool, dtype="float32") + ops.where(keep, 0.0, float(pool))
    return rows(corners, ops.top_k(-rank, min(count, pool))[1])


def matched(regions: Any, corners: Any, mask: Any) -> tuple[Any, Any]:
    """For regions [B or 1, n, 4] and true corners [B, N, 4], those where `mask` bool [B, N]: the intersection over
    union of each pair, float [B, n, N] (0 where there is no box), and the number of each region's best box, [B, n].
    """
    overlap = pairwise_iou(regions, corners) * ops.cast(mask, "float32")[:, None]
    return overlap, ops.argmax(overlap, axis=-1)


def sample(positive: Any, negative: Any, noise: Any, count: int, positives: int) -> tuple[Any, Any, Any]:
    """A sample of `count` for each image: numbers int [B, count], and of each whether it is positive, and valid.

    Of those that are `positive` (bool [B, n]) at most so many `positives`, which come first; then of those that are
    `negative`; which ones is decided by `noise` in 0..1. Where there are too few of both, the rest is not valid.
    """
    count = min(count, positive.shape[1])
    luck = ops.where(positive, noise, -1.0)
    least = ops.top_k(luck, min(positives, count))[0][:, -1:]
    chosen = ops.logical_and(positive, luck >= least)
    priority, index = ops.top_k(ops.where(chosen, 2.0 + noise, ops.where(negative, noise, -1.0)), count)
    return index, priority >= 2, priority >= 0


def filled(corners: Any, regions: Any, side: int) -> Any:
    """The share of each cell that the box covers: [..., side, side] (rows, columns), of `side`² cells of its region.

    Boxes and regions are corners [..., 4].
    """
    edges = np.linspace(0, 1, side + 1, dtype="float32")
    covered = []
    for axis in (1, 0):
        start, end = regions[..., axis, None], regions[..., axis + 2, None]
        size = ops.maximum(end - start, _SMALLEST)
        borders = start + edges * size
        inside = ops.clip(borders, corners[..., axis, None], corners[..., axis + 2, None])
        covered.append((inside[..., 1:] - inside[..., :-1]) * side / size)
    return covered[0][..., :, None] * covered[1][..., None, :]


def _centre_and_sides(corners: Any) -> tuple[Any, Any]:
    low, high = corners[..., :2], corners[..., 2:]
    return (low + high) / 2, ops.maximum(high - low, _SMALLEST)

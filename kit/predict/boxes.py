"""Placeholder until merging of boxes is merged."""

from collections.abc import Sequence

import numpy as np

from kit.boxes import Boxes, iou, joined
from kit.config.predict import BoxSettings


def merge(boxes: Boxes, settings: BoxSettings) -> Boxes:
    """NMS."""
    boxes = boxes.where(boxes.score >= settings.min_score)
    keep: list[int] = []
    for n in range(boxes.images):
        inside = np.flatnonzero(boxes.image == n)
        order, kept = inside[np.argsort(-boxes.score[inside], kind="stable")], []
        for one in order:
            if len(kept) < settings.at_most and not (
                kept and iou(boxes.xywh[[one]], boxes.xywh[kept]).max() > settings.iou
            ):
                kept.append(one)
        keep += kept
    return boxes.where(np.array(keep, np.int64))


def fuse(parts: Sequence[Boxes], settings: BoxSettings) -> Boxes:
    """NMS of all."""
    return merge(joined(parts), settings) if len(parts) > 1 else parts[0]

"""What the report of a run says of boxes. A part of kit/stages/report.py."""

from collections.abc import Collection
from typing import Any

import numpy as np

from kit.boxes import Boxes, boxes_of
from kit.data.pixels.geometry import to_shares
from kit.data.records.images import iter_images
from kit.data.records.manifest import Records
from kit.evaluate.boxes import decision as box_decision
from kit.evaluate.boxes.score import gate_of, measured_by
from kit.evaluate.resample import statistic
from kit.evaluate.subgroups import intervals
from kit.report import boxes as of_boxes
from kit.report import pictures as images
from kit.report.page import Section
from kit.stages.score import metric_of_run

_SIDE = 320  # pixels of a picture with boxes
NOTE = (
    "Green: true boxes. Vermilion: boxes that the model kept, with their scores. Right and wrong are said of the image "
    "as a whole: is there a box in it, wherever?"
)


def sections(read: Any) -> list[Section]:
    """All on boxes, out of fold."""
    return of_boxes.sections(_judged(read), read.scores, read.decision)


def subgroups(read: Any, resamples: int) -> list[tuple[float, float]]:
    """The ends of the intervals of the score's parts, of boxes as the run's decision keeps them."""
    boxes, rows = _judged(read), _rows(read)
    metric = metric_of_run(read.run)
    measured = measured_by(metric, boxes.found, boxes.kept)

    def of_part(inside: np.ndarray, group_of: np.ndarray) -> Any:
        parts = boxes.truth.of_images(inside), measured.of_images(inside)
        return statistic(metric, *parts, group_of, len(boxes.labels))

    return intervals(rows, read.scores.subgroups, of_part, resamples, read.config.evaluate)


def pictures(read: Any, records: Records, ids: Collection[str]) -> dict[str, bytes]:
    """The images of these ids that the records hold, as JPEGs with true boxes in green and found ones in vermilion."""
    boxes, rows = _judged(read), _rows(read)
    place = {name: n for n, name in enumerate(rows["id"]) if name in set(ids)}
    chosen = np.array(sorted(place.values()), np.int64)
    sizes = rows["height"].to_numpy()[chosen], rows["width"].to_numpy()[chosen]
    true, kept = (to_shares(each.of_images(chosen), *sizes, records.image) for each in (boxes.truth, boxes.kept))
    number = {rows["id"].iloc[n]: k for k, n in enumerate(chosen)}
    return {
        name: _drawn(image, _of(true, number[name]), _of(kept, number[name]), boxes.labels)
        for name, image in iter_images(records, ids)
        if name in number
    }


def _drawn(image: np.ndarray, true: Boxes, kept: Boxes, labels: tuple[str, ...]) -> bytes:
    several = len(labels) > 1
    texts = [f"{labels[n]} " * several + f"{p:.2f}" for n, p in zip(kept.label, kept.score, strict=True)]
    names = [labels[n] for n in true.label] if several else []
    canvas = images.with_boxes(image, true.xywh, images.TRUE, names, _SIDE)
    return images.jpeg(images.with_boxes(canvas, kept.xywh, images.FOUND, texts, _SIDE), _SIDE)


def _of(boxes: Boxes, image: int) -> Boxes:
    return boxes.where(boxes.image == image)


def _judged(read: Any) -> of_boxes.JudgedBoxes:
    decision, labels = read.decision, read.labels
    raw, gate = boxes_of(read.oof, labels), gate_of(read.oof, labels)
    uncut = {name: rule.model_copy(update={"cut": 0.0, "shrink": 1.0}) for name, rule in decision.rules.items()}
    found = box_decision.apply(decision.model_copy(update={"rules": uncut}), raw, gate)
    kept = box_decision.apply(decision, raw, gate)
    return of_boxes.JudgedBoxes(labels, boxes_of(_rows(read), labels), found, kept, read.config.evaluate.empty_images)


def _rows(read: Any) -> Any:
    return read.examples.set_index("id").loc[read.oof["id"]].reset_index()

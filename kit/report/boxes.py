"""Sections on boxes: what is found at which price, what the cut keeps, and how well boxes lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kit.boxes import Boxes
from kit.decisions import BoxDecision
from kit.evaluate.boxes.matching import by_label, match
from kit.evaluate.boxes.metrics import (
    COUNTS_IOU,
    FALSE_POSITIVES,
    FROC_IOU,
    RSNA_IOUS,
    EmptyImages,
    froc_of,
    per_image_at,
)
from kit.report import panels, style
from kit.report.curves import Line, curves_of
from kit.report.page import Block, Figure, Section, Table, Text, interval, number, percent
from kit.report.panels import Names, Panel
from kit.schemas import BoxScores, BoxSetScores

MEASURES = {
    "ap50": "AP50",
    "ap": "AP",
    "froc": "FROC, mean sensitivity",
    **{f"sensitivity_at_{rate:g}": f"sensitivity at {rate:g} false boxes an image" for rate in FALSE_POSITIVES},
    "image_roc_auc": "ROC AUC of whole images",
    "rsna": "RSNA's metric",
    "precision": "precision of the boxes that are kept",
    "recall": "recall of true boxes",
    "f1": "F1",
    "mean_iou": "mean overlap (IoU)",
}
_MERGES = {
    "nms": "the best is kept (non-maximum suppression)",
    "soft_nms": "all but the best are weakened (soft non-maximum suppression)",
    "wbf": "the mean is taken (weighted boxes fusion)",
}
_MOST = 6  # labels that have a line


@dataclass(frozen=True)
class JudgedBoxes:
    """Out-of-fold boxes of some images with the true ones; `found` are weighed and not cut, `kept` as decided."""

    labels: tuple[str, ...]
    truth: Boxes
    found: Boxes
    kept: Boxes
    empty_images: EmptyImages = "left_out"

    def each(self) -> list[tuple[str, Boxes, Boxes]]:
        """Label, its true and its found boxes, of the first labels."""
        pairs = by_label(self.truth, self.found, len(self.labels))
        return [(name, *pair) for name, pair in zip(self.labels, pairs, strict=True)][:_MOST]


def sections(boxes: JudgedBoxes, scores: BoxScores, decision: BoxDecision) -> list[Section]:
    """All that is said of boxes."""
    finding: list[Block] = [_froc(boxes), _precision_recall(boxes), _images(boxes), _measures(scores, "out of fold")]
    if scores.test is not None:
        finding.append(_measures(scores.test, "on the test images"))
    return [
        Section("How well it finds", "finding", finding),
        Section(
            "What it keeps",
            "decision",
            [Text(_how(decision)), _by_cut(boxes, decision), _by_iou(boxes), _rules(decision)],
        ),
    ]


def rsna_by_iou(truth: Boxes, kept: Boxes, empty_images: EmptyImages) -> np.ndarray:
    """RSNA's metric at each of its demands on the overlap, float64 [8]; their mean is the metric, of one label."""
    matches = match(truth, kept, RSNA_IOUS)
    hits = np.stack([np.bincount(matches.image, hit, truth.images) for hit in matches.hit.T], axis=1)
    boxes = (np.bincount(kept.image, minlength=truth.images) + matches.true)[:, None]
    empty = {"left_out": np.nan, "one": 1.0, "zero": 0.0}[empty_images]
    values = np.divide(hits, boxes - hits, out=np.full(hits.shape, empty), where=boxes > 0)
    counted = ~np.isnan(values[:, 0])
    return values[counted].mean(axis=0) if counted.any() else np.full(len(RSNA_IOUS), np.nan)


def _froc(boxes: JudgedBoxes) -> Figure:
    rates = np.geomspace(FALSE_POSITIVES[0] / 2, FALSE_POSITIVES[-1], 160)
    once = np.ones(boxes.truth.images, np.int64)
    lines = [
        Line(label, rates, froc_of(true, found, FROC_IOU, rates.tolist())(once)[1:])
        for label, true, found in boxes.each()
        if len(true)
    ]

    def draw(axes: Any, content: Sequence[Line]) -> None:
        for n, line in enumerate(content):
            axes.plot(line.x, line.y, label=line.name, color=style.colour(n))
        axes.set_xscale("log", base=2)
        axes.set_xticks(FALSE_POSITIVES, labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.set(ylim=(-0.02, 1.02))

    alt = "; ".join(
        f"{line.name}: {number(float(np.interp(1, line.x, line.y)))} at 1 false box an image" for line in lines
    )
    return panels.of_panels(
        "froc",
        draw,
        [Panel("", lines)],
        Names("false boxes an image (mean)", "share of true boxes that are found"),
        f"FROC; {alt}",
        f"FROC curve: up is how many of the true boxes are found (overlap, IoU, above {FROC_IOU:g}), to the right how "
        "many false boxes an image that costs: each point is one possible cut of the score.",
    )


def _precision_recall(boxes: JudgedBoxes) -> Figure:
    lines = []
    for label, true, found in boxes.each():
        matches = match(true, found, [COUNTS_IOU])
        order = np.argsort(-matches.score, kind="stable")
        found_so_far = np.cumsum(matches.hit[order, 0])
        if len(true) and len(order):
            precision = found_so_far / np.arange(1, len(order) + 1)
            lines.append(Line(label, found_so_far / len(true), precision).thinned())
    kept = match(boxes.truth, boxes.kept, [COUNTS_IOU])
    hits = int(kept.hit.sum())
    point = (hits / max(len(boxes.truth), 1), hits / max(len(boxes.kept), 1))

    def draw(axes: Any, content: Sequence[Line]) -> None:
        for n, line in enumerate(content):
            axes.plot(line.x, line.y, label=line.name, color=style.colour(n))
        axes.plot(*point, "o", color=style.COLOURS[-1], label="boxes that are kept", markersize=6)
        axes.set(xlim=(-0.01, 1.02), ylim=(-0.01, 1.02))

    return panels.of_panels(
        "box_precision_recall",
        draw,
        [Panel("", lines)],
        Names("recall: share of true boxes that are found", "precision: share of boxes that are right"),
        f"precision and recall of boxes; those kept: recall {number(point[0])}, precision {number(point[1])}",
        "How many boxes are right, against how many of the true ones are found, at every cut of the score; right is a "
        f"box that overlaps a true one enough (IoU above {COUNTS_IOU:g}). The dot is what the decision keeps.",
    )


def _images(boxes: JudgedBoxes) -> Figure:
    count = len(boxes.labels)
    true, best = boxes.truth.best(count) > 0, boxes.found.best(count)
    lines, names = [], []
    for n, label in enumerate(boxes.labels[:_MOST]):
        curves = curves_of(true[:, n].astype(float), best[:, n])
        if curves is not None:
            names.append(f"{label}  {number(curves.auc)}")
            lines.append(Line(names[-1], curves.roc.x, curves.roc.y))

    def draw(axes: Any, content: Sequence[Line]) -> None:
        axes.plot([0, 1], [0, 1], color=style.CHANCE, linestyle="--", linewidth=1)
        for n, line in enumerate(content):
            axes.plot(line.x, line.y, label=line.name, color=style.colour(n))
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))

    return panels.of_panels(
        "image_roc",
        draw,
        [Panel("", lines)],
        Names("false alarms: share of images without a box", "found: share of images with a box"),
        f"ROC curves of whole images; areas: {'; '.join(names)}",
        "ROC curve of whole images, each by the score of its best box: does the image have a box at all, wherever? The "
        "number is the area below: 1 is perfect, .5 (dashed) is guessing.",
        legend=bool(lines),
    )


def _by_cut(boxes: JudgedBoxes, decision: BoxDecision) -> Figure:
    drawn = []
    for label, true, found in boxes.each():
        scores = np.unique(np.quantile(found.score, np.linspace(0, 1, 120))) if len(found) else np.empty(0)
        cuts = np.unique([*scores, decision.rules[label].cut])
        with np.errstate(invalid="ignore"):
            values = np.array([_mean(column) for column in per_image_at(cuts, true, found, boxes.empty_images).T])
        drawn.append(Panel(label, (Line("RSNA's metric", cuts, values), decision.rules[label].cut)))

    def draw(axes: Any, content: tuple[Line, float]) -> None:
        line, cut = content
        axes.plot(line.x, line.y, label=line.name, color=style.COLOURS[0])
        axes.axvline(cut, color=style.COLOURS[-1], linestyle=":", label="chosen cut")
        axes.set_ylim(bottom=0)

    return panels.of_panels(
        "rsna_by_cut",
        draw,
        drawn,
        Names("cut: boxes with at least this score are kept", "RSNA's metric"),
        "RSNA's metric by cut; chosen: " + ", ".join(f"{p.title} {number(p.content[1])}" for p in drawn),
        "What another cut of the score would give, before boxes are shrunk: too low, and false boxes cost more than "
        "the found ones bring; too high, and boxes are missed.",
    )


def _by_iou(boxes: JudgedBoxes) -> Figure:
    pairs = by_label(boxes.truth, boxes.kept, len(boxes.labels))
    lines = [
        Line(label, np.array(RSNA_IOUS), rsna_by_iou(true, kept, boxes.empty_images))
        for label, (true, kept) in zip(boxes.labels[:_MOST], pairs, strict=False)
    ]

    def draw(axes: Any, content: Sequence[Line]) -> None:
        for n, line in enumerate(content):
            axes.plot(line.x, line.y, "o-", markersize=4, label=line.name, color=style.colour(n))
        axes.set(ylim=(0, 1.02))

    return panels.of_panels(
        "rsna_by_iou",
        draw,
        [Panel("", lines)],
        Names("demand on the overlap (IoU above)", "hits / (hits + missed + false), mean"),
        "RSNA's metric by overlap; "
        + "; ".join(f"{line.name}: {number(float(line.y[0]))} to {number(float(line.y[-1]))}" for line in lines),
        "How exactly boxes lie: the metric by how much of both boxes together must be in both (intersection over "
        "union). A steep fall means that findings are found but outlined loosely. RSNA's metric is the mean of the "
        "points; here the boxes are those that the run's own decision keeps, which is slightly optimistic.",
    )


def _how(decision: BoxDecision) -> str:
    merge = decision.merge
    return (
        f"Of boxes that overlap, from {merge.iou:g} on, {_MERGES[merge.merge]}. Of each label, those are kept whose "
        "score reaches the cut: the one that is best on all out-of-fold boxes."
    )


def _rules(decision: BoxDecision) -> Table:
    rows = [
        [
            label,
            number(rule.cut),
            number(rule.fused_cut),
            f"× {rule.shrink:g}",
            f"power {rule.gate:g}" if rule.gate else "none",
            number(rule.nested),
            number(rule.on_the_images_that_chose_it),
        ]
        for label, rule in decision.rules.items()
    ]
    columns = ["label", "cut", "cut for test images", "sides", "weighed by the image", "worth", "worth where chosen"]
    caption = (
        "The decision on boxes. Boxes of test images are those of several models together, whose scores are lower, so "
        "they have a cut of their own. Worth: the metric where each fold is cut as the others decide; worth where "
        "chosen: on the images that chose the cut, which is optimistic."
    )
    return Table(columns, rows, caption)


def _measures(scores: BoxSetScores, what: str) -> Table:
    report = scores.report
    parts: Mapping[str, Any] = report.labels if len(report.labels) == 1 else {"mean": report.mean, **report.labels}
    columns = [text for name in parts for text in (name, f"{percent(scores.interval.confidence)} interval")]
    rows = []
    for key, name in MEASURES.items():
        values = [part[key] for part in parts.values() if key in part]
        if values:
            rows.append([name, *(t for v in values for t in (number(v.value), interval(v.low, v.high)))])
    caption = f"What boxes are measured by, {what}, with intervals over patients."
    return Table(["", *columns], rows, caption)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

"""How well probabilities rank images: ROC and precision-recall curves, and the scores of each label."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kit.report import panels, style
from kit.report.curves import Curves, Line, curves_of
from kit.report.judged import FEW, Judged, end_of_axis
from kit.report.page import Block, Figure, Table, Text, interval, number, percent
from kit.report.panels import Names, Panel
from kit.report.result import name_of
from kit.schemas import ClassScores, Scores

_FOLDS = 6  # up to so many have a line each


def curves(oof: Judged, test: Judged | None) -> list[Block]:
    """ROC and precision-recall curves of the labels, of all folds together and, of few labels, of each fold."""
    places = panels.shown(oof.labels, oof.most_positive())
    lines = {n: each for n in places if (each := _lines_of(oof, test, n, folds=len(places) <= FEW))}
    blocks: list[Block] = [_roc(oof, lines), _precision_recall(oof, lines)] if lines else []
    undefined = ", ".join(oof.labels[n] for n in places if n not in lines)
    if undefined:
        blocks.append(Text(f"No curve for {undefined}: only one class of it occurs.", "note"))
    return [*blocks, *_left_out(oof.labels, places)]


def _lines_of(oof: Judged, test: Judged | None, n: int, folds: bool) -> dict[str, Curves]:
    """The curves of a label by name; none where only one class of it occurs."""
    pooled = curves_of(oof.y[:, n], oof.p[:, n])
    if pooled is None:
        return {}
    lines = {"all folds": pooled, **(_of_folds(oof, n) if folds else {})}
    if test is not None and (tested := curves_of(test.y[:, n], test.p[:, n])) is not None:
        lines["test images"] = tested
    return lines


def _roc(oof: Judged, lines: dict[int, dict[str, Curves]]) -> Figure:
    many = len(lines) > FEW
    drawn, values = [], []
    for n, curves in lines.items():
        area = next(iter(curves.values())).auc
        values.append(f"{oof.labels[n]} {number(area)}")
        each = [_titled(curve.roc, name, None if many else curve.auc) for name, curve in curves.items()]
        drawn.append(Panel(f"{oof.labels[n]}  {number(area, 2)}" if many else oof.labels[n], each))
    return panels.of_panels(
        "roc",
        _draw_roc,
        drawn,
        Names("false alarms: share of images without it", "found: share of images with it"),
        f"ROC curves; areas: {', '.join(values)}",
        "ROC curve: each point is one possible cut; up is how many of the images with the finding are found "
        "(sensitivity), to the right how many of those without it are called wrongly (1 − specificity). The number is "
        "the area below it: 1 is perfect, .5 (dashed) is guessing.",
    )


def _precision_recall(oof: Judged, lines: dict[int, dict[str, Curves]]) -> Figure:
    many = len(lines) > FEW
    drawn, values = [], []
    for n, curves in lines.items():
        pooled = next(iter(curves.values()))
        values.append(f"{oof.labels[n]} {number(pooled.ap)}")
        each = [_titled(curve.pr, name, None if many else curve.ap) for name, curve in curves.items()]
        drawn.append(
            Panel(f"{oof.labels[n]}  {number(pooled.ap, 2)}" if many else oof.labels[n], (each, pooled.prevalence))
        )
    return panels.of_panels(
        "precision_recall",
        _draw_pr,
        drawn,
        Names("recall: share of images with it that are found", "precision: share of alarms that are right"),
        f"precision-recall curves; average precision: {', '.join(values)}",
        "Precision and recall at every cut: how many alarms are right, against how many of the images with the finding "
        "are found. The number is the average precision; dashed is what guessing gets, which is how common the finding "
        "is.",
    )


def _of_folds(oof: Judged, n: int) -> dict[str, Curves]:
    folds = np.unique(oof.fold)
    if not 1 < len(folds) <= _FOLDS:
        return {}
    curves = {f"fold {k + 1}": curves_of(oof.y[oof.fold == k, n], oof.p[oof.fold == k, n]) for k in folds.tolist()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def _titled(line: Line, name: str, value: float | None) -> Line:
    return Line(name if value is None else f"{name}  {number(value)}", line.x, line.y)


def _draw_roc(axes: Any, lines: Sequence[Line]) -> None:
    axes.plot([0, 1], [0, 1], color=style.CHANCE, linestyle="--", linewidth=1)
    _draw_lines(axes, lines)


def _draw_pr(axes: Any, content: tuple[Sequence[Line], float]) -> None:
    lines, prevalence = content
    axes.axhline(prevalence, color=style.CHANCE, linestyle="--", linewidth=1)
    _draw_lines(axes, lines)
    highest = max((line.y[line.x >= 0.1].max(initial=0) for line in lines), default=1.0)
    end = end_of_axis(np.array([highest]))
    axes.set_ylim(-0.01 * end, 1.02 * end)


def _draw_lines(axes: Any, lines: Sequence[Line]) -> None:
    """The first line thick and on top, folds thin below it, that of the test black."""
    for n, line in enumerate(lines):
        kind: dict[str, Any] = {"color": style.colour(n), "linewidth": 2.0, "zorder": 4 - 0.1 * n}
        if line.name.startswith("fold "):
            kind |= {"linewidth": 0.9, "alpha": 0.75, "zorder": 2}
        elif line.name.startswith("test"):
            kind |= {"color": style.COLOURS[-1], "linewidth": 1.4}
        axes.plot(line.x, line.y, label=line.name, **kind)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def before_and_after(before: Judged, after: Judged) -> list[Block]:
    """ROC of each label by the frozen network, and after training; of the images that both predict."""
    names, several, rows = ("frozen network", "trained"), len(after.labels) > 1, []
    drawn = []
    for n in panels.shown(after.labels, after.most_positive()):
        curves = [curves_of(each.y[:, n], each.p[:, n]) for each in (before, after)]
        if curves[0] is None or curves[1] is None:
            continue
        pair = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve is not None]
        lines = [_titled(curve.roc, name, None if several else curve.auc) for name, curve in pair]
        drawn.append(Panel(after.labels[n], lines))
        values = [curve.auc for _, curve in pair]
        rows.append([after.labels[n], *map(number, values), f"{values[1] - values[0]:+.3f}"])
    if not drawn:
        return []
    alt = f"ROC curves before and after training of {len(drawn)} labels; areas are in the table"
    caption = (
        "ROC curves, out of fold, of a linear head on the pre-trained network as it was (frozen) and of the whole "
        "network after training: where the second line is above the first, training has added something."
    )
    axes = Names("false alarms: share of images without it", "found: share of images with it")
    return [
        panels.of_panels("roc_before_after", _draw_roc, drawn, axes, alt, caption),
        Table(["label", "frozen", "trained", "difference"], rows, "Area under the ROC curve (ROC AUC), out of fold."),
    ]


def tables_of(scores: Scores) -> list[Block]:
    """The scores of each label, out of fold and on labelled test images."""
    tables: list[Block] = [_labels_table(scores, "out of fold")]
    return tables if scores.test is None else [*tables, _labels_table(scores.test, "on the test images")]


def _labels_table(scores: ClassScores, what: str) -> Table:
    metric = name_of(scores.metric)
    others = {name_of(name): name for name in ("roc_auc", "average_precision", "log_loss") if name != scores.metric}
    rows = []
    for label, value in scores.labels.items():
        metrics = scores.metrics["labels"][label]
        counts = (number(int(metrics[name] or 0)) for name in ("positives", "rows"))
        own = number(value.value), interval(value.low, value.high)
        rows.append([label, *counts, *own, *(number(metrics[name]) for name in others.values())])
    if len(scores.labels) > 1:
        mean, ends = scores.metrics["average"]["macro"], interval(scores.interval.low, scores.interval.high)
        means = (number(mean[name]) for name in others.values())
        rows.append(["all (mean)", "", number(scores.rows), number(scores.value), ends, *means])
        rows += [
            [f"mean of the {name}", "", "", number(value), "", *[""] * len(others)]
            for name, value in scores.means.items()
        ]
    return Table(
        ["label", "with it", "images", metric, f"{percent(scores.interval.confidence)} interval", *others],
        rows,
        f"Each label, {what}. The interval is that of {metric}, over patients drawn anew {scores.interval.resamples:,} "
        "times (bootstrap): with other patients, the value may well lie elsewhere in it.",
    )


def _left_out(labels: Sequence[str], places: Sequence[int]) -> list[Block]:
    left = len(labels) - len(places)
    if not left:
        return []
    return [
        Text(f"Figures show the {len(places)} labels with the most images; the tables have all {len(labels)}.", "note")
    ]

"""Sections on probabilities: how well they rank, what the decision makes of them, and whether they can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kit.decisions import Decision
from kit.evaluate.decision import class_factors, label_cuts
from kit.evaluate.sent import sent
from kit.report import panels, style
from kit.report.curves import Curves, Line, curves_of
from kit.report.page import Block, Figure, Section, Table, Text, interval, number
from kit.report.panels import Names, Panel
from kit.schemas import CalibrationReport, Number, Scores
from kit.tables import probabilities, truth, with_truth

_FOLDS = 6  # up to so many have a line each
_FEW = 3  # labels, up to which each fold has its line
_BINS = 40


@dataclass(frozen=True)
class Judged:
    """Predictions of images with the truth: `y` float [images, labels], NaN where unknown.

    `p` [images, labels] are probabilities as the models gave them, by which they are ranked; `sent` those that the
    decision cuts; `fold` int [images]: whose model predicted the image.
    """

    labels: tuple[str, ...]
    fold: np.ndarray
    y: np.ndarray
    p: np.ndarray
    sent: np.ndarray

    def names(self, n: int) -> tuple[str, str]:
        """What an image without the label, and one with it, is called."""
        return f"not {self.labels[n]}", self.labels[n]


def judged(table: pd.DataFrame, examples: pd.DataFrame, decision: Decision) -> Judged:
    """Predictions (id, `p_*`; fold where there is one) with the truth from the example table."""
    labels = decision.labels
    fold = table["fold"].to_numpy() if "fold" in table else np.zeros(len(table), np.int64)
    y = truth(with_truth(table, examples, labels), labels).astype(np.float64)
    p = probabilities(table, labels).astype(np.float64)
    return Judged(labels, fold, y, p, probabilities(sent(decision, table), labels).astype(np.float64))


def sections(oof: Judged, test: Judged | None, scores: Scores, decision: Decision) -> list[Section]:
    """All that is said of probabilities; `test` are those of labelled test images."""
    return [
        Section("How well it ranks", "ranking", _ranking(oof, test)),
        Section("What it decides", "decision", _decisions(oof, decision)),
        Section("Can the probabilities be believed?", "calibration", _calibration(oof, scores.calibration, decision)),
        Section("Label by label", "labels", [_labels_table(scores, "out of fold"), *_test_labels(scores)]),
    ]


def before_and_after(before: Judged, after: Judged) -> list[Block]:
    """ROC of each label by the frozen network, and after training; of the images that both predict."""
    names, several, rows = ("frozen network", "trained"), len(after.labels) > 1, []
    drawn = []
    for n in panels.shown(after.labels, _by_positives(after)):
        curves = [curves_of(each.y[:, n], each.p[:, n]) for each in (before, after)]
        if curves[0] is None or curves[1] is None:
            continue
        pair = [(name, curve) for name, curve in zip(names, curves, strict=True) if curve is not None]
        lines = [_titled(curve.roc, name if several else f"{name}  {number(curve.auc)}") for name, curve in pair]
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


# ---- ranking


def _ranking(oof: Judged, test: Judged | None) -> list[Block]:
    places = panels.shown(oof.labels, _by_positives(oof))
    several = len(places) > 1
    roc, pr, undefined = [], [], []
    for n in places:
        pooled = curves_of(oof.y[:, n], oof.p[:, n])
        if pooled is None:
            undefined.append(oof.labels[n])
            continue
        lines = {"all folds": pooled, **(_of_folds(oof, n) if len(places) <= _FEW else {})}
        if test is not None and (tested := curves_of(test.y[:, n], test.p[:, n])) is not None:
            lines["test images"] = tested
        many = len(places) > _FEW
        title = oof.labels[n]
        roc.append(
            Panel(
                f"{title}  {number(pooled.auc, 2)}" if many else title,
                [_titled(c.roc, name if many else f"{name}  {number(c.auc)}") for name, c in lines.items()],
            )
        )
        pr.append(
            Panel(
                f"{title}  {number(pooled.ap, 2)}" if many else title,
                (
                    [_titled(c.pr, name if many else f"{name}  {number(c.ap)}") for name, c in lines.items()],
                    pooled.prevalence,
                ),
            )
        )
    blocks: list[Block] = []
    if roc:
        values = "; ".join(panel.content[0].name if not several else panel.title for panel in roc)
        blocks = [
            panels.of_panels(
                "roc",
                _draw_roc,
                roc,
                Names("false alarms: share of images without it", "found: share of images with it"),
                f"ROC curves; areas: {values}",
                "ROC curve: each point is one possible cut; up is how many of the images with the finding are found "
                "(sensitivity), to the right how many of those without it are called wrongly (1 − specificity). The "
                "number is the area below it: 1 is perfect, .5 (dashed) is guessing.",
            ),
            panels.of_panels(
                "precision_recall",
                _draw_pr,
                pr,
                Names("recall: share of images with it that are found", "precision: share of alarms that are right"),
                f"precision-recall curves; average precision: {'; '.join(panel.title for panel in pr)}",
                "Precision and recall at every cut: how many alarms are right, against how many of the images with the "
                "finding are found. The number is the average precision; dashed is what guessing gets, which is how "
                "common the finding is.",
            ),
        ]
    if undefined:
        blocks.append(Text(f"No curve for {', '.join(undefined)}: only one class of it occurs.", "note"))
    return [*blocks, *_left_out(oof.labels, places)]


def _of_folds(oof: Judged, n: int) -> dict[str, Curves]:
    folds = np.unique(oof.fold)
    if not 1 < len(folds) <= _FOLDS:
        return {}
    curves = {f"fold {k + 1}": curves_of(oof.y[oof.fold == k, n], oof.p[oof.fold == k, n]) for k in folds.tolist()}
    return {name: curve for name, curve in curves.items() if curve is not None}


def _titled(line: Line, name: str) -> Line:
    return Line(name, line.x, line.y)


def _draw_roc(axes: Any, lines: Sequence[Line]) -> None:
    axes.plot([0, 1], [0, 1], color=style.CHANCE, linestyle="--", linewidth=1)
    _draw_lines(axes, lines)


def _draw_pr(axes: Any, content: tuple[Sequence[Line], float]) -> None:
    lines, prevalence = content
    axes.axhline(prevalence, color=style.CHANCE, linestyle="--", linewidth=1)
    _draw_lines(axes, lines)


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


# ---- decisions


def _decisions(oof: Judged, decision: Decision) -> list[Block]:
    blocks: list[Block] = [Text(_how(decision))]
    if decision.classes is not None:
        blocks.append(_classes_matrix(oof, decision))
    elif len(oof.labels) <= _FEW:
        blocks.append(_label_matrices(oof, decision))
    blocks += [_threshold_curves(oof, decision), *_cut_tables(oof, decision)]
    return blocks


def _how(decision: Decision) -> str:
    rules = sorted({cut.rule for cut in decision.thresholds.values()})
    if decision.classes is not None:
        weighed = decision.classes.applied and decision.classes.factors
        likeliest = "Decided on is the likeliest class"
        if weighed:
            factors = ", ".join(f"{name} × {factor:.2f}" for name, factor in (decision.classes.factors or {}).items())
            return f"{likeliest}, after its probability is multiplied by a factor that balances the classes: {factors}."
        return f"{likeliest}."
    if len(decision.labels) == 1:
        cut = label_cuts(decision)[0]
        return (
            f"An image is called {decision.labels[0]} from a probability of {number(float(cut))} on: the cut that is "
            f"best by {' and '.join(rules) or 'default'} on all out-of-fold predictions."
        )
    return f"Each label has a cut of its own, the best by {' and '.join(rules) or 'default'} out of fold."


def _classes_matrix(oof: Judged, decision: Decision) -> Figure:
    known = ~np.isnan(oof.y).any(axis=1)
    true, called = oof.y[known].argmax(axis=1), (oof.sent[known] * class_factors(decision)).argmax(axis=1)
    size = len(oof.labels)
    counts = np.bincount(true * size + called, minlength=size * size).reshape(size, size)
    return panels.of_panels(
        "confusion",
        lambda axes, content: panels.draw_matrix(axes, content, oof.labels),
        [Panel("", counts)],
        Names("called", "in truth"),
        f"confusion matrix of {size} classes; {int(np.trace(counts))} of {int(counts.sum())} images are right",
        _CONFUSION,
        legend=False,
    )


_CONFUSION = (
    "Confusion matrix, out of fold: each row holds the images of one true class, each column what they were called; "
    "the diagonal is right. Percentages are shares of the row."
)


def _label_matrices(oof: Judged, decision: Decision) -> Figure:
    drawn = []
    for n, (label, cut) in enumerate(zip(oof.labels, label_cuts(decision), strict=True)):
        tp, fp, fn, tn = _counts(oof.y[:, n], oof.sent[:, n], cut)
        drawn.append(Panel(label if len(oof.labels) > 1 else "", (np.array([[tn, fp], [fn, tp]]), oof.names(n))))
    alt = "; ".join(f"{label}: {p.content[0].ravel().tolist()} (TN, FP, FN, TP)" for label, p in zip(oof.labels, drawn))
    return panels.of_panels(
        "confusion",
        lambda axes, content: panels.draw_matrix(axes, *content),
        drawn,
        Names("called", "in truth"),
        f"confusion matrices: {alt}",
        _CONFUSION,
        legend=False,
    )


def _counts(y: np.ndarray, p: np.ndarray, cut: float) -> tuple[int, int, int, int]:
    """TP, FP, FN, TN of the images whose label is known."""
    known = ~np.isnan(y)
    true, called = y[known] > 0.5, p[known] >= cut
    tp, fp = int((true & called).sum()), int((~true & called).sum())
    return tp, fp, int(true.sum()) - tp, int((~true).sum()) - fp


def _threshold_curves(oof: Judged, decision: Decision) -> Figure:
    drawn = []
    for n in panels.shown(oof.labels, _by_positives(oof)):
        curves = curves_of(oof.y[:, n], oof.sent[:, n])
        if curves is not None:
            cut = decision.thresholds[oof.labels[n]].threshold if oof.labels[n] in decision.thresholds else None
            drawn.append(Panel(oof.labels[n], (curves, cut)))
    cuts = ", ".join(f"{panel.title} {number(panel.content[1])}" for panel in drawn)
    return panels.of_panels(
        "thresholds",
        _draw_thresholds,
        drawn,
        Names("cut: called from this probability on", "share of images"),
        f"precision, sensitivity and F1 by the cut; chosen cuts: {cuts}",
        "What another cut would do: a higher one gives fewer false alarms (precision rises) and misses more (sensitivity "
        "falls). F1 is the harmonic mean of both; the dotted line is the cut that was chosen"
        + (", of this class against the others." if decision.classes is not None else "."),
    )


def _draw_thresholds(axes: Any, content: tuple[Curves, Number]) -> None:
    curves, cut = content
    for n, line in enumerate((curves.precision, curves.recall, curves.f1)):
        axes.plot(line.x, line.y, label=line.name, color=style.colour(n))
    if cut is not None:
        axes.axvline(cut, color=style.COLOURS[-1], linestyle=":", label="chosen cut")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


_OF_CUTS = {"sensitivity": "recall", "specificity": "specificity", "precision": "precision", "F1": "f1", "MCC": "mcc"}


def _cut_tables(oof: Judged, decision: Decision) -> list[Block]:
    nested, counts = [], []
    for n, label in enumerate(oof.labels):
        cut = decision.thresholds.get(label)
        if cut is None:
            continue
        worth = cut.cross_validated or {}
        nested.append([label, number(cut.threshold), *(number(worth.get(metric)) for metric in _OF_CUTS.values())])
        if decision.classes is None and cut.threshold is not None:
            tp, fp, fn, tn = _counts(oof.y[:, n], oof.sent[:, n], cut.threshold)
            counts.append([label, number(cut.threshold), *map(number, (tp, fn, fp, tn))])
    if not nested:
        return []
    tables: list[Block] = [
        Table(
            ["label", "cut", *_OF_CUTS],
            nested,
            "What the cuts are worth on images that did not choose them: each fold is cut where the others would. "
            "Sensitivity: share of images with it that are found; specificity: share of those without it that are "
            "left alone; precision: share of alarms that are right; MCC: 0 is chance, 1 perfect.",
        )
    ]
    if counts and len(oof.labels) > _FEW:
        names = ["label", "cut", "found (TP)", "missed (FN)", "false alarms (FP)", "rightly left alone (TN)"]
        tables.append(Table(names, counts, "Images, out of fold, at the chosen cut."))
    return tables


# ---- calibration


def _calibration(oof: Judged, report: CalibrationReport, decision: Decision) -> list[Block]:
    places = panels.shown(oof.labels, _by_positives(oof))
    reliability = [
        Panel(oof.labels[n], bars)
        for n in places
        if (bars := report.reliability.get(oof.labels[n])) and len(bars["rows"]) > 1
    ]
    blocks: list[Block] = []
    if reliability:
        blocks.append(
            panels.of_panels(
                "reliability",
                _draw_reliability,
                reliability,
                Names("predicted probability (mean of the group)", "share of images that have it"),
                f"reliability diagrams of {len(reliability)} labels",
                "Reliability diagram: images are sorted by probability into groups of equal size. On the dashed line, "
                "of images called 70 % likely 70 % have the finding; below it the model is too sure, above it not sure "
                "enough. These are the probabilities before any calibration.",
                legend=False,
            )
        )
    histograms = [Panel(oof.labels[n], content) for n in places if (content := _histogram(oof, n)) is not None]
    if histograms:
        after = "" if decision.calibration.kind == "none" else f", calibrated by {decision.calibration.kind}"
        blocks.append(
            panels.of_panels(
                "histogram",
                _draw_histogram,
                histograms,
                Names("probability", "share of the images of its class (%)"),
                f"histograms of the probabilities of {len(histograms)} labels, by truth",
                f"How the probabilities{after} are spread over images with the finding and without it, out of fold: "
                "the less they overlap, the better both can be told apart.",
            )
        )
    return [*blocks, _deviations(report, decision)]


def _draw_reliability(axes: Any, bars: Mapping[str, Sequence[float]]) -> None:
    axes.plot([0, 1], [0, 1], color=style.CHANCE, linestyle="--", linewidth=1)
    axes.plot(bars["predicted"], bars["observed"], "o-", markersize=4, color=style.COLOURS[0])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _histogram(oof: Judged, n: int) -> list[tuple[str, np.ndarray]] | None:
    known = ~np.isnan(oof.y[:, n])
    y, p = oof.y[known, n] > 0.5, np.clip(oof.sent[known, n], 0, 1)
    if not known.any():
        return None
    several = len(oof.labels) > _FEW
    names = ("without it", "with it") if several else oof.names(n)
    parts = [(name, p[y == is_true]) for name, is_true in zip(names, (False, True), strict=True)]
    return [
        (name, 100 * np.histogram(values, _BINS, (0, 1))[0] / len(values)) for name, values in parts if len(values)
    ]


def _draw_histogram(axes: Any, content: Sequence[tuple[str, np.ndarray]]) -> None:
    edges = np.linspace(0, 1, _BINS + 1)
    for n, (name, shares) in enumerate(content):
        axes.stairs(shares, edges, fill=True, alpha=0.45, color=style.colour(n), label=name)
        axes.stairs(shares, edges, color=style.colour(n))
    axes.set(xlim=(0, 1))
    axes.set_ylim(bottom=0)


def _deviations(report: CalibrationReport, decision: Decision) -> Table:
    rows = [
        [
            ("as they are" if kind == "none" else kind) + (" (used)" if kind == decision.calibration.kind else ""),
            number(deviation.error),
            number(deviation.log_loss),
            number(deviation.brier),
        ]
        for kind, deviation in report.cross_fitted.items()
    ]
    return Table(
        ["probabilities", "calibration error", "log loss (nats)", "Brier score"],
        rows,
        "How far probabilities are from what is observed, as they are and corrected by several methods, each fold by a "
        "correction fitted on the others. Calibration error: the mean distance from the dashed line above; Brier score: "
        "the mean squared error of a probability. Smaller is better.",
    )


# ---- tables


def _labels_table(scores: Any, what: str) -> Table:
    columns = {"ROC AUC": "roc_auc", "average precision": "average_precision", "log loss": "log_loss"}
    several = len(scores.labels) > 1
    rows = []
    for label, value in scores.labels.items():
        metrics = scores.metrics["labels"][label]
        rows.append(
            [
                label,
                number(int(metrics["positives"] or 0)),
                number(int(metrics["rows"] or 0)),
                number(value.value),
                interval(value.low, value.high),
                *(number(metrics[name]) for name in columns.values()),
            ]
        )
    if several:
        mean = scores.metrics["average"]["macro"]
        ends = interval(scores.interval.low, scores.interval.high)
        means = (number(mean[name]) for name in columns.values())
        rows.append(["all (mean)", "", number(scores.rows), number(scores.value), ends, *means])
    confidence = f"{scores.interval.confidence:.0%} interval"
    return Table(
        ["label", "with it", "images", scores.metric, confidence, *columns],
        rows,
        f"Each label, {what}. The interval is that of {scores.metric}, over patients drawn anew "
        f"{scores.interval.resamples:,} times (bootstrap): with other patients, the value may well lie elsewhere in it.",
    )


def _test_labels(scores: Scores) -> list[Block]:
    return [] if scores.test is None else [_labels_table(scores.test, "on the test images")]


def _by_positives(oof: Judged) -> np.ndarray:
    """The labels with the most images first, int [labels]."""
    return np.argsort(-np.nansum(oof.y, axis=0), kind="stable")


def _left_out(labels: Sequence[str], places: Sequence[int]) -> list[Block]:
    left = len(labels) - len(places)
    if not left:
        return []
    return [Text(f"Figures show the {len(places)} labels with the most images; the tables have all {len(labels)}.", "note")]

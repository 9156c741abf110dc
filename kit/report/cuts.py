"""What a decision makes of probabilities: confusion matrices, and what other cuts would do."""

from typing import Any

import numpy as np

from kit.decisions import Decision
from kit.evaluate.decision import class_factors, label_cuts
from kit.report import panels, style
from kit.report.curves import Curves, curves_of
from kit.report.judged import FEW, Judged, end_of_axis
from kit.report.page import Block, Figure, Table, Text, number
from kit.report.panels import Names, Panel
from kit.schemas import Number


def decisions(oof: Judged, decision: Decision) -> list[Block]:
    """What is called what at the decision's cuts, and at others."""
    blocks: list[Block] = [Text(_how(decision))]
    if decision.classes is not None:
        blocks.append(_classes_matrix(oof, decision))
    elif len(oof.labels) <= FEW:
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
            f"An image is called {decision.labels[0]} from a probability of {_cut(float(cut))} on: the cut that is "
            f"best by the rule {' and '.join(rules) or 'of .5'} on all out-of-fold predictions."
        )
    return f"Each label has a cut of its own, the best by the rule {' and '.join(rules) or 'of .5'} out of fold."


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
    counts = (panel.content[0].ravel().tolist() for panel in drawn)
    alt = "; ".join(f"{label}: {each} (TN, FP, FN, TP)" for label, each in zip(oof.labels, counts, strict=True))
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
    for n in panels.shown(oof.labels, oof.most_positive()):
        curves = curves_of(oof.y[:, n], oof.sent[:, n])
        if curves is not None:
            cut = decision.thresholds[oof.labels[n]].threshold if oof.labels[n] in decision.thresholds else None
            drawn.append(Panel(oof.labels[n], (curves, cut)))
    cuts = ", ".join(f"{panel.title} {_cut(panel.content[1])}" for panel in drawn)
    return panels.of_panels(
        "thresholds",
        _draw_thresholds,
        drawn,
        Names("cut: called from this probability on", "share of images"),
        f"precision, sensitivity and F1 by the cut; chosen cuts: {cuts}",
        "What another cut would do: a higher one gives fewer false alarms (precision rises) and misses more "
        "(sensitivity falls). F1 is the harmonic mean of both; the dotted line is the cut that was chosen"
        + (", of this class against the others." if decision.classes is not None else "."),
    )


def _draw_thresholds(axes: Any, content: tuple[Curves, Number]) -> None:
    curves, cut = content
    for n, line in enumerate((curves.precision, curves.recall, curves.f1)):
        axes.plot(line.x, line.y, label=line.name, color=style.colour(n))
    if cut is not None:
        axes.axvline(cut, color=style.COLOURS[-1], linestyle=":", label="chosen cut")
    end = end_of_axis(curves.recall.x[curves.recall.y >= 0.01])  # beyond, hardly any image is called
    axes.set(xlim=(-0.01 * end, 1.01 * end), ylim=(-0.01, 1.02))


def _cut(value: Number) -> str:
    """A cut as it is shown: small ones with more digits."""
    if value is None or value >= 0.01:
        return number(value)
    return number(value, 5) if value >= 0.0001 else f"{value:.0e}"


_OF_CUTS = {"sensitivity": "recall", "specificity": "specificity", "precision": "precision", "F1": "f1", "MCC": "mcc"}


def _cut_tables(oof: Judged, decision: Decision) -> list[Block]:
    nested, counts = [], []
    for n, label in enumerate(oof.labels):
        cut = decision.thresholds.get(label)
        if cut is None:
            continue
        worth = cut.cross_validated or {}
        nested.append([label, _cut(cut.threshold), *(number(worth.get(metric)) for metric in _OF_CUTS.values())])
        if decision.classes is None and cut.threshold is not None:
            tp, fp, fn, tn = _counts(oof.y[:, n], oof.sent[:, n], cut.threshold)
            counts.append([label, _cut(cut.threshold), *map(number, (tp, fn, fp, tn))])
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
    if counts and len(oof.labels) > FEW:
        names = ["label", "cut", "found (TP)", "missed (FN)", "false alarms (FP)", "rightly left alone (TN)"]
        tables.append(Table(names, counts, "Images, out of fold, at the chosen cut."))
    return tables

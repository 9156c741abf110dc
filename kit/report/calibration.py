"""Whether probabilities can be believed: reliability diagrams, histograms, and what calibrators would gain."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kit.decisions import Decision
from kit.report import panels, style
from kit.report.judged import FEW, Judged, end_of_axis
from kit.report.page import Block, Table, number
from kit.report.panels import Names, Panel
from kit.schemas import CalibrationReport

_BINS = 40


def calibration(oof: Judged, report: CalibrationReport, decision: Decision) -> list[Block]:
    """Reliability and histograms of the labels, and how far probabilities are from what is observed."""
    places = panels.shown(oof.labels, oof.most_positive())
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
                "of images called 70 % likely 70 % have the finding; below it the probabilities are too high, above it "
                "too low. They are those before any calibration.",
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
    end = end_of_axis(np.array([*bars["predicted"], *bars["observed"]]))
    axes.set(xlim=(-0.02 * end, 1.02 * end), ylim=(-0.02 * end, 1.02 * end))


def _histogram(oof: Judged, n: int) -> tuple[float, list[tuple[str, np.ndarray]]] | None:
    """Where the axis ends, and each class's name and shares of its images (%), by equal bins up to there."""
    known = ~np.isnan(oof.y[:, n])
    y, p = oof.y[known, n] > 0.5, np.clip(oof.sent[known, n], 0, 1)
    if not known.any():
        return None
    several = len(oof.labels) > FEW
    names = ("without it", "with it") if several else oof.names(n)
    parts = [(name, p[y == is_true]) for name, is_true in zip(names, (False, True), strict=True)]
    end = end_of_axis(np.quantile(p, [0.995]))
    return end, [
        (name, 100 * np.histogram(np.minimum(values, end), _BINS, (0, end))[0] / len(values))
        for name, values in parts
        if len(values)
    ]


def _draw_histogram(axes: Any, content: tuple[float, Sequence[tuple[str, np.ndarray]]]) -> None:
    end, parts = content
    edges = np.linspace(0, end, _BINS + 1)
    for n, (name, shares) in enumerate(parts):
        axes.stairs(shares, edges, fill=True, alpha=0.45, color=style.colour(n), label=name)
        axes.stairs(shares, edges, color=style.colour(n))
    axes.set(xlim=(0, end))
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
        "correction fitted on the others. Calibration error: the mean distance from the dashed line above; Brier "
        "score: the mean squared error of a probability. Smaller is better.",
    )

"""Several runs beside each other, and what an ensemble is blended from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.report import panels, style
from kit.report.page import Block, Section, Table, Text, interval, number, percent
from kit.report.result import name_of
from kit.report.training import duration
from kit.schemas import AnyScores, Comparison, EnsembleReport


def comparison(
    scores: Mapping[str, AnyScores], lines: Sequence[Comparison], seconds: Mapping[str, float | None]
) -> Section:
    """Each run against the first; `seconds`: how long training took, where that is known."""
    first, *others = lines
    metric, confidence = name_of(next(iter(scores.values())).metric), next(iter(scores.values())).interval.confidence
    timed = any(seconds.get(name) is not None for name in scores)
    rows = []
    for line in lines:
        own = scores[line.run]
        known = [] if line is first else [line.difference, line.low, line.high]
        better = "" if line is first else "–" if line.better is None else percent(line.better)
        row = [
            line.run,
            number(line.value),
            interval(own.interval.low, own.interval.high),
            _signed(known[0]) if known else "",
            f"{_signed(known[1])} to {_signed(known[2])}" if known else "",
            better,
        ]
        taken = seconds.get(line.run)
        rows.append([*row, "–" if taken is None else duration(taken)] if timed else row)
    ends = f"{percent(confidence)} interval"
    columns = ["run", metric, ends, "difference", f"its {ends}", "better in", *(["training"] if timed else [])]
    caption = (
        f"Out of fold. A difference is that to {first.run}, in pairs: on the same patients, drawn anew together. Where "
        "its interval includes 0, the runs may well be equally good. Better in: the share of draws in which it is."
    )
    blocks: list[Block] = [
        panels.intervals(
            "runs",
            [(line.run, line.value, scores[line.run].interval.low, scores[line.run].interval.high) for line in lines],
            metric,
            f"{metric} of {len(lines)} runs; values are in the table",
            "The runs' scores, out of fold, with their intervals. They rise and fall together with the patients that "
            "happen to be there: to compare runs, look at their differences.",
        ),
        panels.intervals(
            "differences",
            [(line.run, line.difference, line.low, line.high) for line in others],
            f"difference of {metric} to {first.run}",
            f"differences of {len(others)} runs to {first.run}; values are in the table",
            f"What each run has more than {first.run} (dashed: no difference), with its interval on the same patients.",
            0.0,
            digits=4,
        ),
        Table(columns, rows, caption),
    ]
    return Section("Runs compared", "runs", blocks)


def ensemble(report: EnsembleReport) -> Section:
    """The blends of an ensemble, its weights, and how alike its members are."""
    metric = name_of(report.metric)
    rows = [
        [
            f"{name} (chosen)" if name == report.chosen else name,
            number(blend.nested),
            interval(blend.low, blend.high),
            _signed(blend.gain),
            f"{_signed(blend.gain_low)} to {_signed(blend.gain_high)}",
        ]
        for name, blend in report.blends.items()
    ]
    names = ", ".join(Path(run).name for run in report.runs)
    if report.repeats:
        return _repeats(report)
    text = f"Blended are {names}. The way is {report.chosen}, because {report.reason}."
    if report.gate:
        text += f" Boxes may be weighed by the probabilities of {Path(report.gate).name}."
    blocks: list[Block] = [Text(text)]
    if report.weights:
        blocks.append(_weights(report.weights))
    if len(report.correlation) > 1:
        blocks.append(_correlation(report.correlation))
    columns = ["blend", metric, "interval", f"gain over {report.base}", "its interval"]
    caption = "Ways to blend, each fold by a blend fitted on the others. The chosen one's value is slightly optimistic."
    return Section("What it is blended from", "ensemble", [*blocks, Table(columns, rows, caption)])


def _repeats(report: EnsembleReport) -> Section:
    metric = name_of(report.metric)
    caption = (
        "Runs that differ in their seeds and folds alone. How far their scores lie apart is chance: a change of the "
        "recipe that gains less is no gain. What is scored here is the average of their predictions."
    )
    rows = [[name, number(value)] for name, value in report.repeats.items()]
    blocks: list[Block] = [Table(["repeat", metric], rows, caption)]
    if len(report.correlation) > 1:
        blocks.append(_correlation(report.correlation))
    return Section("What it is averaged from", "ensemble", blocks)


def _weights(weights: Mapping[str, float]) -> Any:
    return panels.of_panels(
        "weights",
        _draw_bars,
        [panels.Panel("", weights)],
        panels.Names("weight", ""),
        "weights: " + ", ".join(f"{name} {number(weight)}" for name, weight in weights.items()),
        "How much each member counts in the blend.",
        legend=False,
    )


def _draw_bars(axes: Any, weights: Mapping[str, float]) -> None:
    axes.barh(range(len(weights)), list(weights.values()), color=style.COLOURS[0], height=0.6)
    for n, weight in enumerate(weights.values()):
        axes.annotate(number(float(weight)), (weight, n), (3, 0), textcoords="offset points", va="center", fontsize=8)
    style.ticks(axes, list(weights), "y")
    axes.set(ylim=(len(weights) - 0.5, -0.5))
    axes.margins(x=0.12)


def _correlation(correlation: Mapping[str, Mapping[str, Any]]) -> Any:
    names = list(correlation)
    values = np.array([[correlation[a].get(b) for b in names] for a in names], float)
    low = min(0.0, float(np.nanmin(values))) if (values == values).any() else 0.0

    def draw(axes: Any, content: np.ndarray) -> None:
        panels.draw_shades(axes, content, names, names, lambda i, j: number(float(content[i, j]), 2), (low, 1.0))

    return panels.of_panels(
        "correlation",
        draw,
        [panels.Panel("", values)],
        panels.Names("", ""),
        f"rank correlations of {len(names)} members",
        "How alike the members rank the images, out of fold (Spearman's rank correlation, 1: just alike). Blending "
        "gains most from members that are good and not alike.",
        legend=False,
    )


def _signed(value: float | int | None) -> str:
    return "–" if value is None else f"{value:+.4f}"

"""Scores, decisions and comparisons as text for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from kit.decisions import AnyDecision, CaseRule, ClassFactors, Decision
from kit.evaluate.boxes import text as box_text
from kit.schemas import (
    AnyScores,
    BoxScores,
    ClassScores,
    Comparison,
    Deviation,
    EnsembleReport,
    Number,
    Scores,
    Subgroup,
)

_COLUMNS = ("roc_auc", "average_precision", "f1", "recall", "specificity", "mcc", "kappa", "log_loss", "brier")
_OF_THRESHOLDS = {"F1": "f1", "sensitivity": "recall", "specificity": "specificity"}
_OF_BLENDS = ("nested", "low", "high", "optimistic", "gain", "gain_low", "gain_high", "better")


def as_text(scores: AnyScores, decision: AnyDecision) -> str:
    """What `kit score RUN` prints."""
    return _TEXTS[type(scores)](scores, decision)


def _of_probabilities(scores: Scores, decision: Decision) -> str:
    folds = (
        f"by fold  {'  '.join(map(_shown, scores.folds.values()))}   "
        f"mean {_shown(scores.fold_mean)}, sd {_shown(scores.fold_sd)}"
    )
    sections = [[*_headline("out-of-fold", scores), folds], _table(scores), _subgroups(scores.subgroups)]
    if scores.test is not None:
        overlap = []
        if groups := scores.test.groups_also_in_training:
            without = _shown(scores.test.value_without_them)
            overlap = [f"{groups} groups of the test images are in training too; without them {without}"]
        sections += [[*_headline("test", scores.test), *overlap], _table(scores.test)]
    sections += [
        _left_out(scores),
        _cases(decision.cases),
        _calibration(scores.calibration.cross_fitted),
        _thresholds(decision),
        _class_factors(decision.classes),
        [*(f"warning: {warning}" for warning in scores.warnings), scores.note],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _cases(rule: CaseRule | None) -> list[str]:
    if rule is None or rule.metric is None:
        return []
    values = ", ".join(f"{name} {_shown(value)}" for name, value in rule.on_the_cases_that_chose_it.items())
    return [f"images of a case: {rule.rule}; {rule.metric} nested {_shown(rule.nested)}, on all cases {values}"]


def comparison(lines: Sequence[Comparison], confidence: float) -> str:
    """What `kit score RUN RUN ...` prints below the first run's scores."""
    width = max(len(line.run) for line in lines)
    text = ["", "compared on the same resamples", f"{lines[0].run:{width}}  {_shown(lines[0].value)}"]
    for line in lines[1:]:
        better = "undefined" if line.better is None else f"{line.better:.1%}"
        text.append(
            f"{line.run:{width}}  {_shown(line.value)}   difference {_shown(line.difference, '+')}, "
            f"{confidence:.0%} interval {_shown(line.low, '+')} to {_shown(line.high, '+')}   "
            f"better in {better} of the resamples"
        )
    return "\n".join(text)


def ensemble(report: EnsembleReport) -> str:
    """What `kit ensemble` prints."""
    blends = pd.DataFrame({name: blend.model_dump() for name, blend in report.blends.items()}).T
    chosen = [f"chosen: {report.chosen}, because {report.reason} (a value that was chosen for is slightly optimistic)"]
    if report.weights:
        chosen.append("weights  " + "  ".join(f"{name} {weight:.3f}" for name, weight in report.weights.items()))
    chosen += [f"gate: {report.gate}; `kit score` weighs the boxes by it where that is surely better"] * bool(
        report.gate
    )
    sections = [
        [f"{report.metric}, nested: each fold by a blend fitted on the others; gain: over {report.base}"],
        _lines(blends[list(_OF_BLENDS)].astype(float), "{:.4f}"),
        ["", "correlation of the members (Spearman, out of fold)"],
        _lines(pd.DataFrame(report.correlation).astype(float), "{:.3f}"),
        ["", *chosen],
    ]
    return "\n".join(line for section in sections for line in section)


def _headline(name: str, scores: ClassScores) -> list[str]:
    interval, delong = scores.interval, ""
    if scores.delong is not None:
        delong = f"; DeLong {_shown(scores.delong.low)} to {_shown(scores.delong.high)}"
    return [
        f"{name} {scores.metric}  {_shown(scores.value)}   {interval.confidence:.0%} interval "
        f"{_shown(interval.low)} to {_shown(interval.high)}{delong}   "
        f"({scores.rows} rows, {scores.groups} groups)   accuracy {_shown(scores.accuracy)}",
        *(f"mean of the {subset}  {_shown(value)}" for subset, value in scores.means.items()),
    ]


def _table(scores: ClassScores) -> list[str]:
    """Metrics of each label, cut at .5 or of the likeliest class, with averages below."""
    metrics = scores.metrics
    several = len(metrics["labels"]) > 1
    table = pd.DataFrame(metrics["labels"] | metrics["average"] if several else metrics["labels"]).T
    table = table[["positives", *_COLUMNS]].astype(float)
    table["positives"] = table["positives"].map("{:.0f}".format)
    table.columns.name = "likeliest class" if "classes" in metrics else "cut at .5"
    lines = _lines(table, "{:.4f}")
    for name, values in metrics.get("classes", {}).items():
        lines.append(f"{name} classes  " + "  ".join(f"{metric} {_shown(value)}" for metric, value in values.items()))
    return lines


def _subgroups(parts: Sequence[Subgroup]) -> list[str]:
    if not parts:
        return []
    width = max(len(f"{part.column} {part.part}") for part in parts)
    digits = max(len(str(part.rows)) for part in parts)
    return [
        "subgroups",
        *(
            f"{f'{part.column} {part.part}':{width}}  {_shown(part.value):9}  {part.rows:{digits}} rows"
            f"{', too few to judge' if part.small else ''}"
            for part in parts
        ),
    ]


def _left_out(scores: Scores) -> list[str]:
    left = scores.left_out_clusters
    if left is None:
        return []
    width, digits = max(len(part.looks) for part in left.clusters), len(str(max(part.rows for part in left.clusters)))
    return [
        f"left-out clusters{' of the frozen network' * left.frozen}  {_shown(left.value)} (out of fold "
        f"{_shown(left.out_of_fold)}): what a change of source may cost   difference {_shown(left.difference, '+')}, "
        f"{scores.interval.confidence:.0%} interval {_shown(left.low, '+')} to {_shown(left.high, '+')}",
        f"mean within clusters  {_shown(left.within)} (out of fold {_shown(left.within_out_of_fold)})",
        *(
            f"  {part.looks:{width}}  {_shown(part.value)} (out of fold {_shown(part.out_of_fold)})  "
            f"{part.rows:{digits}} rows, {part.groups} groups"
            for part in left.clusters
        ),
    ]


def _calibration(kinds: Mapping[str, Deviation]) -> list[str]:
    errors = [
        f"{_shown(deviation.error)} {'uncalibrated' if kind == 'none' else 'by ' + kind}"
        for kind, deviation in kinds.items()
    ]
    return [f"calibration error  {', '.join(errors)}"]


def _thresholds(decision: Decision) -> list[str]:
    if not decision.thresholds:
        return []
    rows = {}
    for label, cut in decision.thresholds.items():
        rows[label] = {"threshold": _shown(cut.threshold)}
        for name, metric in _OF_THRESHOLDS.items():
            nested = _shown(cut.cross_validated[metric] if cut.cross_validated else None)
            rows[label][name] = f"{nested} ({_shown(cut.on_the_rows_that_chose_it[metric])})"
    steps = [] if decision.calibration.kind == "none" else [f"calibrated by {decision.calibration.kind}"]
    steps += [] if decision.prior is None else ["shifted to the test prevalence"]
    return [
        f"thresholds by {cut.rule}{' on probabilities ' if steps else ''}{' and '.join(steps)}; "
        "values are cross-validated (in brackets, optimistic: on the rows that chose the threshold)",
        *pd.DataFrame(rows).T.to_string().split("\n"),
    ]


def _class_factors(classes: ClassFactors | None) -> list[str]:
    if classes is None or classes.factors is None:
        return []
    return [
        "class factors  "
        + ", ".join(f"{name} {factor:.3f}" for name, factor in classes.factors.items())
        + f": balanced accuracy {_shown(classes.balanced_accuracy_cross_validated)} cross-validated, "
        f"{_shown(classes.balanced_accuracy_of_argmax)} without: {'applied' if classes.applied else 'not applied'}"
    ]


def _lines(table: pd.DataFrame, number: str) -> list[str]:
    text: str = table.to_string(float_format=number.format, na_rep="undefined")
    return text.split("\n")


def _shown(value: Number, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"


_TEXTS: dict[type, Callable[[Any, Any], str]] = {Scores: _of_probabilities, BoxScores: box_text.as_text}

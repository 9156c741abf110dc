"""Scores, decisions and comparisons as lines for a person."""

from collections.abc import Sequence

import pandas as pd

from kit.schemas import Comparison, Decision, Deviation, EnsembleReport, Number, Scores, SetScores, Subgroup

_SHOWN = ("roc_auc", "average_precision", "f1", "recall", "specificity", "mcc", "kappa", "log_loss", "brier")


def as_text(scores: Scores, decision: Decision) -> str:
    """What `kit score RUN` prints."""
    lines = [
        _headline("out-of-fold", scores),
        f"by fold  {'  '.join(map(_shown, scores.folds.values()))}   "
        f"mean {_shown(scores.fold_mean)}, sd {_shown(scores.fold_sd)}",
        *_table(scores),
        *_subgroups(scores.subgroups),
    ]
    if scores.test is not None:
        lines += [_headline("test", scores.test), *_table(scores.test)]
        if shared := scores.test.groups_also_in_training:
            value = _shown(scores.test.value_without_them)
            lines.append(f"{shared} groups of the test images are in training too; without them {value}")
    lines += [_calibration(scores.calibration.cross_fitted), *_thresholds(decision)]
    return "\n".join([*lines, *scores.warnings, scores.note])


def comparison(lines: Sequence[Comparison], confidence: float) -> str:
    """What `kit score RUN RUN ...` prints below the first run's scores."""
    width = max(len(line.run) for line in lines)
    text = [f"{lines[0].run:{width}}  {_shown(lines[0].value)}"]
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
    table = pd.DataFrame({name: blend.model_dump() for name, blend in report.blends.items()}).T
    columns = ["nested", "low", "high", "optimistic", "gain", "gain_low", "gain_high", "better"]
    lines = [
        f"{report.metric}, nested (each fold blended as the others fit it); gain: over the plain mean",
        table[columns].astype(float).to_string(float_format="{:.4f}".format),
        "correlation of the members (Spearman, out of fold)",
        pd.DataFrame(report.correlation).astype(float).to_string(float_format="{:.3f}".format),
        f"chosen: {report.chosen}, because {report.reason} (a value that was chosen for is slightly optimistic)",
    ]
    if report.weights:
        lines.append("weights  " + "  ".join(f"{name} {weight:.3f}" for name, weight in report.weights.items()))
    return "\n".join(lines)


def _headline(name: str, scores: SetScores) -> str:
    interval, delong = scores.interval, ""
    if scores.delong is not None:
        delong = f"; DeLong {_shown(scores.delong.low)} to {_shown(scores.delong.high)}"
    means = "".join(f"   mean of the {name} {_shown(value)}" for name, value in scores.means.items())
    return (
        f"{name} {scores.metric}  {_shown(scores.value)}   {interval.confidence:.0%} interval "
        f"{_shown(interval.low)} to {_shown(interval.high)}{delong}  "
        f"({scores.rows} rows, {scores.groups} groups)   accuracy {_shown(scores.accuracy)}{means}"
    )


def _table(scores: SetScores) -> list[str]:
    """Metrics by label (cut at .5, or the likeliest class), averages below."""
    metrics = scores.metrics
    rows = dict(metrics["labels"]) if len(metrics["labels"]) > 1 else {}
    rows |= metrics["average"] if rows else metrics["labels"]
    table = pd.DataFrame(rows).T[["positives", *_SHOWN]].astype(float)
    table["positives"] = table["positives"].map("{:.0f}".format)
    lines: list[str] = table.to_string(float_format="{:.4f}".format, na_rep="undefined").split("\n")
    for name, values in metrics.get("classes", {}).items():
        lines.append(f"{name} classes  " + "  ".join(f"{key} {_shown(value)}" for key, value in values.items()))
    return lines


def _subgroups(parts: Sequence[Subgroup]) -> list[str]:
    return [
        f"subgroup {part.column} {part.part}  {_shown(part.value)}  ({part.rows} rows"
        f"{', too few to say' if part.small else ''})"
        for part in parts
    ]


def _calibration(kinds: dict[str, Deviation]) -> str:
    errors = [f"{_shown(it.error)} {'as it is' if kind == 'none' else 'by ' + kind}" for kind, it in kinds.items()]
    return f"calibration error {', '.join(errors)}"


def _thresholds(decision: Decision) -> list[str]:
    width, lines = max(map(len, decision.thresholds), default=0), []
    for label, cut in decision.thresholds.items():
        honest, optimistic = cut.cross_validated, cut.on_the_rows_that_chose_it
        values = [
            f"{short} {_shown(honest[name] if honest else None)} ({_shown(optimistic[name])})"
            for name, short in (("f1", "F1"), ("recall", "sensitivity"), ("specificity", "specificity"))
        ]
        lines.append(f"{label:{width}}  threshold {_shown(cut.threshold)} by {cut.rule}: {', '.join(values)}")
    if lines:
        calibrated = (
            ""
            if decision.calibration.kind == "none"
            else f"of probabilities calibrated by {decision.calibration.kind}; "
        )
        lines.append(
            f"({calibrated}cross-validated; in brackets on the rows that chose the threshold, which is optimistic)"
        )
    if decision.classes is not None and decision.classes.factors is not None:
        classes, factors = decision.classes, decision.classes.factors
        lines.append(
            "class factors "
            + ", ".join(f"{name} {factor:.3f}" for name, factor in factors.items())
            + f": balanced accuracy {_shown(classes.balanced_accuracy_cross_validated)} cross-validated, "
            f"{_shown(classes.balanced_accuracy_of_argmax)} without: {'applied' if classes.applied else 'not applied'}"
        )
    return lines


def _shown(value: Number, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"

"""Scores, thresholds and comparisons as lines for a person."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

_SHOWN = ("roc_auc", "average_precision", "f1", "recall", "specificity", "mcc", "kappa", "log_loss", "brier")


def as_text(scores: dict[str, Any], cuts: dict[str, Any]) -> str:
    """What `kit score RUN` prints."""
    lines = [
        _headline("out-of-fold", scores),
        f"by fold  {'  '.join(map(_shown, scores['folds'].values()))}   "
        f"mean {_shown(scores['fold_mean'])}, sd {_shown(scores['fold_sd'])}",
        *_table(scores),
    ]
    lines += [f"subgroup {line}" for line in _parts(scores["subgroups"])]
    if "test" in scores:
        lines += [_headline("test", scores["test"]), *_table(scores["test"])]
        if shared := scores["test"]["groups_also_in_training"]:
            value = _shown(scores["test"]["value_without_them"])
            lines.append(f"{shared} groups of the test images are in training too; without them {value}")
    lines += _calibration(scores["calibration"]["cross_fitted"])
    lines += _cuts(cuts)
    return "\n".join([*lines, *scores["warnings"], scores["note"]])


def comparison(lines: Sequence[dict[str, Any]], confidence: float) -> str:
    """What `kit score RUN RUN ...` prints below the first run's scores."""
    width = max(len(line["run"]) for line in lines)
    told = [f"{lines[0]['run']:{width}}  {_shown(lines[0]['value'])}"]
    for line in lines[1:]:
        better = "undefined" if line["better"] is None else f"{line['better']:.1%}"
        told.append(
            f"{line['run']:{width}}  {_shown(line['value'])}   difference {_shown(line['difference'], '+')}, "
            f"{confidence:.0%} interval {_shown(line['low'], '+')} to {_shown(line['high'], '+')}   "
            f"better in {better} of the resamples"
        )
    return "\n".join(told)


def ensemble(told: dict[str, Any]) -> str:
    """What `kit ensemble` prints."""
    table = pd.DataFrame(told["blends"]).T
    shown = table[["nested", "low", "high", "optimistic", "gain", "gain_low", "gain_high", "better"]].astype(float)
    correlation = pd.DataFrame(told["correlation"])
    lines = [
        f"{told['metric']}, nested (each fold blended as the others fit it); gain: over the plain mean",
        shown.to_string(float_format="{:.4f}".format),
        "correlation of the members (Spearman, out of fold)",
        correlation.to_string(float_format="{:.3f}".format),
        f"chosen: {told['chosen']}, because {told['reason']}",
    ]
    if told["weights"]:
        lines.append("weights  " + "  ".join(f"{name} {weight:.3f}" for name, weight in told["weights"].items()))
    return "\n".join(lines)


def _headline(name: str, scores: dict[str, Any]) -> str:
    interval, check = scores["interval"], scores.get("delong")
    delong = f"; DeLong {_shown(check['low'])} to {_shown(check['high'])}" if check else ""
    return (
        f"{name} {scores['metric']}  {_shown(scores['value'])}   {interval['confidence']:.0%} interval "
        f"{_shown(interval['low'])} to {_shown(interval['high'])}{delong}  "
        f"({scores['rows']} rows, {scores['groups']} groups)   accuracy {_shown(scores['accuracy'])}"
    )


def _table(scores: dict[str, Any]) -> list[str]:
    """Metrics by label (cut at .5, or the likeliest class), averages below."""
    found = scores["metrics"]
    rows = dict(found["labels"]) if len(found["labels"]) > 1 else {}
    rows |= found["average"] if rows else found["labels"]
    table = pd.DataFrame(rows).T[["positives", *_SHOWN]].astype(float)
    table["positives"] = table["positives"].map("{:.0f}".format)
    lines = table.to_string(float_format="{:.4f}".format, na_rep="undefined").split("\n")
    for name, values in found.get("classes", {}).items():
        lines.append(f"{name} classes  " + "  ".join(f"{key} {_shown(value)}" for key, value in values.items()))
    return lines


def _parts(parts: list[dict[str, Any]]) -> list[str]:
    return [
        f"{part['column']} {part['part']}  {_shown(part['value'])}  ({part['rows']} rows"
        f"{', too few to say' if part['small'] else ''})"
        for part in parts
    ]


def _calibration(kinds: dict[str, dict[str, float]]) -> list[str]:
    told = [
        f"{_shown(values['error'])} {'as it is' if kind == 'none' else 'by ' + kind}" for kind, values in kinds.items()
    ]
    return [f"calibration error {', '.join(told)}"]


def _cuts(cuts: dict[str, Any]) -> list[str]:
    width, lines = max(map(len, cuts["labels"]), default=0), []
    for label, cut in cuts["labels"].items():
        honest, optimistic = cut["cross_validated"], cut["on_the_rows_that_chose_it"]
        told = [
            f"{short} {_shown(honest[name] if honest else None)} ({_shown(optimistic[name])})"
            for name, short in (("f1", "F1"), ("recall", "sensitivity"), ("specificity", "specificity"))
        ]
        lines.append(f"{label:{width}}  threshold {_shown(cut['threshold'])} by {cut['rule']}: {', '.join(told)}")
    if lines:
        lines.append("(cross-validated; in brackets on the rows that chose the threshold, which is optimistic)")
    if "factors" in cuts.get("classes", {}):
        found = cuts["classes"]
        lines.append(
            "class factors " + ", ".join(f"{name} {factor:.3f}" for name, factor in found["factors"].items())
            + f": balanced accuracy {_shown(found['balanced_accuracy_cross_validated'])} cross-validated, "
            f"{_shown(found['balanced_accuracy_of_argmax'])} without"
        )  # fmt: skip
    return lines


def _shown(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"

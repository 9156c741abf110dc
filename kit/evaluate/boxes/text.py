"""Scores and decisions of boxes as text for the terminal."""

import pandas as pd

from kit.decisions import BoxDecision
from kit.evaluate.boxes.metrics import COUNTS_IOU, FALSE_POSITIVES, FROC_IOU
from kit.schemas import BoxScores, BoxSetScores, LabelScore, Number

_MEASURES = {"ap50": "AP50", "ap": "AP (IoU .5 to .95)", "image_roc_auc": "ROC AUC of an image's best box"}
_KEPT = {"f1": "F1", "precision": "precision", "recall": "recall"}


def as_text(scores: BoxScores, decision: BoxDecision) -> str:
    """What `kit score RUN` prints of a run with boxes."""
    folds = (
        f"by fold  {'  '.join(map(shown, scores.folds.values()))}   "
        f"mean {shown(scores.fold_mean)}, sd {shown(scores.fold_sd)}"
    )
    optimistic = f"on the images that chose cut, shrink and gate  {shown(scores.on_the_images_that_chose_it)}"
    sections = [[*_headline("out-of-fold", scores), folds, optimistic], _measures(scores), _subgroups(scores)]
    if scores.test is not None:
        overlap = []
        if groups := scores.test.groups_also_in_training:
            without = shown(scores.test.value_without_them)
            overlap = [f"{groups} groups of the test images are in training too; without them {without}"]
        sections += [[*_headline("test", scores.test), *overlap], _measures(scores.test)]
    sections += [_rules(decision), [*(f"warning: {warning}" for warning in scores.warnings), scores.note]]
    return "\n\n".join("\n".join(section) for section in sections if section)


def shown(value: Number) -> str:
    """A number as the terminal shows it."""
    return "undefined" if value is None else f"{value:.4f}"


def _headline(name: str, scores: BoxSetScores) -> list[str]:
    limits = f"{shown(scores.interval.low)} to {shown(scores.interval.high)}"
    counts = f"({scores.rows} images, {scores.groups} groups)"
    lines = [f"{name} {scores.metric}  {shown(scores.value)}   {scores.interval.confidence:.0%} interval {limits}"]
    lines[0] += f"   {counts}"
    if len(scores.labels) > 1:
        lines += [f"  {label}  {_with_limits(score)}" for label, score in scores.labels.items()]
    return lines


def _measures(scores: BoxSetScores) -> list[str]:
    mean = scores.report.mean
    sensitivities = "  ".join(
        f"{shown(mean[f'sensitivity_at_{rate:g}'].value)} at {rate:g}" for rate in FALSE_POSITIVES
    )
    lines = [f"{title}  {_with_limits(mean[name])}" for name, title in _MEASURES.items()]
    lines.append(
        f"FROC (IoU > {FROC_IOU:g}; false positives per image)  {sensitivities}   mean {_with_limits(mean['froc'])}"
    )
    kept = "  ".join(f"{title} {_with_limits(mean[name])}" for name, title in _KEPT.items())
    overlap = f"mean IoU with the true box, wherever they overlap  {_with_limits(mean['mean_iou'])}"
    lines.append(f"boxes that are kept  {kept} at IoU > {COUNTS_IOU:g}; {overlap}")
    return lines


def _subgroups(scores: BoxSetScores) -> list[str]:
    if not scores.subgroups:
        return []
    rows = [
        (
            f"{part.column} {part.part}",
            shown(part.value),
            f"{part.rows} images",
            "too few to judge" if part.small else "",
        )
        for part in scores.subgroups
    ]
    return ["subgroups", *pd.DataFrame(rows).to_string(index=False, header=False).split("\n")]


def _rules(decision: BoxDecision) -> list[str]:
    lines = []
    for label, rule in decision.rules.items():
        steps = [f"score at least {rule.cut:.4g}"]
        steps += [f"shrunk to {rule.shrink:g}"] if rule.shrink != 1 else []
        steps += [f"weighed by p^{rule.gate:g} of the classification"] if rule.gate else []
        worth = f"{shown(rule.nested)} ({shown(rule.on_the_images_that_chose_it)})"
        lines.append(f"boxes of {label}: {', '.join(steps)}; {worth}")
        others = [f"{way} {shown(score.nested)}" for way, score in rule.strategies.items() if way != "cut"]
        if others:
            ways = [f"cut alone {shown(rule.strategies['cut'].nested)}", *others]
            lines.append(f"  nested  {'  with '.join(ways)}   (used where surely better)")
    lead = f"decision, by {decision.merge.merge} at IoU {decision.merge.iou:g}; values are nested"
    return [f"{lead} (in brackets, optimistic: on the images that chose it)", *lines]


def _with_limits(score: LabelScore) -> str:
    return f"{shown(score.value)} ({shown(score.low)} to {shown(score.high)})"

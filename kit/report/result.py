"""The answer first: the score with its interval, what it was measured on, and what it does not show."""

from collections.abc import Sequence
from typing import Any

from kit.report import panels
from kit.report.page import Block, Section, Table, Text, interval, number, percent
from kit.schemas import AnyScores, LeftOutClusters, Scores

NAMES = {
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "multiclass_log_loss": "log loss",
    "brier": "Brier score",
    "partial_auc": "partial ROC AUC",
    "weighted_auc": "weighted ROC AUC",
    "c_index": "C-index",
    "weighted_log_loss": "weighted log loss",
    "grouped_log_loss": "log loss of groups",
    "pfbeta": "probabilistic F score",
    "macro_f1": "F1",
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "quadratic kappa",
    "rsna_mean_average_precision": "RSNA's metric",
    "box_ap50": "AP50",
    "box_ap": "AP",
}
_MEANINGS = {
    "roc_auc": "Of an image with the finding and one without it, the model gives the first the higher probability in "
    "{percent} of all pairs; guessing would in 50 %.",
    "average_precision": "Average precision is the share of alarms that are right, averaged over all sensitivities: 1 "
    "is perfect, guessing gets the share of images that have the finding.",
    "log_loss": "Log loss punishes probabilities that are sure and wrong: 0 is perfect, always saying .5 gets .693.",
    "multiclass_log_loss": "Log loss is the mean of −log of the probability given to the true class: 0 is perfect.",
    "brier": "The Brier score is the mean squared error of a probability: 0 is perfect, always saying .5 gets .25.",
    "partial_auc": "Partial ROC AUC is the area under the curve where so much of the finding is caught as the "
    "competition demands: from 0 to 1 minus that share (.2 for .8).",
    "weighted_auc": "ROC AUC is the share of pairs, of an image with the finding and one without, that are ranked "
    "right, averaged over the labels, some of which count more.",
    "c_index": "The C-index is the share of pairs of patients, of which one is known to have the event first, that are "
    "ranked so: guessing gets 50 %.",
    "weighted_log_loss": "Log loss punishes probabilities that are sure and wrong: 0 is perfect. Some labels count "
    "more.",
    "grouped_log_loss": "Log loss punishes probabilities that are sure and wrong: 0 is perfect. It is the mean over "
    "groups of classes and any injury, in which injured patients count more.",
    "pfbeta": "The probabilistic F score counts each probability as that part of an alarm: 1 is perfect.",
    "macro_f1": "F1 is the harmonic mean of the share of alarms that are right and the share of the finding that is "
    "caught: 1 is perfect.",
    "balanced_accuracy": "Balanced accuracy is the share of images that are decided right, each class counting alike: "
    "guessing gets 1 divided by the number of classes.",
    "quadratic_kappa": "Quadratic kappa is 1 where all are decided right and 0 where they agree as by chance; an error "
    "counts with the square of its distance.",
    "rsna_mean_average_precision": "RSNA's metric is, for each image, hits / (hits + missed boxes + false boxes), in "
    "the mean over eight demands on the overlap and over all images with a box, true or found: 1 is perfect.",
    "box_ap50": "AP50 is the share of found boxes that are right, averaged over all sensitivities, where a box is "
    "right that overlaps a true one by half (intersection over union of .5): 1 is perfect.",
    "box_ap": "AP is as AP50, averaged over ten demands on the overlap, from .5 to .95: 1 is perfect.",
}
_NO_PLAIN_MEAN = ("weighted_", "grouped_", "c_index", "multiclass_")


def name_of(metric: str) -> str:
    """What people call a metric."""
    return NAMES.get(metric, metric)


def section(scores: AnyScores, folds: int, groups_known: bool, pictures: Sequence[Block]) -> Section:
    """The result; `folds`: how many models there are to be, `groups_known`: whether images name their patient."""
    metric = name_of(scores.metric)
    confidence = percent(scores.interval.confidence)
    ends = interval(scores.interval.low, scores.interval.high)
    lead = f"{metric} {number(scores.value)} out of fold ({confidence} interval {ends})"
    if scores.test is not None:
        test = scores.test
        lead += (
            f"; on the labelled test images {number(test.value)} ({interval(test.interval.low, test.interval.high)})"
        )
    blocks: list[Block] = [
        Text(f"{lead}.", "lead"),
        Text(_meaning(scores)),
        _measured_on(scores),
        Text(scores.note, "note"),
        *(Text(warning, "warning") for warning in scores.warnings),
        Text("\n".join(["What this does not show:", *(f"– {line}" for line in _limits(scores, folds, groups_known))])),
        *pictures,
    ]
    return Section("Result", "result", blocks)


def _meaning(scores: AnyScores) -> str:
    text = _MEANINGS.get(scores.metric, "").format(percent="–" if scores.value is None else percent(scores.value, 1))
    mean = f" It is the mean of {len(scores.labels)} labels." if _is_mean(scores) else ""
    trained = len(scores.folds)
    if trained == 1:
        return f"{text}{mean} Out of fold: the images that are scored were held back from training, patient by patient."
    return (
        f"{text}{mean} Out of fold: each image was judged by the one of {trained} models that had seen neither it nor "
        "any other image of its patient in training."
    )


def _is_mean(scores: AnyScores) -> bool:
    return len(scores.labels) > 1 and not scores.metric.startswith(_NO_PLAIN_MEAN)


def _measured_on(scores: AnyScores) -> Table:
    rows: list[tuple[str, Any]] = [("out of fold", scores)]
    if scores.test is not None:
        rows.append(("test images", scores.test))
    cells = [
        [
            what,
            number(each.rows),
            number(each.groups),
            number(each.value),
            interval(each.interval.low, each.interval.high),
        ]
        for what, each in rows
    ]
    by_fold = "  ".join(number(value) for value in scores.folds.values())
    spread = f", standard deviation {number(scores.fold_sd)}" if len(scores.folds) > 1 else ""
    caption = f"By fold: {by_fold} (mean {number(scores.fold_mean)}{spread})."
    columns = ["measured on", "images", "patients (groups)", name_of(scores.metric)]
    return Table([*columns, f"{percent(scores.interval.confidence)} interval"], cells, caption)


def _limits(scores: AnyScores, folds: int, groups_known: bool) -> list[str]:
    lines = [
        "All images come from the source that the model learnt from. With another scanner, stain, hospital or choice "
        "of patients, expect less."
    ]
    left = scores.left_out_clusters if isinstance(scores, Scores) else None
    if left is not None:
        lines[0] += f" How much that may be: {_clusters(left)}"
    if not groups_known:
        lines.append(
            "Each image counts as a patient of its own. If some are of one patient, the score is too good, and its "
            "interval too narrow."
        )
    if len(scores.folds) < folds:
        lines.append(f"Only {len(scores.folds)} of {folds} folds are trained yet.")
    test = scores.test
    if test is not None and test.groups_also_in_training:
        without = number(test.value_without_them)
        lines.append(
            f"{number(test.groups_also_in_training)} patients of the test images are among the training images, too; "
            f"without them the test value is {without}."
        )
    lines.append("Whether people would decide better with it: that takes a study, not a score.")
    return lines


def _clusters(left: LeftOutClusters) -> str:
    of = " (of the frozen network)" if left.frozen else ""
    ends = interval(left.low, left.high)
    return (
        f"on groups of images that look unlike those it was fitted on, {number(left.value)} instead of "
        f"{number(left.out_of_fold)}{of}, a difference of {number(left.difference)} (interval {ends})."
    )


def clusters(scores: AnyScores) -> list[Block]:
    """Left-out clusters, one by one; none where none were left out."""
    left = scores.left_out_clusters if isinstance(scores, Scores) else None
    if left is None:
        return []
    rows = [
        [part.looks, number(part.rows), number(part.groups), number(part.value), number(part.out_of_fold)]
        for part in left.clusters
    ]
    caption = (
        "Images grouped by how they look, each group predicted by a head that was fitted without it: a warning of what "
        "another source may cost, not a forecast."
    )
    columns = ["looks (standard deviations)", "images", "patients", "left out", "out of fold"]
    return [Text(_capital(_clusters(left))), Table(columns, rows, caption)]


def subgroups(scores: AnyScores, ends: Sequence[tuple[float, float]], resamples: int) -> list[Block]:
    """The score in parts of the images, with the ends of their intervals, over so many resamples."""
    if not scores.subgroups:
        return []
    metric, rows, drawn = name_of(scores.metric), [], list[panels.Row]()
    for part, (low, high) in zip(scores.subgroups, ends, strict=True):
        name = f"{part.column.replace('_', ' ')} {part.part}"
        few = "too few to judge" if part.small else ""
        rows.append([name, number(part.rows), number(part.value), interval(low, high), few])
        known = low == low and high == high and not part.small
        drawn.append((name, part.value, low if known else None, high if known else None))
    caption = (
        f"{metric} in parts of the images, out of fold, with intervals over patients ({resamples} resamples). Where "
        "intervals overlap widely, a difference may be chance."
    )
    figure = panels.intervals(
        "subgroups",
        drawn,
        f"{metric} (dashed: all images)",
        f"{metric} of {len(drawn)} parts of the images; values are in the table",
        "The score in parts of the images: a dot is the value, its line the interval, left out of parts that are too "
        "small.",
        scores.value,
    )
    confidence = f"{percent(scores.interval.confidence)} interval"
    return [figure, Table(["part", "images", metric, confidence, ""], rows, caption)]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

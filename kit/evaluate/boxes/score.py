"""Scores of predicted boxes, with intervals, by fold, label and subgroup: out of fold and on a labelled test set.

Out of fold, each fold's boxes are cut, shrunk and gated as the other folds decide, so that no image is measured under a
decision that it took part in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kit.boxes import Boxes, boxes_of, stacked
from kit.config import BoxSettings, EvaluateSettings
from kit.decisions import BoxDecision
from kit.errors import DataError, counted, some
from kit.evaluate.boxes import decision as box_decision
from kit.evaluate.boxes.decision import Judged
from kit.evaluate.boxes.metrics import mean_of_defined
from kit.evaluate.boxes.report import report
from kit.evaluate.metrics import Metric
from kit.evaluate.resample import interval, numbered, resample, share_above, statistic
from kit.evaluate.subgroups import parts_of
from kit.schemas import BoxScores, Comparison, defined
from kit.tables import predicted_labels, probabilities, truth_columns

NOTE = (
    "Each fold's best epoch was chosen on these same images, so the out-of-fold values are slightly optimistic. Cut, "
    "shrink and gate were not: each fold is measured under what the others decide."
)
FEW = "There are boxes in {images} only: the intervals are wide, and small differences mean nothing."
_FEW = 300  # images with boxes
_SMALL = 30  # of them, below which a subgroup's value means little


class Predicted:
    """Out-of-fold boxes of some images with the truth, and what is decided from them."""

    def __init__(
        self, table: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], metric: Metric, by: EvaluateSettings
    ) -> None:
        rows = examples.set_index("id").loc[table["id"]].reset_index()
        self.labels, self.metric, self.by, self.rows = tuple(labels), metric, by, rows
        self.boxes, self.gate = boxes_of(table, labels), gate_of(table, labels)
        self.judged = Judged(
            truth=boxes_of(rows, labels),
            fold=table["fold"].to_numpy(),
            group=rows["group"].to_numpy(),
            labels=len(labels),
            empty_images=by.empty_images,
        )

    def decide(self, task: str, views: str, merge: BoxSettings, images: np.ndarray | None = None) -> BoxDecision:
        """What all images, or some (int [m]), decide."""
        judged, boxes, gate = self.judged, self.boxes, self.gate
        if images is not None:
            judged = replace(
                judged, truth=judged.truth.of_images(images), fold=judged.fold[images], group=judged.group[images]
            )
            boxes, gate = boxes.of_images(images), None if gate is None else gate[images]
        return box_decision.decide(judged, boxes, task, self.labels, views, merge, self.by, gate)

    def kept(self, decision: BoxDecision) -> Boxes:
        """The boxes of each fold under what the other folds decide; of a single fold under `decision`."""
        folds = np.unique(self.judged.fold)
        if len(folds) < 2:
            return box_decision.apply(decision, self.boxes, self.gate)
        parts, places = [], []
        for k in folds:
            inside, others = (np.flatnonzero(where) for where in (self.judged.fold == k, self.judged.fold != k))
            chosen = self.decide(decision.task, decision.views, decision.merge, others)
            gate = None if self.gate is None else self.gate[inside]
            parts.append(box_decision.apply(chosen, self.boxes.of_images(inside), gate))
            places.append(inside)
        return stacked(parts).of_images(np.argsort(np.concatenate(places)))


def with_fused_cuts(decision: BoxDecision, test: pd.DataFrame, fused: pd.DataFrame) -> BoxDecision:
    """The decision with cuts for boxes of all folds, from each fold's test predictions and those of all as one."""
    labels = decision.labels
    folds = [boxes_of(rows.set_index("id").reindex(fused["id"]), labels) for _, rows in test.groupby("fold")]
    return box_decision.with_fused_cuts(decision, folds, boxes_of(fused, labels), gate_of(fused, labels))


def measured_by(metric: Metric, boxes: Boxes, kept: Boxes) -> Boxes:
    """What a metric measures: the boxes that are kept, where it needs a cut; else all, which it ranks by score."""
    return kept if metric.monitor else boxes


def gate_of(table: pd.DataFrame, labels: Sequence[str]) -> np.ndarray | None:
    """The probabilities by which boxes may be weighed, float64 [rows, labels]; None where the table has none."""
    return probabilities(table, labels).astype(np.float64) if predicted_labels(table) else None


def score(predicted: Predicted, test: pd.DataFrame, examples: pd.DataFrame, decision: BoxDecision) -> BoxScores:
    """The out-of-fold scores and, where the truth of test images is known, those of the test set."""
    labels, metric, by = predicted.labels, predicted.metric, predicted.by
    truth, kept = predicted.judged.truth, predicted.kept(decision)
    values = _score_rows(truth, predicted.boxes, kept, predicted.rows, labels, metric, by)
    measured = measured_by(metric, predicted.boxes, kept)
    places = {int(k): np.flatnonzero(predicted.judged.fold == k) for k in np.unique(predicted.judged.fold)}
    folds = {k: metric(truth.of_images(rows), measured.of_images(rows)) for k, rows in places.items()}
    scored = np.array([value for value in folds.values() if not np.isnan(value)])
    positive = len(np.unique(truth.image))
    values |= {
        "on_the_images_that_chose_it": metric(
            truth, measured_by(metric, predicted.boxes, box_decision.apply(decision, predicted.boxes, predicted.gate))
        ),
        "folds": folds,
        "fold_mean": mean_of_defined(scored),
        "fold_sd": float(scored.std(ddof=1)) if len(scored) > 1 else float("nan"),
        "warnings": [FEW.format(images=counted(positive, "image"))] if positive < _FEW else [],
        "note": NOTE,
    }
    known = examples[examples["id"].isin(test["id"]) & examples[truth_columns(labels)].notna().all(axis=1)]
    if len(known):
        values["test"] = _score_test(test, known, examples, decision, metric, by)
    return BoxScores.model_validate(defined(values))


def require_alike(runs: Mapping[str, Predicted]) -> None:
    """Raise DataError, naming the run, where one has other labels, images or true boxes than the first."""
    (name, first), *others = runs.items()
    ids, truth = first.rows["id"].to_numpy(), _as_tuples(first.judged.truth)
    for other, run in others:
        own = run.rows["id"].to_numpy()
        if run.labels != first.labels:
            raise DataError(f"{other} predicts the labels {some(run.labels)}, {name} {some(first.labels)}")
        if alone := set(own) ^ set(ids):
            raise DataError(
                f"{other} and {name} have different training images: {len(alone)} are in only one of them, such as "
                f"{some(alone)}. Train both on the same records"
            )
        if differs := truth ^ _as_tuples(run.judged.truth):
            raise DataError(f"{other} and {name} have different true boxes, such as those of {ids[min(differs)[0]]}")


def _as_tuples(boxes: Boxes) -> set[tuple[int, ...]]:
    """Each box as the numbers of its image and label, and x, y, width, height."""
    columns = (boxes.image, boxes.label, *boxes.xywh.T)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def compare_runs(runs: Mapping[str, tuple[Predicted, BoxDecision]], settings: EvaluateSettings) -> list[Comparison]:
    """Each run's boxes, as they are kept, against the first's, on the same resamples of groups."""
    first, _ = next(iter(runs.values()))
    group_of, count = numbered(first.judged.group)
    truth, metric = first.judged.truth, first.metric
    kept = [measured_by(metric, run.boxes, run.kept(decision)) for run, decision in runs.values()]
    statistics = [statistic(metric, truth, boxes, group_of, len(first.labels)) for boxes in kept]
    drawn = resample(statistics, count, settings.resamples)[:, :, 0]
    value = [metric(truth, boxes) for boxes in kept]
    lines = []
    for n, name in enumerate(runs):
        low, high = interval(drawn[:, n] - drawn[:, 0], settings.confidence)
        line = {"run": name, "value": value[n], "difference": value[n] - value[0], "low": low, "high": high}
        better = share_above(metric.gain(drawn[:, n], drawn[:, 0]))
        lines.append(Comparison.model_validate(defined({**line, "better": better})))
    return lines


def _score_test(
    test: pd.DataFrame,
    known: pd.DataFrame,
    examples: pd.DataFrame,
    decision: BoxDecision,
    metric: Metric,
    by: EvaluateSettings,
) -> dict[str, Any]:
    """The scores of a labelled test set, on which nothing was chosen."""
    labels, table = decision.labels, test.set_index("id").loc[known["id"]].reset_index()
    truth, boxes = boxes_of(known, labels), boxes_of(table, labels)
    kept = box_decision.apply(decision, boxes, gate_of(table, labels), fused=True)
    shared = known["group"].isin(set(examples["group"][examples["split"] == "train"])).to_numpy()
    values = _score_rows(truth, boxes, kept, known, labels, metric, by)
    values["groups_also_in_training"] = int(known["group"][shared].nunique())
    if shared.any():
        others = np.flatnonzero(~shared)
        values["value_without_them"] = metric(
            truth.of_images(others), measured_by(metric, boxes, kept).of_images(others)
        )
    return values


def _score_rows(
    truth: Boxes,
    boxes: Boxes,
    kept: Boxes,
    rows: pd.DataFrame,
    labels: Sequence[str],
    metric: Metric,
    by: EvaluateSettings,
) -> dict[str, Any]:
    group_of, count = numbered(rows["group"].to_numpy())
    measured = measured_by(metric, boxes, kept)
    of_rows = statistic(metric, truth, measured, group_of, len(labels))
    drawn = resample([of_rows], count, by.resamples)[:, 0]
    limits = [interval(column, by.confidence) for column in drawn.T]
    value, *each = of_rows(np.ones(count, np.int64)).tolist()
    return {
        "metric": metric.name,
        "rows": len(rows),
        "groups": count,
        "value": value,
        "interval": {
            "low": limits[0][0],
            "high": limits[0][1],
            "resamples": by.resamples,
            "confidence": by.confidence,
        },
        "labels": {
            label: {"value": own, "low": low, "high": high}
            for label, own, (low, high) in zip(labels, each, limits[1:], strict=True)
        },
        "report": report(truth, boxes, kept, rows["group"].to_numpy(), labels, by).as_json(),
        "subgroups": [
            {
                "column": column,
                "part": part,
                "rows": len(inside),
                "value": metric(truth.of_images(inside), measured.of_images(inside)),
                "small": len(np.unique(truth.of_images(inside).image)) < _SMALL,
            }
            for column, part, inside in parts_of(rows, by.subgroups)
        ],
    }

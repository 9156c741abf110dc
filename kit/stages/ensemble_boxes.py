"""Runs with boxes, and one classification run as their gate -> a blend."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kit.boxes import Boxes, boxes_of, with_boxes
from kit.errors import ConfigError, DataError, some
from kit.evaluate.boxes.ensemble import BEST, ensemble
from kit.evaluate.boxes.score import Predicted, require_alike
from kit.evaluate.ensemble import correlations
from kit.run import Run
from kit.schemas import EnsembleReport
from kit.stages.score import mean_test, metric_of_run
from kit.tables import predicted_labels, probability_columns
from kit.tasks import find_task


def blend(
    runs: Sequence[Run], names: Sequence[str], how: str, metadata: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, EnsembleReport]:
    """Out-of-fold boxes, nested, those of the test images by fold, and how they came about.

    A run of probabilities becomes columns `p_*` of both tables, by which `kit score` may weigh the boxes. Raises
    ConfigError for several such runs, and DataError for runs of other images, labels or folds.
    """
    if metadata:
        raise ConfigError("boxes are blended without metadata: leave --metadata out")
    kinds = {name: find_task(run.folds.task).prediction for name, run in zip(names, runs, strict=True)}
    gates = [name for name, kind in kinds.items() if kind != "boxes"]
    if len(gates) > 1:
        raise ConfigError(f"boxes can have one classification run as their gate, not {len(gates)}: {some(gates)}")
    named = dict(zip(names, runs, strict=True))
    members = {name: run for name, run in named.items() if kinds[name] == "boxes"}
    first = next(iter(members.values()))
    labels, settings, merge = first.folds.labels, first.config.evaluate, first.config.predict.boxes
    oof = {name: _aligned(run.oof(), first.oof(), name, "training") for name, run in named.items()}
    test = {name: _aligned(run.test(), first.test(), name, "test") for name, run in members.items()}
    means = {name: _aligned(mean_test(named[name]), mean_test(first), name, "test") for name in gates}
    for name, run in named.items():
        if run.folds.labels != labels:
            raise DataError(f"{name} predicts other labels: {some(run.folds.labels)}, not {some(labels)}")
    metric = metric_of_run(first)
    bare = oof[next(iter(members))]
    predicted = {name: Predicted(oof[name], run.examples(), labels, metric, settings) for name, run in members.items()}
    require_alike(predicted)
    judged = next(iter(predicted.values())).judged
    boxes = {name: each.boxes for name, each in predicted.items()}
    alone = len(members) == 1
    result = ensemble(boxes, judged, merge, settings, BEST if alone and how == "auto" else how)
    fused = result.blend.apply([boxes_of(test[name], labels) for name in members])
    tables = [
        _table(rows[["id", "fold"]], boxes, labels, with_gate[gates[0]] if gates else None)
        for rows, boxes, with_gate in (
            (bare, result.nested, oof),
            (test[next(iter(members))], fused, means),  # fold by fold, as out of fold: `kit score` fuses them
        )
    ]
    best = np.stack([member.best(len(labels)) for member in boxes.values()])
    correlation = correlations(best, list(members))
    report = EnsembleReport(
        metric=metric.name,
        runs=[str(run) for run in runs],
        blends=result.scores,
        correlation=correlation.astype(object).where(correlation.notna(), None).to_dict(),
        chosen=result.blend.name,
        reason="you asked for it" if how != "auto" else _reason(result.blend.name, result.base, alone),
        weights=dict(zip(members, result.blend.weights, strict=True)),
        metadata=[],
        base=result.base,
        gate=gates[0] if gates else None,
    )
    return tables[0], tables[1].sort_values(["fold", "id"], ignore_index=True), report


def _reason(chosen: str, base: str, alone: bool) -> str:
    if alone:
        return "it is the only run with boxes"
    if chosen == base:
        return "none beats it by more than its interval"
    return f"it beats {base} by more than its interval"


def _aligned(table: pd.DataFrame, first: pd.DataFrame, name: str, what: str) -> pd.DataFrame:
    """The table sorted by id; raises DataError unless its images, and their folds, are those of the first run."""
    keys = [key for key in ("id", "fold") if key in first]
    table, first = (each.sort_values(keys, ignore_index=True) for each in (table, first))
    if len(table) != len(first) or (table["id"] != first["id"]).any():
        alone = set(table["id"]) ^ set(first["id"])
        raise DataError(
            f"{name} has other {what} images than the first run with boxes: {len(alone)} are in only one of them, such "
            f"as {some(alone)}"
        )
    if "fold" in first and (table["fold"] != first["fold"]).any():
        moved = table["id"][table["fold"] != first["fold"]]
        raise DataError(
            f"{name} has other folds than the first run with boxes: {len(moved)} images, such as {moved.iloc[0]}, are "
            "in another one. Train both with the same folds and fold_seed, and a classification on the same yes or no"
        )
    return table


def _table(rows: pd.DataFrame, boxes: Boxes, labels: Sequence[str], gate: pd.DataFrame | None) -> pd.DataFrame:
    table = with_boxes(rows, boxes, labels)
    if gate is None:
        return table
    columns = probability_columns(predicted_labels(gate))
    of_ids = gate.set_index("id").loc[rows["id"]]
    return table.assign(**{column: of_ids[column].to_numpy() for column in columns})

"""Runs -> a blend of them, in a folder with the files of a run: it is scored and submitted by the same stages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.errors import ConfigError, DataError
from kit.evaluate import blend
from kit.evaluate import ensemble as blending
from kit.run import Run, names_of
from kit.schemas import BlendScore, EnsembleReport
from kit.stages import ensemble_boxes
from kit.stages.current import require_current
from kit.stages.score import mean_test, metric_of_run
from kit.tables import TRUTH, predicted_labels, truth, with_probabilities, with_truth
from kit.tasks import find_task

_NO_METADATA = ("id", "path", "split", "group", "case", "cell")


def ensemble(runs: Sequence[Run], out: Run, how: str = "auto", metadata: Sequence[str] = ()) -> EnsembleReport:
    """Blend runs into `out`; returns what it also writes as `ensemble.json`.

    Among runs with boxes, one of probabilities is their gate (kit.stages.ensemble_boxes).

    `auto` takes the blend that is worth most on folds that did not fit it, and the plain mean when none is better by
    more than its interval. `metadata` are columns of the examples that the `boost` blend may use. The out-of-fold
    predictions are nested; where a blend was chosen for its value on these rows, that is slightly optimistic still.
    """
    if len(runs) < 2:
        raise ConfigError("an ensemble takes two runs at least")
    names, first = names_of(runs), runs[0]
    if out.directory.resolve() in {run.directory.resolve() for run in runs}:
        raise ConfigError(f"{out} is one of the runs that are blended: give another --out")
    for run in runs:
        require_current(run)
        run.oof(), run.test()  # raises for one that has none yet, or damaged ones
        if run.config.competition_name != first.config.competition_name:
            raise DataError(
                f"{run} is a run of {run.config.competition_name!r}, {first} of {first.config.competition_name!r}"
            )
    if out.begun_folds():
        raise DataError(f"{out} is a run, which an ensemble would overwrite: give another --out")
    with out.locked():
        return _ensemble(runs, names, out, how, metadata)


def _ensemble(runs: Sequence[Run], names: list[str], out: Run, how: str, metadata: Sequence[str]) -> EnsembleReport:
    predictions = [find_task(run.folds.task).prediction for run in runs]
    first = runs[predictions.index("boxes") if "boxes" in predictions else 0]
    inputs: dict[str, Any] = {
        "runs": [[str(run), *map(files.sha256_of, (run.oof_path, run.test_path, run.examples_path))] for run in runs],
        "blend": how,
        "metadata": list(metadata),
        "evaluate": first.config.evaluate.model_dump(),
    }
    if files.is_done(out.ensemble_done, inputs):
        return out.ensemble
    oof, test, report = _BLENDS[find_task(first.folds.task).prediction](runs, names, how, metadata)
    out.prepare(first.config, first.examples(), first.folds)
    files.write_parquet(out.oof_path, oof)
    files.write_parquet(out.test_path, test)
    out.write_ensemble(report, inputs)
    return report


def _blend(
    runs: Sequence[Run], names: Sequence[str], how: str, metadata: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, EnsembleReport]:
    """Out-of-fold probabilities, nested, those of the test images, and how they came about."""
    first = runs[0]
    settings, examples = first.config.evaluate, first.examples()
    oof, members = blending.aligned({name: run.oof() for name, run in zip(names, runs, strict=True)}, "training")
    test, test_members = blending.aligned({name: mean_test(run) for name, run in zip(names, runs, strict=True)}, "test")
    labels = predicted_labels(first.oof())
    tables = {name: run.examples() for name, run in zip(names, runs, strict=True)}
    blending.require_same_truth(tables, oof["id"], labels)
    metric, exclusive = metric_of_run(first), find_task(first.folds.task).exclusive
    y = truth(with_truth(oof, examples, labels), labels).astype(np.float64)
    rows = blend.Rows(members, y, metric, exclusive, _metadata(examples, oof["id"], metadata))
    fold, groups = oof["fold"].to_numpy(), oof["id"].map(examples.set_index("id")["group"]).to_numpy()
    candidates = list(blend.BLENDS) if how == "auto" else [how]
    table, nested = blending.compare_blends(candidates, rows, fold, groups, settings.resamples, settings.confidence)
    chosen = blending.choose_blend(table) if how == "auto" else how
    fitted = blend.fit(chosen, rows)
    p = fitted.apply(test_members, _metadata(examples, test["id"], metadata)) if len(test) else test_members[0]
    correlation = blending.correlations(members, list(names))
    report = EnsembleReport(
        metric=metric.name,
        runs=[str(run) for run in runs],
        blends={
            name: BlendScore.model_validate(row) for name, row in table.replace({np.nan: None}).to_dict("index").items()
        },
        correlation=correlation.astype(object).where(correlation.notna(), None).to_dict(),
        chosen=chosen,
        reason=_reason(chosen, how),
        weights=blending.weights_of(fitted, list(names)),
        metadata=list(metadata),
    )
    return (
        with_probabilities(oof[["id", "fold"]], nested[chosen], labels),
        with_probabilities(test.assign(fold=0)[["id", "fold"]], p, labels),
        report,
    )


_BLENDS = {"probabilities": _blend, "boxes": ensemble_boxes.blend}


def _reason(chosen: str, how: str) -> str:
    if how != "auto":
        return "you asked for it"
    if chosen == "mean":
        return "none beats it by more than its interval"
    return "it beats the plain mean by more than its interval"


def _metadata(examples: pd.DataFrame, ids: pd.Series, columns: Sequence[str]) -> pd.DataFrame:
    """Numbers of the examples' columns for these ids; text becomes the number of its place among the sorted texts."""
    table = pd.DataFrame(index=range(len(ids)))
    for column in columns:
        if column not in examples.columns or column.startswith(TRUTH) or column in _NO_METADATA:
            raise ConfigError(f"the examples have no metadata column {column!r}")
        values = examples[column]
        if not pd.api.types.is_numeric_dtype(values):
            codes = pd.Categorical(values).codes
            values = pd.Series(np.where(codes < 0, np.nan, codes), index=values.index)
        table[column] = ids.map(pd.Series(values.to_numpy(float), index=examples["id"])).to_numpy()
    return table

"""Repeated folds: runs with other seeds and other folds -> their average, in a folder with the files of an ensemble.

Each image is predicted once in every repeat, by a model that has not seen it; the average of these is scored. How far
the repeats' own scores lie apart is what chance of split and seed does to one of them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.config import Config
from kit.errors import DataError
from kit.evaluate import ensemble as blending
from kit.run import Run, names_of
from kit.schemas import EnsembleReport, Number
from kit.stages.current import require_current
from kit.stages.score import mean_test, score
from kit.stages.submission import write_submission
from kit.tables import predicted_labels, with_probabilities

log = logging.getLogger(__name__)


def settings_of_repeat(config: Config, n: int) -> list[str]:
    """What differs in the n-th repeat from the first run: the seeds, of training and of the folds."""
    return [f"seed={config.seed + n}", f"fold_seed={config.split_seed + n}", "repeats=1"]


def average(runs: Sequence[Run], sample: Path | None) -> Run:
    """The mean prediction of a run and its repeats, with the folds of the first: scored, and as a submission.

    Says how far the repeats lie apart. Raises DataError for runs of other images or labels.
    """
    out = runs[0].repeat()
    report = _average(runs, out)
    log.info(spread(report, score(out)[0].value))
    if not out.test().empty:
        write_submission(out, sample, out.submission_path)
    return out


def _average(runs: Sequence[Run], out: Run) -> EnsembleReport:
    first, names = runs[0], ["first", *(run.name for run in runs[1:])]
    for run in runs:
        require_current(run)
        if run.folds.training != first.folds.training:
            raise DataError(f"{run} was trained on other images than {first}: repeats are of the same")
    inputs: dict[str, Any] = {
        "repeats": [
            [name, *map(files.sha256_of, (run.oof_path, run.test_path, run.scores_path))]
            for name, run in zip(names, runs, strict=True)
        ]
    }
    with out.locked():
        if files.is_done(out.ensemble_done, inputs):
            return out.ensemble
        labels = predicted_labels(first.oof())
        oof, members = blending.aligned(_named(names, [run.oof().drop(columns="fold") for run in runs]), "training")
        test, test_members = blending.aligned(_named(names, [mean_test(run) for run in runs]), "test")
        fold = first.oof().set_index("id")["fold"].loc[oof["id"]].to_numpy()
        correlation = blending.correlations(members, names)
        report = EnsembleReport(
            metric=first.scores.metric,
            runs=[str(run) for run in runs],
            blends={},
            correlation=correlation.astype(object).where(correlation.notna(), None).to_dict(),
            chosen="mean",
            reason="repeats are averaged",
            weights=dict.fromkeys(names_of(runs), 1 / len(runs)),
            metadata=[],
            repeats={name: run.scores.value for name, run in zip(names, runs, strict=True)},
        )
        out.prepare(first.config, first.examples(), first.folds)
        files.write_parquet(out.oof_path, with_probabilities(oof.assign(fold=fold), members.mean(axis=0), labels))
        mean = test_members.mean(axis=0)
        files.write_parquet(out.test_path, with_probabilities(test.assign(fold=0)[["id", "fold"]], mean, labels))
        out.write_ensemble(report, inputs)
    return report


def spread(report: EnsembleReport, averaged: Number) -> str:
    """How far the repeats lie apart, in a line."""
    values = np.array([value for value in report.repeats.values() if value is not None], float)
    each = "  ".join("undefined" if value is None else f"{value:.4f}" for value in report.repeats.values())
    mean = f"; mean {values.mean():.4f}, sd {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    average = "" if averaged is None else f"; of their average {averaged:.4f}"
    return f"{len(report.repeats)} repeats: {report.metric} {each}{mean}{average}"


def _named(names: Sequence[str], tables: Sequence[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return dict(zip(names, tables, strict=True))

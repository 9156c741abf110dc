"""Predictions -> scores and decision; runs against each other. Needs no Keras."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from kit import files
from kit.competition import Target
from kit.competitions import find_competition
from kit.config import Config
from kit.evaluate import score as scoring
from kit.evaluate.decision import decide
from kit.evaluate.metrics import find_metric
from kit.predict.merging import mean_over_folds
from kit.run import Run, names_of
from kit.schemas import Comparison, Decision, Scores
from kit.stages.current import changed_settings, require_current
from kit.tasks import find_task


def score(run: Run, settings: Iterable[str] = ()) -> tuple[Scores, Decision]:
    """Predictions -> `scores.json` (out of fold, and test where it has labels) and `decision.json`; returns both.

    `settings` are `evaluate.*=value`, kept in the run. Raises DataError for predictions that are missing, damaged or
    older than the models.
    """
    before = run.config
    config = changed_settings(before, settings, "evaluate", "kit score")
    with run.locked():
        target, oof, test = target_of(run), run.oof(), run.test()
        require_current(run)
        task = find_task(run.folds.task)
        inputs: dict[str, Any] = {
            "evaluate": config.evaluate.model_dump(),
            "views": config.predict.tta,
            "balanced": is_balanced(config),
            "metric": target.metric,
            "means": {name: list(labels) for name, labels in target.means.items()},
            "task": task.name,
        }
        inputs |= {path.name: files.sha256_of(path) for path in (run.oof_path, run.test_path, run.examples_path)}
        if not files.is_done(run.scored_done, inputs):
            examples = run.examples()
            by = scoring.Yardstick(find_metric(target.metric), task.exclusive, config.evaluate, target.means)
            decision = decide(
                oof, examples, task.name, task.exclusive, config.evaluate, config.predict.tta, is_balanced(config)
            )
            scores = scoring.score(oof, mean_over_folds(test), examples, by)
            if config != before:
                run.write_config(config)
            run.write_scores(scores, decision, inputs)
        return run.scores, run.decision


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Each run's out-of-fold score against the first's, on the same resamples of patients."""
    tables = {name: run.oof() for name, run in zip(names_of(runs), runs, strict=True)}
    metric = find_metric(target_of(runs[0]).metric)
    return scoring.compare_runs(tables, runs[0].examples(), metric, runs[0].config.evaluate)


def target_of(run: Run) -> Target:
    """What the run learnt."""
    return find_competition(run.config.competition, run.config).target


def is_balanced(config: Config) -> bool:
    """Whether training showed classes in other shares than the data has."""
    return config.input.balance != "none" or config.train.loss.weights != "none"


def mean_test(run: Run) -> pd.DataFrame:
    """The mean of the folds' raw test predictions: id, `p_*`."""
    return mean_over_folds(run.test())

"""Predictions -> scores and decision; runs against each other. Needs no Keras."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kit import files
from kit.competition import Target
from kit.competitions import find_competition
from kit.config import Config
from kit.decisions import AnyDecision, BoxDecision, Decision
from kit.errors import DataError
from kit.evaluate import score as scoring
from kit.evaluate.boxes import score as box_score
from kit.evaluate.boxes.score import Predicted
from kit.evaluate.clusters import of_clusters
from kit.evaluate.decision import decide, of_cases
from kit.evaluate.metrics import Metric, metric_of
from kit.predict.merging import over_folds
from kit.run import Run, names_of
from kit.schemas import AnyScores, BoxScores, Comparison, Scores
from kit.stages.current import changed_settings, require_current, settings_of_boxes
from kit.stages.fold import fitted_part
from kit.stages.per_case import scored_examples, scored_oof, what_is_scored
from kit.tasks import find_task


def score(run: Run, settings: Iterable[str] = ()) -> tuple[AnyScores, AnyDecision]:
    """Predictions -> `scores.json` (out of fold, and test where it has labels) and `decision.json`; returns both.

    `settings` are `evaluate.*=value`, kept in the run. Raises DataError for predictions that are missing, damaged or
    older than the models.
    """
    before = run.config
    config = changed_settings(before, settings, "evaluate", "kit score")
    with run.locked():
        target = target_of(run)
        run.oof(), run.test()  # raises for those that are missing or damaged
        require_current(run)
        task = find_task(run.folds.task)
        inputs: dict[str, Any] = {
            "evaluate": config.evaluate.model_dump(),
            "views": config.predict.tta,
            "balanced": is_balanced(config),
            "metric": [target.metric, dict(target.metric_options)] if target.metric_options else target.metric,
            "means": {name: list(labels) for name, labels in target.means.items()},
            "task": task.name,
            **settings_of_boxes(config.predict, task.name),
        }
        inputs |= {path.name: files.sha256_of(path) for path in (run.oof_path, run.test_path, run.examples_path)}
        if (clusters := _clusters_of(run)) is not None:
            paths = (clusters.clusters_path, clusters.oof_path)
            inputs["clusters"] = [clusters is not run, *map(files.sha256_of, paths)]
        if not files.is_done(run.scored_done, inputs):
            scores, decision = _KINDS[task.prediction].score(run, config, target)
            if config != before:
                run.write_config(config)
            run.write_scores(scores, decision, inputs)
        return run.scores, run.decision


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Each run's out-of-fold score against the first's, on the same resamples of patients.

    Raises DataError for runs of other images or labels, and for boxes against probabilities.
    """
    named = dict(zip(names_of(runs), runs, strict=True))
    kinds = {name: find_task(run.folds.task).prediction for name, run in named.items()}
    (first, kind), *others = kinds.items()
    for name, other in others:
        if other != kind:
            raise DataError(f"{name} predicts {other} and {first} {kind}, which no metric compares")
    return _KINDS[kind].compare(named)


def target_of(run: Run) -> Target:
    """What the run learnt."""
    return find_competition(run.config.competition, run.config).target


def metric_of_run(run: Run) -> Metric:
    """What the run is scored by."""
    folds = run.folds
    return metric_of(target_of(run), run.config.evaluate, folds.labels, find_task(folds.task).exclusive)


def is_balanced(config: Config) -> bool:
    """Whether training showed classes in other shares than the data has; that of a head never does."""
    if fitted_part(config) == "head":
        return False
    return config.input.balance != "none" or config.train.loss.weights != "none"


def mean_test(run: Run) -> pd.DataFrame:
    """The folds' raw test predictions as one row per id: mean probabilities `p_*`, or fused boxes."""
    return over_folds(run.test(), run.folds.labels, run.folds.task, run.config.predict)


def _score_probabilities(run: Run, config: Config, target: Target) -> tuple[Scores, Decision]:
    task = find_task(run.folds.task)
    note = {"network": scoring.OPTIMISM, "head": scoring.NESTED}[fitted_part(config)]
    metric = metric_of(target, config.evaluate, run.folds.labels, task.exclusive)
    tables = what_is_scored(run, config, metric, mean_test(run))

    def decided(oof: pd.DataFrame) -> Decision:
        options = config.evaluate, config.predict.tta, is_balanced(config), metric
        return decide(oof, tables.examples, task.name, task.exclusive, *options)

    decision = decided(tables.oof)
    if tables.rule is not None:
        decision = of_cases(decision, decided(tables.nested), tables.rule)
        note = f"{note} {tables.words()}"
    by = scoring.Yardstick(metric, task.exclusive, config.evaluate, target.means, note, decision)
    scores = scoring.score(tables.nested, tables.test, tables.examples, by)
    source = _clusters_of(run)
    if source is None or (clusters := source.clusters()) is None:
        return scores, decision
    clusters, oof = (tables.by_plain_rule(table, run.examples(), task.exclusive) for table in (clusters, source.oof()))
    left_out = of_clusters(clusters, oof, tables.examples, by.metric, config.evaluate)
    return scores.model_copy(
        update={"left_out_clusters": left_out.model_copy(update={"frozen": source is not run})}
    ), decision


def _clusters_of(run: Run) -> Run | None:
    """The run that has predicted left-out clusters: this one, or that of the frozen network; None where neither has."""
    if run.clusters_done.exists():
        return run
    frozen = run.frozen
    if not (frozen.exists() and frozen.clusters_done.exists() and frozen.oof_path.exists()):
        return None
    return frozen if frozen.folds.training == run.folds.training else None


def _compare_probabilities(runs: dict[str, Run]) -> list[Comparison]:
    first = next(iter(runs.values()))
    metric = metric_of_run(first)
    tables = {name: scored_oof(run, run.config, metric) for name, run in runs.items()}
    return scoring.compare_runs(tables, scored_examples(first), metric, first.config.evaluate)


def _score_boxes(run: Run, config: Config, target: Target) -> tuple[BoxScores, BoxDecision]:
    predicted = _predicted(run, config, metric_of(target, config.evaluate, run.folds.labels))
    decision = predicted.decide(run.folds.task, config.predict.tta, config.predict.boxes)
    decision = box_score.with_fused_cuts(decision, run.test(), mean_test(run))
    return box_score.score(predicted, mean_test(run), run.examples(), decision), decision


def _compare_boxes(runs: dict[str, Run]) -> list[Comparison]:
    first = next(iter(runs.values()))
    metric = metric_of_run(first)
    each = {name: _predicted(run, first.config, metric) for name, run in runs.items()}
    box_score.require_alike(each)
    decided = {
        name: (predicted, predicted.decide(first.folds.task, first.config.predict.tta, first.config.predict.boxes))
        for name, predicted in each.items()
    }
    return box_score.compare_runs(decided, first.config.evaluate)


def _predicted(run: Run, config: Config, metric: Metric) -> Predicted:
    return Predicted(run.oof(), run.examples(), run.folds.labels, metric, config.evaluate)


class _Kind(NamedTuple):
    score: Callable[[Run, Config, Target], tuple[AnyScores, AnyDecision]]
    compare: Callable[[dict[str, Run]], list[Comparison]]


_KINDS = {
    "probabilities": _Kind(_score_probabilities, _compare_probabilities),
    "boxes": _Kind(_score_boxes, _compare_boxes),
}

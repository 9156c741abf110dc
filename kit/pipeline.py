"""The story of kit, and the file to read first: the stages in order, each reading files and writing files.

    raw files -> examples -> records -> folds -> fit each fold -> predictions -> scores -> decision -> submission
                                                                                 `----> report

A stage does nothing when what it would read has not changed since it wrote its files, and resumes where it was killed.
There is no hidden state: the run directory (kit.run) is the state. Every stage is a function of kit.stages and a
command of its own; `run` is all of them. What follows `predict` needs no Keras.
"""

import logging
import time
from functools import partial
from pathlib import Path

from kit import headlines
from kit import log as kit_log
from kit.competitions import find_competition
from kit.config import Config, Overrides, load_config
from kit.config.load import as_overrides
from kit.files import expanded
from kit.run import Run
from kit.runtime import session
from kit.stages.check import check_columns, check_loss, check_scoring, check_settings, is_trained, rehearse_training
from kit.stages.ensemble import ensemble
from kit.stages.examples import check_folder, check_folds, list_examples, raw_folder
from kit.stages.network import frozen_first
from kit.stages.predict import predict, predict_images
from kit.stages.records import build_records, records_folder
from kit.stages.repeats import average, settings_of_repeat
from kit.stages.report import try_report, write_report
from kit.stages.resume import config_of, refuse_other_settings
from kit.stages.score import compare, score
from kit.stages.submission import write_submission
from kit.stages.train import start_run, train

__all__ = [
    "build_records",
    "check_folder",
    "compare",
    "ensemble",
    "list_examples",
    "predict",
    "predict_images",
    "run",
    "score",
    "start_run",
    "train",
    "write_report",
    "write_submission",
]

log = logging.getLogger(__name__)
_timed = partial(kit_log.timed, log)


def run(
    competition: str,
    data: Path | str | None = None,
    run: Path | str | None = None,
    records: Path | str | None = None,
    settings: Overrides = (),
    max_hours: float | None = None,
    retrain: bool = False,
    trust: bool = False,
    quick: bool = False,
    report: bool = True,
) -> Run:
    """All stages in order, skipping what is done; returns the run, with its scores and submission.

    Without test images there is no submission. `settings` are `a.b=value` strings, or a dictionary; `records` is where
    records are built (default: beside the run; on Kaggle and Colab, which would keep them, a scratch folder), unless
    they are there or mounted. When time runs out (`max_hours`, by default what is left of the session), the folds that
    are trained are predicted, scored and submitted, and the run's `is_complete` is false.

    A run that exists is continued with its own settings, changed by `settings` (kit.stages.resume); folds that are
    trained are not trained again unless `retrain` allows it. `trust`: what its settings name outside it may be loaded.

    With `frozen_first` in its settings, a run of the frozen network comes first, in its folder `frozen`, and what
    training has added to that is said at the end; `quick` stops after it, and returns it. A run that is done gets its
    `report`, for people. With `repeats`, further runs follow with other seeds, and their average is returned.
    """
    kit_log.show()
    deadline, started = session.deadline(max_hours), time.monotonic()
    settings = as_overrides(settings)
    recipe = load_config(competition, settings)
    this = Run(run or Path("runs", find_competition(recipe.competition, recipe).name, "run"))
    if before := session.adopt_output(this.directory):
        log.info(f"resumes from {before}, the output of an earlier session")
    config = config_of(this, competition, settings, trust)
    with this.locked():
        if not retrain:
            refuse_other_settings(config, this)
        check_settings(config, this)
        frozen = frozen_first(config, only=quick)
        definition = find_competition(config.competition, config)
        data = raw_folder(definition, expanded(data) if data else None, this.directory.parent / "data")
        with kit_log.quiet("kit.models"):  # the folds will report their weights
            for each, its in _in_order(config, this, frozen, quick):
                rehearse_training(each, each.image, its)

        with _timed("examples, records"):
            examples = list_examples(config, data)
            check_folds(config, examples)
            check_scoring(config, examples.labels)
            if not is_trained(config, this):
                check_loss(config, examples.task, examples.table)
                check_columns(config, examples.labels, examples.table)
            folder = records_folder(config, examples, this.directory, expanded(records) if records else None)
            built = build_records(config, examples, data, folder)
        sample = data / definition.sample if definition.sample and definition.target.columns else None
        for each, its in _in_order(config, this, frozen, quick):
            title = "" if its is this else "frozen network: "
            with _timed(f"{title}train"):
                finished = train(each, built, its, deadline=deadline, retrain=retrain or its is not this)
            if not finished and not its.trained_folds():
                return this
            with _timed(f"{title}predict"):
                predict(its, built, trust=trust or config.model.name)
            with _timed(f"{title}score, submission"):
                score(its)
                if not built.rows(None).empty:
                    write_submission(its, sample, its.submission_path)
            if its is not this:
                log.info(headlines.in_a_line(its))
        if frozen and not quick and this.is_complete:
            log.info(headlines.gain(*compare([this.frozen, this])))
        last = this.frozen if quick and frozen else this
        if report and last.is_complete:
            with _timed("report"):
                try_report(last, built.directory)
    runs = [last]
    while len(runs) < config.repeats and runs[-1].is_complete and not quick:
        left = max_hours and max(0.0, max_hours - (time.monotonic() - started) / 3600)
        changed, folder = [*settings, *settings_of_repeat(config, len(runs))], this.repeat(len(runs)).directory
        runs.append(_run(competition, data, folder, built.directory, changed, left, retrain, trust))
    return average(runs, sample) if len(runs) > 1 and runs[-1].is_complete else runs[-1]


_run = run  # which is the name of an argument in it


def _in_order(config: Config, this: Run, frozen: Config | None, quick: bool) -> list[tuple[Config, Run]]:
    """The runs to be made, each with its settings: that of the frozen network first, where there is to be one."""
    first = [(frozen, this.frozen)] if frozen else []
    return [*first, *([] if frozen and quick else [(config, this)])]

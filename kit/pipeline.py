"""The story of kit, and the file to read first: the stages in order, each reading files and writing files.

    raw files -> examples -> records -> folds -> fit each fold -> predictions -> scores -> decision -> submission

A stage does nothing when what it would read has not changed since it wrote its files, and resumes where it was killed.
There is no hidden state: the run directory (kit.run) is the state. Every stage is a function of kit.stages and a
command of its own; `run` is all of them. What follows `predict` needs no Keras.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit import log as kit_log
from kit.competitions import find_competition
from kit.config import Overrides, load_config
from kit.run import Run
from kit.runtime import session
from kit.stages.ensemble import ensemble
from kit.stages.examples import check_folder, list_examples, raw_folder
from kit.stages.model import build_model
from kit.stages.predict import predict, predict_images
from kit.stages.records import build_records, records_folder
from kit.stages.score import compare, score
from kit.stages.submission import write_submission
from kit.stages.train import refuse_other_run, start_run, train

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
    "write_submission",
]

log = logging.getLogger(__name__)


def run(
    competition: str,
    data: Path | str | None = None,
    run: Path | str | None = None,
    records: Path | str | None = None,
    settings: Overrides = (),
    max_hours: float | None = None,
) -> Path | None:
    """All stages in order, skipping what is done; returns the path of the submission, or None when time ran out.

    Without test images there is none, and it returns that of the out-of-fold predictions. `settings` are `a.b=value`
    strings, or a dictionary; `records` is where records are built (default: beside the run; on Kaggle and Colab, which
    would keep them,
    a scratch folder), unless they are there or mounted. When time runs out (`max_hours`, by default what is left of
    the session), the folds that are trained are predicted, scored and submitted.
    """
    kit_log.show()
    deadline = session.deadline(max_hours)
    config = load_config(competition, settings)
    definition = find_competition(config.competition, config)
    this = Run(run or Path("runs", definition.name, "run"))
    data = raw_folder(definition, Path(data) if data else None, this.directory.parent / "data")
    if before := session.adopt_output(this.directory):
        log.info(f"resumes from {before}, the output of an earlier session")
    refuse_other_run(config, this)

    with _timed("examples, records"):
        examples = list_examples(config, data)
        if not this.oof_path.exists():  # hours may lie ahead: can that model be built?
            with kit_log.quiet("kit.models"):  # the folds will report their weights
                build_model(config, config.image, examples.labels, examples.task)
        folder = records_folder(config, examples, this.directory, Path(records) if records else None)
        built = build_records(config, examples, data, folder)
    with _timed("train"):
        finished = train(config, built, this, deadline=deadline)
    if not finished and not this.trained_folds():
        return None
    with _timed("predict"):
        predict(this, built)
    with _timed("score, submission"):
        score(this)
        if built.rows(None).empty:
            return this.oof_path if finished else None
        sample = data / definition.sample if definition.sample and definition.target.columns else None
        write_submission(this, sample, this.submission_path)
    return this.submission_path if finished else None


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    log.info(f"{stage}: {time.monotonic() - started:.1f} s")

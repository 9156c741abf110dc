"""The story of the kit, and the file to read first: every stage is a function here, reading files and writing files.

    raw files -> examples -> records -> folds -> fit each fold -> predictions -> scores, thresholds -> submission

A stage does nothing when what it would read has not changed since it wrote its files, and goes on where it was killed.
There is no hidden state: the run directory is the state, and `run` is the stages in order. `score` and what follows it
live in kit.stages.score, because they need no Keras.
"""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kit import files
from kit.competitions import find_competition, raw_folder
from kit.config import Config, dump_config, load_config, read_config
from kit.data.records import build
from kit.data.records.manifest import Records, mounted_records, plan_fingerprint
from kit.data.table import check as checking
from kit.data.table.cells import split_folds
from kit.data.table.examples import Examples, validate
from kit.errors import ConfigError, DataError, some
from kit.log import quiet
from kit.predict import merging as store
from kit.runtime import session as host
from kit.stages import train as fold
from kit.stages.score import score, write_submission

say = partial(print, flush=True)  # a line is seen when it is written, also in the log of a kernel


def examples(config: Config, data: Path) -> Examples:
    """Raw folder -> example table: one row per image, checked. Only lists and reads tables, decodes no image."""
    found = validate(find_competition(config.competition, config).read(data, config), config.data.max_missing)
    for names, what in ((found.missing, "expected images have no file"), (found.surplus, "images are unlabelled")):
        if names:
            say(f"left out, as data.max_missing allows: {len(names)} {what}: {some(names)}")
    for what, count in found.remarks.items():
        say(f"noticed: {count} {what}")
    sizes = found.table["split"].value_counts(sort=False).to_dict()
    say(f"images: {sizes}; {found.task}: {some(found.labels, 15)}")
    return found


def check(config: Config, data: Path) -> dict[str, Any]:
    """Raw folder -> what is in it and what is odd about it; looks at every image and writes nothing."""
    return checking.check(find_competition(config.competition, config).read(data, config), data, config.image.dicom)


def build_records(config: Config, table: Examples, data: Path, out: Path, workers: int | None = None) -> Records:
    """Example table and raw folder -> TFRecord shards by cell, with a manifest; the one that decodes raw files."""
    return build.build_records(config.competition, table, data, out, config.image, config.data, workers)


def start_run(config: Config, records: Records, run: Path) -> list[list[int]]:
    """Lay down what a run is made of: `config.yaml`, `examples.parquet`, `folds.json`; returns each fold's cells."""
    if records.competition != config.competition:
        raise DataError(f"{records.directory} holds records of {records.competition!r}, not of {config.competition!r}")
    _refuse_other_run(config, run)
    folds = split_folds(records.cells, config.folds, config.split_seed)
    config = config.model_copy(update={"image": records.image})  # what was built is what is trained on
    files.write_text(run / "config.yaml", dump_config(config))
    files.write_parquet(run / "examples.parquet", records.table)
    split = {"records": records.fingerprint, "task": records.task, "cells": records.cells, "folds": folds}
    files.write_json(run / "folds.json", split)
    for k in range(len(folds), records.cells):  # left by a split into more folds
        shutil.rmtree(run / f"fold{k}", ignore_errors=True)
    return folds


def train(
    config: Config, records: Records, run: Path, only: Sequence[int] | None = None, deadline: float | None = None
) -> bool:
    """Fit each fold, always a fresh model, into `fold<k>/`; False when the deadline came before the last was done."""
    folds = start_run(config, records, run)
    competition = find_competition(config.competition, config)
    wanted = list(range(len(folds)) if only is None else only)
    if unknown := set(wanted) - set(range(len(folds))):
        raise ConfigError(f"there is no fold {min(unknown)}: folds are 0 to {len(folds) - 1}")
    for n, k in enumerate(wanted, 1):
        this = fold.Fold(config, records, folds, k, run / f"fold{k}")
        if not fold.train(this, competition.metric, competition.direction, deadline, say, len(wanted) - n):
            return False
    return True


def predict(run: Path, records: Records, tta: str | None = None) -> None:
    """Score each training image with the one model that has not seen it, and the test images with all: parquet.

    Of a run that was stopped, the folds that are trained are taken. Raises DataError when none is.
    """
    config, cells = read_config(run), files.read_json(run / "folds.json")["folds"]
    folds = [fold.Fold(config, records, cells, k, run / f"fold{k}") for k in range(len(cells))]
    trained = [this for this in folds if this.is_trained()]
    if not trained:
        raise DataError(f"{run} has no fold trained yet (with its settings, on these records): run `kit train` first")
    if len(trained) < len(folds):
        say(f"only {len(trained)} of {len(folds)} folds are trained: predictions are theirs alone")
    stamps = {str(this.k): fold.predict(this, tta or config.predict.tta) for this in trained}
    if not files.is_done(run / "predicted.json", {"folds": stamps}):
        files.mark_done(run / "predicted.json", {"folds": stamps}, store.merge(run, [this.k for this in trained]))


def run(
    competition: str,
    data: Path | str | None = None,
    run: Path | str | None = None,
    records: Path | str | None = None,
    settings: Iterable[str] = (),
    max_hours: float | None = None,
) -> Path | None:
    """All stages in order, skipping what is done; returns the path of `submission.csv`, or None when time ran out.

    Without test images there is none, and it returns that of `oof.parquet`. `settings` are `a.b=value` strings;
    `records` is where records are built (default: beside the run; on Kaggle and Colab, which would keep them, a scratch
    folder), unless they are there or mounted. When time runs out (`max_hours`, by default what the host leaves this
    session), the folds that are trained are predicted, scored and submitted.
    """
    deadline = host.deadline(max_hours)
    config = load_config(competition, settings)
    known = find_competition(config.competition, config)
    folder = Path(run) if run else Path("runs", known.name, "run")
    data = raw_folder(known, Path(data) if data else None, folder.parent / "data")
    if before := host.adopt_output(folder):
        say(f"goes on from {before}, an earlier session's output")
    _refuse_other_run(config, folder)
    with _timed("examples, records"):
        table = examples(config, data)
        if not (folder / "oof.parquet").exists():  # hours may lie ahead: can that model be built?
            with quiet("kit.models"):  # the folds report their weights
                fold.build_model(config, config.image, table.labels, table.task)
        wanted = plan_fingerprint(known.name, table, config.image, config.data)
        beside = (host.scratch() or folder.parent) / "records" / wanted[:12]
        where = mounted_records(wanted) or (Path(records) if records else beside)
        built = build_records(config, table, data, where)
        if built.rejected:
            say(f"left out, unreadable: {len(built.rejected)} images (reasons: {built.directory / 'manifest.json'})")
    with _timed("train"):
        finished = train(config, built, folder, deadline=deadline)
    if not finished and not list(folder.glob("fold*/done.json")):
        return None
    with _timed("predict"):
        predict(folder, built)
    with _timed("score, submission"):
        score(folder)
        made = folder / ("submission.csv" if (built.table["split"] == "test").any() else "oof.parquet")
        if made.suffix == ".csv":
            write_submission(folder, data / known.sample if known.sample and known.columns else None, made)
    return made if finished else None


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    say(f"{stage}: {time.monotonic() - started:.1f} s")


def _refuse_other_run(config: Config, run: Path) -> None:
    if (run / "config.yaml").exists() and (before := read_config(run).competition) != config.competition:
        raise DataError(f"{run} is a run of {before!r}, not of {config.competition!r}: give another --run")

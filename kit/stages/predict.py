"""Trained folds -> predictions: out of fold and of the test set, or of new images."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kit import files
from kit.data.pixels.remarks import counted
from kit.data.records.batches import eval_batches
from kit.data.records.manifest import Records
from kit.data.table.listing import found_in, is_junk, list_folder
from kit.data.table.masks import are_masks
from kit.errors import DataError, TrainingError, remarked, some
from kit.predict.merging import merge_oof, merge_test
from kit.predict.predict import predict as predict_batches
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.runtime import devices
from kit.stages.clusters import leave_out_clusters
from kit.stages.current import changed_settings, inputs_of_predictions, stamps_of_predictions
from kit.stages.fold import Fold, fitted_part, folds_of, metadata_digest
from kit.stages.head import predict_head
from kit.tables import fault_of_values
from kit.tasks import find_task

log = logging.getLogger(__name__)


def predict(
    run: Run, records: Records, views: str | None = None, settings: Iterable[str] = (), trust: bool | str = False
) -> None:
    """Score each training image with the one model that has not seen it, and the test images with all.

    Where the models are heads, also each cluster of images that look alike with a head that has seen none of it.

    `settings` are `predict.*=value`; they and `views` are kept in the run. Of a run that was stopped, the folds that
    are trained are taken. Raises DataError when none is, when one is damaged, and when there are predictions of more
    folds already; ConfigError for a network that is built from something outside the run, unless `trust` allows all of
    them, or the one of that name.
    """
    settings = [*settings, *([f"predict.tta={views}"] if views else [])]
    with run.locked():
        before = run.config
        config = changed_settings(before, settings, "predict", "kit predict")
        folds = folds_of(run, config, records)
        trained = [fold for fold in folds if fold.is_trained()]
        _refuse_fewer(run, folds, trained)
        if len(trained) < len(folds):
            log.info(f"only {len(trained)} of {len(folds)} folds are trained: predictions are theirs alone")
        if config != before:  # the decision must name the views that predictions were made with
            run.write_config(config)
        stamps = {str(fold.k): _predict_fold(fold, trust) for fold in trained}
        if not files.is_done(run.predicted_done, {"folds": stamps}):
            oof = merge_oof({fold.k: files.read_parquet(fold.files.oof) for fold in trained})
            test = merge_test({fold.k: files.read_parquet(fold.files.test) for fold in trained})
            files.write_parquet(run.oof_path, oof)
            files.write_parquet(run.test_path, test)
            files.mark_done(run.predicted_done, {"folds": stamps}, [run.oof_path, run.test_path])
        if trained == folds:
            leave_out_clusters(run, folds[0])


def _refuse_fewer(run: Run, folds: Sequence[Fold], trained: Sequence[Fold]) -> None:
    """Raise DataError when no fold is trained, or fewer than the run has predictions of."""
    if not trained:
        raise DataError(f"{run} has no fold trained yet (with its settings, on these records): run `kit train` first")
    if len(trained) == len(folds):
        return
    try:
        present = set(files.read_parquet(run.oof_path)["fold"].tolist())
    except (DataError, KeyError):  # there is none, or it is broken
        return
    for fold in folds:
        if fold.k in present and fold not in trained:
            why = "was trained with other settings or records" if fold.files.done.exists() else "is not there"
            raise DataError(
                f"{run.oof_path} has predictions of fold {fold.k}, whose model {why}: they would be lost. Restore "
                f"{fold.files.folder}, or continue training (`kit run`, `kit train`) first"
            )


def predict_images(
    run: Run, patterns: Sequence[str | Path], folds: Sequence[int] | None = None, trust: bool = False
) -> tuple[pd.DataFrame, dict[str, str]]:
    """New images -> their table (id, `p_*`, `decision`), and why others could not be read, by path.

    Each of `patterns` is a file, a folder (with all that is below it) or a glob. Raises DataError for one that matches
    nothing, and when no image could be read. `trust`: see `Predictor.open`.
    """
    paths = find_images(patterns)
    with counted() as remarks:
        table, unreadable = Predictor.open(run, folds, trust).predict_files(paths)
    for remark, count in sorted(remarks.items()):
        log.info(f"noticed: {remarked(count, remark)}")
    if table.empty:
        path, reason = next(iter(unreadable.items()))
        raise DataError(f"none of {len(paths)} images could be read; the first is {path}: {reason}")
    return table, unreadable


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """The image files that files, folders and globs name, each once; DataError for one that matches none.

    A file that is named itself is taken whatever it is: reading says what is wrong with it.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        path = files.expanded(pattern)
        if path.name.lower().endswith(files.ARCHIVES) and path.is_file():
            raise DataError(
                f"{files.escaped(str(pattern))} is an archive: unpack it, and give the folder that it becomes"
            )
        matches = [image for match in _matches(path) for image in (_images_in(match) if match.is_dir() else [match])]
        if not matches:
            what = f"holds no image; found {found_in(path)}" if path.is_dir() else "matches no file"
            raise DataError(f"{files.escaped(str(pattern))} {what}")
        paths.update(dict.fromkeys(matches))
    return list(paths)


def _images_in(folder: Path) -> list[Path]:
    listing = list_folder(folder)
    for remark, count in listing.remarks().items():
        log.info(f"noticed in {files.escaped(str(folder))}: {remarked(count, remark)}")
    paths = listing.images["path"]
    masks = [] if paths.empty else paths[are_masks(paths)].tolist()
    if masks:
        what = remarked(len(masks), f"masks, left out ({some(masks, 1)})")
        log.info(f"noticed in {files.escaped(str(folder))}: {what}")
    return [files.below(folder, name) for name in paths if name not in {*masks}]


def _matches(pattern: Path) -> list[Path]:
    """What a path or a glob names, sorted; of a glob without what systems leave behind."""
    if os.path.lexists(pattern):
        return [pattern]
    parts = pattern.parts
    first = next((n for n, part in enumerate(parts) if any(mark in part for mark in "*?[")), None)
    if first is None:
        return []
    try:
        paths = sorted(Path(*parts[:first]).glob(str(Path(*parts[first:]))))
    except ValueError as error:  # such as **.png
        raise DataError(f"{pattern} is not a pattern of paths: {error}") from error
    return [path for path in paths if not any(map(is_junk, path.parts[first:]))]


def _predict_fold(fold: Fold, trust: bool | str) -> dict[str, Any]:
    """Write the fold's predictions, unless that is done; returns the stamps of what is there.

    Where only the test set has changed, only its predictions are renewed.
    """
    model = inputs_of_predictions(fold.files, fold.config.predict, fold.records.task)
    parts = {
        fold.files.oof: (fold.files.oof_done, model, fold.valid),
        fold.files.test: (fold.files.test_done, {**model, **_test_set(fold)}, None),
    }
    open_model = _once(lambda: _load(fold, trust))
    for path, (stamp, inputs, cells) in parts.items():
        if not files.is_done(stamp, inputs):
            table = _PREDICTIONS[fitted_part(fold.config)](fold, open_model(), cells)
            if fault := fault_of_values(table, fold.records.labels, find_task(fold.records.task)):
                what = find_task(fold.records.task).prediction
                raise TrainingError(f"{fold.title} predicts no {what}: {fault}. Train it again in another --run")
            files.write_parquet(path, table)
            files.mark_done(stamp, inputs, [path])
    return {stamp.name: files.read_json(stamp) for stamp in stamps_of_predictions(fold.files)}


def _test_set(fold: Fold) -> dict[str, Any]:
    """What identifies the test images, with what the model is told of them."""
    digest = metadata_digest(fold.config, fold.records, "test")
    return {"test": fold.records.fingerprints.test, **({"metadata": digest} if digest else {})}


def _from_images(fold: Fold, model: Any, cells: list[int] | None) -> pd.DataFrame:
    size = devices.set_up(fold.config.runtime).eval_batch(fold.config.predict.batch_size)
    batches = eval_batches(fold.records, cells, size)
    return predict_batches(model, batches, fold.records, fold.config.predict)


def _from_features(fold: Fold, model: Any, cells: list[int] | None) -> pd.DataFrame:
    """From the features that are kept, which are of the images as they are."""
    whole = fold.config.predict.tta != "none"
    return _from_images(fold, model, cells) if whole else predict_head(fold, model, cells)


_PREDICTIONS = {"network": _from_images, "head": _from_features}


def _load(fold: Fold, trust: bool | str) -> Any:
    devices.set_up(fold.config.runtime)
    from kit.models import saved

    return saved.load_model(fold.files.folder, trust)


def _once(load: Callable[[], Any]) -> Callable[[], Any]:
    """`load`, called at the first use only."""
    values: list[Any] = []

    def value() -> Any:
        if not values:
            values.append(load())
        return values[0]

    return value

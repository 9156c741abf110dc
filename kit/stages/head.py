"""A fold whose model is a head on frozen features: fitted, and predicted with, from features that are kept."""

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit import files
from kit.data.table.cells import assign_cells
from kit.data.table.leaks import assert_no_leak
from kit.evaluate.metrics import Metric, monitor_of
from kit.evaluate.validation import epoch_values
from kit.run import Run
from kit.runtime import devices
from kit.runtime.devices import Device
from kit.stages.features import OutOfTime, Source, features_of, sources
from kit.stages.fold import Fold, fold_seed, refuse_leaking_weights
from kit.stages.model import build_frozen
from kit.tables import truth, with_probabilities

if TYPE_CHECKING:
    import keras

    from kit.models.boosted import Boosted, BoostedModel
    from kit.train.heads import Rows

log = logging.getLogger(__name__)
_INNER = 5  # folds among the training rows of a fold, by which its head is chosen
_ROWS = 8192  # predicted at a time


def fit_head(
    fold: Fold,
    metric: Metric,
    deadline: float | None,
    folds_after: int,
    callbacks: Sequence["keras.callbacks.Callback"],
) -> bool:
    """Fit the fold's head and save the whole model; False when the deadline came before all features were computed.

    It takes seconds, so there is no state to resume from but the features.
    """
    config, records = fold.config, fold.records
    device = devices.set_up(config.runtime)
    from kit.models import frozen, saved
    from kit.train.heads import HEADS

    valid = records.rows(fold.valid)
    assert_no_leak(records.rows(fold.train), valid)
    refuse_leaking_weights(fold)
    run = Run(fold.files.folder.parent)
    files.write_json(run.environment_path, devices.environment(device))
    model, spec = build_frozen(config, records.image, records.labels, records.task)
    every = sources(model, spec, records, run.directory)
    try:
        ids, features = _features(fold, every, device, deadline)
    except OutOfTime:
        return False
    started, seed = time.monotonic(), fold_seed(config.seed, fold.k)
    devices.set_seed(seed)
    head, name = frozen.head_of(model), spec.get("head", frozen.HEAD)
    chosen = HEADS[name](head, _rows(fold, ids, features), records.task, seed, spec)
    p = predicted(head, features[pd.Index(ids).get_indexer(pd.Index(valid["id"]))], chosen.trees, valid)
    table = with_probabilities(valid[["id"]].reset_index(drop=True), p, records.labels)
    values = epoch_values(table, valid, records.labels, records.task, metric)
    fold.files.done.unlink(missing_ok=True)  # of the model that is replaced now
    with files.replacing(fold.files.history) as part:
        pd.DataFrame([values]).rename_axis("epoch").to_csv(part)
    saved.save_model(model, spec, fold.files.folder, chosen.trees)
    monitor = monitor_of(metric).name
    log.info(
        f"{fold.title}  {name} head on {features.shape[1]:,} features: val_{monitor} {values[f'val_{monitor}']:.4f}  "
        f"({chosen.words}; {time.monotonic() - started:.0f} s)"
    )
    return True


def predict_head(fold: Fold, model: "keras.Model | BoostedModel", cells: list[int] | None) -> pd.DataFrame:
    """Columns id and `p_*`: the head's predictions for some training cells, or the test set (None)."""
    device = devices.set_up(fold.config.runtime)
    from kit.models import frozen, saved
    from kit.models.boosted import BoostedModel

    build = saved.read_build(fold.files.folder).model_dump()
    network, trees = (model.network, model.trees) if isinstance(model, BoostedModel) else (model, None)
    every = sources(network, build, fold.records, fold.files.folder.parent)
    ids, features = features_of(every, fold.records, cells, fold.config.predict.batch_size, device)
    p = predicted(frozen.head_of(network), features, trees, fold.records.rows(cells))
    return with_probabilities(pd.DataFrame({"id": pd.Series(ids, dtype=object)}), p, fold.records.labels)


def _features(
    fold: Fold, every: Sequence[Source], device: Device, deadline: float | None
) -> tuple[list[str], np.ndarray]:
    """Ids and features of all training images, and of the test images where some are trained on with pseudo-labels."""
    size = fold.config.predict.batch_size
    cells: list[list[int] | None] = [[*range(fold.records.cells)], *([None] if fold.added else [])]
    parts = [features_of(every, fold.records, part, size, device, deadline) for part in cells]
    return [name for ids, _ in parts for name in ids], np.concatenate([features for _, features in parts])


def _rows(fold: Fold, ids: list[str], features: np.ndarray) -> "Rows":
    examples = fold.records.rows(fold.train)
    place = pd.Index(ids).get_indexer(pd.Index(examples["id"]))
    return rows_to_fit(features[place], examples, fold.records.labels)


def rows_to_fit(features: np.ndarray, examples: pd.DataFrame, labels: Sequence[str]) -> "Rows":
    """What a head is fitted on: features [n, d] of example rows, with inner folds that share no group."""
    from kit.train.heads import Rows

    inner = assign_cells(examples).to_numpy() % _INNER
    return Rows(features, truth(examples, labels).astype(np.float32), inner, examples)


def predicted(head: "keras.Model", features: np.ndarray, trees: "Boosted | None", examples: pd.DataFrame) -> np.ndarray:
    """Probabilities float32 [n, L]; where the head is corrected by trees, these see the rows of the example table."""
    import keras

    starts = range(0, len(features), _ROWS)
    parts = [keras.ops.convert_to_numpy(head(features[n : n + _ROWS], training=False)) for n in starts]
    p = np.concatenate(parts) if parts else np.empty((0, head.output_shape[-1]), np.float32)
    return trees.probabilities(p, examples) if trees and len(p) else p

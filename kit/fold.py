"""One fold, where the rooms meet: records give batches, the registry a fresh model; it is fitted and scored.

Keras is imported inside the functions: a fold that is done is seen to be done without it.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kit import files
from kit.config import Config, ImageSettings
from kit.data.batches import eval_batches, steps_per_epoch, train_batches
from kit.data.cells import assert_no_leak
from kit.data.records import Records, image_shape
from kit.errors import DataError
from kit.evaluate import metrics
from kit.predict.predict import predict as predictions
from kit.runtime import devices

if TYPE_CHECKING:
    import keras

OUTPUTS = ("model.json", "model.weights.h5", "history.csv")  # what a trained fold consists of

# task -> (last activation, loss)
_OUTPUTS = {
    "binary": ("sigmoid", "binary_crossentropy"),
    "multilabel": ("sigmoid", "binary_crossentropy"),
    "multiclass": ("softmax", "categorical_crossentropy"),
}


def build_model(
    config: Config, image: ImageSettings, labels: Sequence[str], task: str
) -> tuple["keras.Model", dict[str, Any]]:
    """A fresh model for such images and labels, and what the registry builds it from (to be saved with it).

    Raises ConfigError for a model that does not exist or cannot be built.
    """
    devices.set_up(config.runtime)
    from kit.models import registry

    spec = {
        **config.model.arguments,
        "name": config.model.name,
        "shape": image_shape(image),
        "outputs": len(labels),
        "activation": _OUTPUTS[task][0],
        "weights": config.model.weights,
    }
    return registry.build(**spec), spec


def train(
    config: Config,
    records: Records,
    metric: str,
    folds: list[list[int]],
    k: int,
    folder: Path,
    deadline: float | None,
    write: Callable[[str], None],
) -> bool:
    """Fit the model of fold `k` and leave it in `folder` with its history, unless that is done.

    Returns False when the deadline (seconds of `time.monotonic()`) came first; what is trained is kept in `state/`.
    """
    inputs = _inputs(config, records, folds, k)
    if not files.is_done(folder / "done.json", inputs):
        _drop_state_of_other(inputs, folder / "state")
        if not _fit(config, records, metric, folds, k, folder, deadline, write):
            return False
        files.mark_done(folder / "done.json", inputs, [folder / name for name in OUTPUTS])
    shutil.rmtree(folder / "state", ignore_errors=True)
    return True


def predict(
    config: Config, records: Records, folds: list[list[int]], k: int, folder: Path, view: str
) -> dict[str, Any]:
    """Write the out-of-fold and test predictions of fold `k`, unless that is done; returns the stamp of what is there.

    Raises DataError when the fold has no model trained with these settings on these records.
    """
    if not files.is_done(folder / "done.json", _inputs(config, records, folds, k)):
        raise DataError(f"{folder} is not trained yet (with these settings, on these records): run `kit train` first")
    stamp, inputs = folder / "predicted.json", {"model": files.read_json(folder / "done.json"), "tta": view}
    if not files.is_done(stamp, inputs):
        devices.set_up(config.runtime)
        from kit.models import saved

        model, parts = saved.load_model(folder), {"oof": folds[k], "test": None}
        for part, cells in parts.items():
            table = predictions(model, eval_batches(records, cells, config.predict.batch_size), records.labels, view)
            files.write_parquet(folder / f"{part}.parquet", table)
        files.mark_done(stamp, inputs, [folder / f"{part}.parquet" for part in parts])
    return files.read_json(stamp)


def _fit(
    config: Config,
    records: Records,
    metric: str,
    folds: list[list[int]],
    k: int,
    folder: Path,
    deadline: float | None,
    write: Callable[[str], None],
) -> bool:
    device = devices.set_up(config.runtime)
    import keras

    from kit.models import saved
    from kit.train.fit import fit

    valid = folds[k]
    cells = sorted(cell for other, held in enumerate(folds) if other != k for cell in held)
    assert_no_leak(records.rows(cells), records.rows(valid))
    files.write_json(folder.parent / "environment.json", devices.environment(device))
    keras.utils.clear_session()
    seed = int(np.random.SeedSequence([config.seed, k]).generate_state(1)[0] % 2**31)
    devices.set_seed(seed)
    model, spec = build_model(config, records.image, records.labels, records.task)

    def validate() -> dict[str, float]:
        table = predictions(model, eval_batches(records, valid, config.predict.batch_size), records.labels)
        y, p = table.filter(regex="^y_").to_numpy(), table.filter(regex="^p_").to_numpy()
        return {"val_loss": metrics.log_loss(y, p), f"val_{metric}": metrics.METRICS[metric](y, p)}

    started = time.monotonic()
    fitted = fit(
        model,
        lambda epoch: train_batches(records, cells, config.train.batch_size, seed, epoch),
        steps_per_epoch(records, cells, config.train.batch_size),
        validate,
        monitor=f"val_{metric}",
        loss=_OUTPUTS[records.task][1],
        train=config.train,
        augment=config.augment,
        seed=seed,
        state=folder / "state",
        jit_compile=device.jit_compile,
        deadline=deadline,
        title=f"fold {k + 1}/{len(folds)}",
        write=write,
    )
    if not fitted.finished:
        return False
    history = pd.DataFrame(fitted.history)
    with files.replacing(folder / "history.csv") as part:
        history.rename_axis("epoch").to_csv(part)
    saved.save_model(model, spec, folder)
    best = int(history[f"val_{metric}"].argmax())
    write(
        f"fold {k + 1}/{len(folds)}  best epoch {best + 1}: val_{metric} {history[f'val_{metric}'][best]:.4f}  "
        f"({len(history)} epochs; {time.monotonic() - started:.0f} s in this session)"
    )
    return True


def _inputs(config: Config, records: Records, folds: list[list[int]], k: int) -> dict[str, Any]:
    """All that a fold's model depends on; a change of anything else does not train it again."""
    chosen = config.model_dump(include={"seed", "model", "augment", "train"})
    precision = config.runtime.precision
    return {"records": records.fingerprint, "folds": folds, "fold": k, "precision": precision, **chosen}


def _drop_state_of_other(inputs: dict[str, Any], state: Path) -> None:
    """Make `state` a folder for training on `inputs`: what is there of other inputs is dropped."""
    wanted = files.fingerprint(inputs)
    if (state / "inputs.json").exists() and files.read_json(state / "inputs.json") == wanted:
        return
    shutil.rmtree(state, ignore_errors=True)
    files.write_json(state / "inputs.json", wanted)

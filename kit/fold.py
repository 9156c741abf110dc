"""One fold, where the rooms meet: records give batches, the registry a fresh model; `train` fits, `predict` scores.

The only module above the rooms that needs Keras; `pipeline` imports it once there is something to fit or to score.
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
from kit.evaluate import metrics
from kit.predict.predict import predict
from kit.runtime import devices

if TYPE_CHECKING:
    import keras

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


def train_fold(
    config: Config,
    records: Records,
    metric: str,
    folds: list[list[int]],
    fold: int,
    folder: Path,
    deadline: float | None,
    write: Callable[[str], None],
) -> bool:
    """Fit the model of one fold and leave it in `folder` with its history; False when the deadline came first."""
    device = devices.set_up(config.runtime)
    import keras

    from kit.models import saved
    from kit.train.fit import fit

    valid = folds[fold]
    cells = sorted(cell for k, others in enumerate(folds) if k != fold for cell in others)
    assert_no_leak(records.rows(cells), records.rows(valid))
    files.write_json(folder.parent / "environment.json", devices.environment(device))
    keras.utils.clear_session()
    seed = int(np.random.SeedSequence([config.seed, fold]).generate_state(1)[0] % 2**31)
    devices.set_seed(seed)
    model, spec = build_model(config, records.image, records.labels, records.task)

    def validate() -> dict[str, float]:
        table = predict(model, eval_batches(records, valid, config.predict.batch_size), records.labels)
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
        title=f"fold {fold + 1}/{len(folds)}",
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
        f"fold {fold + 1}/{len(folds)}  best epoch {best + 1}: val_{metric} {history[f'val_{metric}'][best]:.4f}  "
        f"({len(history)} epochs; {time.monotonic() - started:.0f} s in this session)"
    )
    return True


def outputs(folder: Path) -> list[Path]:
    """The files that a trained fold consists of."""
    return [folder / name for name in ("model.json", "model.weights.h5", "history.csv")]


def training_state(folder: Path, inputs: dict[str, Any]) -> None:
    """Make the folder's `state/` one for training on `inputs`: what is there for other inputs is dropped."""
    state, wanted = folder / "state", files.fingerprint(inputs)
    if (state / "inputs.json").exists() and files.read_json(state / "inputs.json") == wanted:
        return
    shutil.rmtree(state, ignore_errors=True)
    files.write_json(state / "inputs.json", wanted)


def predict_fold(
    config: Config, records: Records, folder: Path, parts: dict[str, list[int] | None], tta: str
) -> dict[str, pd.DataFrame]:
    """Predictions of a fold's saved model for each part: training cells, or the test set (None)."""
    devices.set_up(config.runtime)
    from kit.models import saved

    model = saved.load_model(folder)
    return {
        part: predict(model, eval_batches(records, cells, config.predict.batch_size), records.labels, tta)
        for part, cells in parts.items()
    }

"""One fold, where the rooms meet: records give batches, the registry a fresh model; it is fitted and scored.

Keras is imported inside the functions: a fold that is done is seen to be done without it.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from kit import files
from kit.config import Config, ImageSettings
from kit.data.records.batches import (
    Host,
    batch_ids,
    cache_bytes,
    eval_batches,
    naming_damage,
    shuffle_buffer,
    steps_per_epoch,
    train_batches,
)
from kit.data.records.manifest import Records
from kit.data.records.shards import image_shape
from kit.data.table.cells import assert_no_leak
from kit.data.table.examples import label_columns
from kit.data.table.pseudo import sure_labels, with_pseudo_labels
from kit.errors import ConfigError, DataError, LeakError, TrainingError
from kit.evaluate import metrics
from kit.predict.predict import predict as predictions
from kit.runtime import devices

if TYPE_CHECKING:
    import keras

Direction = Literal["max", "min"]  # which end of the metric is better
_ACTIVATION = {"binary": "sigmoid", "multilabel": "sigmoid", "multiclass": "softmax"}
_FILES = ("model.json", "model.weights.h5", "history.csv")  # what a trained fold consists of


@dataclass(frozen=True)
class Fold:
    """Fold `k` of a run: `cells` are the cells of every fold, `folder` is where this one's files lie.

    `added` are cells that it trains on besides: of pseudo-labels.
    """

    config: Config
    records: Records
    cells: list[list[int]]
    k: int
    folder: Path
    added: tuple[int, ...] = ()

    @property
    def valid(self) -> list[int]:
        """The cells that this fold's model never sees."""
        return self.cells[self.k]

    @property
    def train(self) -> list[int]:
        """The cells it is fitted on."""
        return [*sorted(cell for k, held in enumerate(self.cells) if k != self.k for cell in held), *self.added]

    @property
    def inputs(self) -> dict[str, Any]:
        """All that the model depends on; a change of anything else does not train it again."""
        chosen = self.config.model_dump(include={"seed", "model", "augment", "train"})
        precision = self.config.runtime.precision
        if self.config.pseudo.run:
            chosen |= {"pseudo": [self.config.pseudo.model_dump(exclude={"run"}), _pseudo_digest(self)]}
        return {
            "records": self.records.fingerprint,
            "folds": self.cells,
            "fold": self.k,
            "precision": precision,
            "input": self.config.input.model_dump(exclude={"cache"}),  # which only says where examples are kept
            **chosen,
        }

    def is_trained(self) -> bool:
        """Whether the folder holds the model for just these inputs."""
        return files.is_done(self.folder / "done.json", self.inputs)


def build_model(
    config: Config,
    image: ImageSettings,
    labels: Sequence[str],
    task: str,
    weights: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple["keras.Model", dict[str, Any]]:
    """A fresh model for such images and labels, and what the registry builds it from (to be saved with it).

    `weights` count instead of the config's; `say` hears what was loaded. Raises ConfigError for a model that does not
    exist or cannot be built.
    """
    if task not in _ACTIVATION:
        raise ConfigError(f"the kit has no model for {task} yet: choose another target")
    devices.set_up(config.runtime)
    from kit.models import registry

    spec = {
        **config.model.arguments,
        "name": config.model.name,
        "shape": image_shape(image),
        "outputs": len(labels),
        "activation": _ACTIVATION[task],
        "weights": weights or config.model.weights,
    }
    return registry.build(**spec, say=say), spec


def train(
    fold: Fold,
    metric: str,
    direction: Direction,
    deadline: float | None,
    write: Callable[[str], None],
    folds_after: int = 0,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> bool:
    """Fit the fold's model and leave it in its folder with its history, unless that is done.

    Returns False when the deadline (seconds of `time.monotonic()`) came first; what is trained is kept in `state/`.
    `folds_after` are still to come; `callbacks` see every epoch.
    """
    state = fold.folder / "state"
    if not fold.is_trained():
        if _drop_state_of_other(fold.inputs, state) or (fold.folder / "done.json").exists():
            write(f"fold {fold.k + 1}/{len(fold.cells)}  was trained with other settings, and is trained anew")
        shown = _with_pseudo_labels(fold, state, write)
        if not _fit(shown, metric, direction, state, deadline, write, folds_after, callbacks):
            return False
        if fold.config.pseudo.run:
            files.write_json(fold.folder / "pseudo.json", _pseudo_digest(fold))
        files.mark_done(fold.folder / "done.json", fold.inputs, [fold.folder / name for name in _FILES])
    shutil.rmtree(state, ignore_errors=True)
    return True


def predict(fold: Fold, view: str) -> dict[str, Any]:
    """Write the fold's out-of-fold and test predictions, unless that is done; returns the stamp of what is there.

    Raises DataError when the fold has no model trained with these settings on these records.
    """
    config, records, folder = fold.config, fold.records, fold.folder
    if not fold.is_trained():
        raise DataError(f"{folder} is not trained yet (with these settings, on these records): run `kit train` first")
    stamp, inputs = folder / "predicted.json", {"model": files.read_json(folder / "done.json"), "tta": view}
    if not files.is_done(stamp, inputs):
        devices.set_up(config.runtime)
        from kit.models import saved

        model, parts = saved.load_model(folder), {"oof": fold.valid, "test": None}
        for part, cells in parts.items():
            table = predictions(model, eval_batches(records, cells, config.predict.batch_size), records.labels, view)
            files.write_parquet(folder / f"{part}.parquet", table)
        files.mark_done(stamp, inputs, [folder / f"{part}.parquet" for part in parts])
    return files.read_json(stamp)


def _fit(
    fold: Fold,
    metric: str,
    direction: Direction,
    state: Path,
    deadline: float | None,
    write: Callable[[str], None],
    folds_after: int,
    callbacks: Sequence["keras.callbacks.Callback"],
) -> bool:
    config, records, title = fold.config, fold.records, f"fold {fold.k + 1}/{len(fold.cells)}"
    device = devices.set_up(config.runtime)
    import keras

    from kit.models import saved
    from kit.train.fit import Reporting, fit
    from kit.train.trackers import open_trackers

    rows = records.rows(fold.train)
    assert_no_leak(rows, records.rows(fold.valid))
    _refuse_leaking_weights(fold)
    _check_shares(config, device)
    _check_hosts(state, device)
    files.write_json(fold.folder.parent / "environment.json", devices.environment(device))
    keras.utils.clear_session()
    seed = int(np.random.SeedSequence([config.seed, fold.k]).generate_state(1)[0] % 2**31)
    devices.set_seed(seed)
    with device.scope():
        model, spec = build_model(
            config, records.image, records.labels, records.task, say=lambda line: write(f"{title}  {line}")
        )
    devices.synchronize_batch_norm(model, device)
    scored = _to_score(model, config, records, device)
    eval_size = -(-config.predict.batch_size // device.count) * device.count

    def validate() -> dict[str, float]:
        with devices.alone(device):
            if scored is not model:
                scored.set_weights(model.get_weights())
            table = predictions(scored, eval_batches(records, fold.valid, eval_size), records.labels)
        y, p = table.filter(regex="^y_").to_numpy(), table.filter(regex="^p_").to_numpy()
        return {"val_loss": metrics.log_loss(y, p), f"val_{metric}": metrics.METRICS[metric](y, p)}

    if config.input.cache != "none":
        size = cache_bytes(records, fold.train, config.input.cache)
        write(f"{title}  keeps its {config.input.cache} images in memory: {size / 2**30:.2f} GiB")
    trackers = open_trackers(
        config.runtime.trackers, f"kit-{config.competition}", f"{fold.folder.parent.name} {title}", fold.folder
    )
    started = time.monotonic()
    with naming_damage(records):
        fitted = fit(
            model,
            feed(fold, seed, _shuffle_buffer(fold, state, device), device),
            validate,
            monitor=f"val_{metric}",
            larger_is_better=direction == "max",
            task=records.task,
            train=config.train,
            augment=config.augment,
            seed=seed,
            state=state,
            jit_compile=device.jit_compile,
            steps_per_execution=device.steps_per_execution,
            scope=device.scope,
            most_parts=_most_parts(config, device),
            deadline=deadline,
            agree=lambda stop: any(devices.on_all_hosts(device, int(stop))),
            reporting=Reporting(title, folds_after, trackers),
            callbacks=callbacks,
        )
    if not fitted.finished:
        return False
    history = pd.DataFrame(fitted.history)
    with files.replacing(fold.folder / "history.csv") as part:
        history.rename_axis("epoch").to_csv(part)
    saved.save_model(model, spec, fold.folder)
    values = history[f"val_{metric}"].to_numpy()
    took = f"({len(history)} epochs; {time.monotonic() - started:.0f} s in this session)"
    if np.isnan(values).all():
        write(f"{title}  {metric} is not defined on this fold (a class does not occur in it): epoch 1 is kept  {took}")
        return True
    best = int(np.nanargmax(values) if direction == "max" else np.nanargmin(values))
    write(f"{title}  best epoch {best + 1}: val_{metric} {values[best]:.4f}  {took}")
    return True


def feed(fold: Fold, seed: int, buffer: int, device: devices.Device) -> Any:
    """The fold's training batches as `kit.train.fit` takes them; of several hosts, this one's share."""
    from kit.train.fit import Feed

    records, cells, options = fold.records, fold.train, fold.config.input
    size, host = fold.config.train.batch_size, Host(device.host, device.hosts)

    def batches(epoch: int, parts: int) -> Any:
        return train_batches(records, cells, size, seed, epoch, buffer=buffer, options=options, host=host, parts=parts)

    def ids(epoch: int, step: int, parts: int) -> list[str]:
        return batch_ids(records, cells, size, seed, epoch, step, buffer=buffer, options=options, parts=parts)

    labels = records.rows(cells)[label_columns(records.table)].to_numpy(np.float32)
    return Feed(batches, steps_per_epoch(records, cells, size), labels, ids)


def _to_score(model: "keras.Model", config: Config, records: Records, device: devices.Device) -> "keras.Model":
    """The model that validation runs: itself, or a copy on one device where the model's own are not this host's alone.

    (A mirrored model would score every row once per copy.)
    """
    if not device.mirrored and device.hosts == 1:
        return model
    with devices.alone(device):
        return build_model(config, records.image, records.labels, records.task, "none")[0]


def _most_parts(config: Config, device: devices.Device) -> int:
    """Into how many parts a batch may be cut that does not fit in memory: 2, where that can be."""
    even = config.train.batch_size % (2 * config.train.accumulate * device.count) == 0
    return 2 if even and not device.mirrored else 1


def _check_shares(config: Config, device: devices.Device) -> None:
    """Raise ConfigError when the devices cannot share a batch evenly, or not as the config wants it."""
    size, parts = config.train.batch_size, config.train.accumulate
    if size % (device.count * parts):
        wanted = device.count * parts
        raise ConfigError(
            f"train.batch_size = {size} does not split evenly over {device.count} devices, {parts} parts each: make it "
            f"a multiple of {wanted}, such as {max(1, size // wanted) * wanted}"
        )
    if device.mirrored and parts > 1:
        raise ConfigError("train.accumulate does not work on several devices under TensorFlow: set runtime.backend=jax")
    clipping = {"clipnorm", "clipvalue", "global_clipnorm"} & set(config.train.optimizer_arguments)
    if device.mirrored and (config.train.clip_norm or clipping):
        raise ConfigError(
            "clipping of gradients (train.clip_norm) would be done on each device's part by itself under TensorFlow: "
            "set runtime.backend=jax, or runtime.devices=1"
        )


def _refuse_leaking_weights(fold: Fold) -> None:
    """Raise LeakError when `model.weights = run:...` is a model that was fitted on what this fold is validated on."""
    source = fold.config.model.weights or ""
    if not source.startswith("run:"):
        return
    from kit.models.weights import trained_fold

    folder = trained_fold(source)
    examples, folds = folder.parent / "examples.parquet", folder.parent / "folds.json"
    if not (examples.is_file() and folds.is_file()):
        return  # not a run, but a model alone
    known, k = pd.read_parquet(examples), int(folder.name.removeprefix("fold") or 0)
    held = files.read_json(folds)["folds"][k]
    seen = known[(known["split"] == "train") & ~known["cell"].isin(held)]
    rows = fold.records.rows(fold.valid)
    shared = set(rows["id"]) & set(seen["id"]) or set(rows["group"]) & set(seen["group"])
    if shared:
        raise LeakError(
            f"model.weights = {source} was fitted on {len(shared)} of the images or patients that fold {fold.k} is "
            f"validated on, such as {min(shared)}: its score would mean nothing"
        )


def _pseudo_digest(fold: Fold) -> str:
    """SHA-256 of the predictions that pseudo-labels come from, or came from: a trained fold needs them no more."""
    path, kept = Path(fold.config.pseudo.run or "") / f"fold{fold.k}" / "test.parquet", fold.folder / "pseudo.json"
    if not path.is_file() and kept.exists():
        return str(files.read_json(kept))
    return files.sha256_of(_pseudo_source(fold))


def _pseudo_source(fold: Fold) -> Path:
    """The predictions that pseudo-labels come from; raises ConfigError when that run has none for these very folds."""
    run = Path(fold.config.pseudo.run or "")
    path, folds = run / f"fold{fold.k}" / "test.parquet", run / "folds.json"
    if not path.is_file():
        raise ConfigError(f"pseudo.run = {run}: there is no {path}; `kit run` or `kit predict` makes it")
    split = files.read_json(folds)
    if (split["records"], split["folds"]) != (fold.records.fingerprint, fold.cells):
        raise ConfigError(
            f"pseudo.run = {run} has other folds or records, so its models have seen what this run validates on: give "
            "a run of the same records, folds and fold_seed"
        )
    return path


def _with_pseudo_labels(fold: Fold, state: Path, write: Callable[[str], None]) -> Fold:
    """The fold with a further training cell, where the config asks for pseudo-labels."""
    settings = fold.config.pseudo
    if not settings.run:
        return fold
    records = fold.records
    labels = sure_labels(pd.read_parquet(_pseudo_source(fold)), records.task, settings.above, settings.below)
    test = records.rows(None)
    held = set(records.rows(fold.valid)["group"])  # a patient of both sets must not come in by this door
    labels = labels[labels["id"].isin(test["id"][~test["group"].isin(held)])].reset_index(drop=True)
    write(f"fold {fold.k + 1}/{len(fold.cells)}  {len(labels)} of {len(test)} test images join with pseudo-labels")
    if labels.empty:
        return fold
    return replace(fold, records=with_pseudo_labels(records, labels, state / "pseudo.tfrecord"), added=(records.cells,))


def _shuffle_buffer(fold: Fold, state: Path, device: devices.Device) -> int:
    """How many examples are shuffled at a time: as memory, of the host with the least, allowed when training began."""
    path = state / "shuffle.json"
    buffer = int(files.read_json(path)) if path.exists() else shuffle_buffer(fold.records, fold.train)
    buffer = min(devices.on_all_hosts(device, buffer))
    files.write_json(path, buffer)
    return buffer


def _check_hosts(state: Path, device: devices.Device) -> None:
    """Raise TrainingError when hosts that were killed would go on from different epochs."""
    path = state / "state.json"
    epochs = devices.on_all_hosts(device, len(files.read_json(path)["history"]) if path.exists() else 0)
    if len(set(epochs)) > 1:
        raise TrainingError(
            f"the hosts stand at different epochs ({', '.join(map(str, epochs))}), as they were killed in between: "
            f"copy {state} from one of them to all the others, or delete it on all"
        )


def _drop_state_of_other(inputs: dict[str, Any], state: Path) -> bool:
    """Make `state` a folder for training on `inputs`; whether there was one of other inputs, which is dropped."""
    path, wanted = state / "inputs.json", files.fingerprint(inputs)
    if path.exists() and files.read_json(path) == wanted:
        return False
    before = path.exists()
    shutil.rmtree(state, ignore_errors=True)
    files.write_json(path, wanted)
    return before

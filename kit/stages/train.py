"""Records -> a trained model per fold. Keras is imported inside the functions: what is done is seen without it."""

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kit import files
from kit.competitions import find_competition
from kit.config import Config
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
from kit.data.records.manifest import VERSION, Records
from kit.data.records.pseudo import sure_labels, with_pseudo_labels
from kit.data.table.cells import split_folds
from kit.data.table.folds import check_dealt
from kit.data.table.leaks import assert_no_leak
from kit.errors import ConfigError, TrainingError, counted
from kit.evaluate.metrics import Metric, metric_of, monitor_of
from kit.evaluate.validation import epoch_values
from kit.models.frozen import metadata_columns
from kit.models.metadata import check_metadata
from kit.predict.predict import predict
from kit.run import FORMAT_VERSION, Run
from kit.runtime import devices
from kit.runtime.devices import Device
from kit.schemas import Folds
from kit.stages.features import OutOfTime
from kit.stages.fold import (
    Fold,
    fitted_part,
    fold_seed,
    least_rows,
    pseudo_digest,
    pseudo_predictions,
    refuse_leaking_weights,
    relabel_inputs,
)
from kit.stages.head import fit_head
from kit.stages.initial_head import start_linear
from kit.stages.model import build_model
from kit.stages.network import with_network
from kit.stages.relabel import relabelled
from kit.stages.resume import lost_folds, refuse_other_run, refuse_to_lose
from kit.tables import truth
from kit.tasks import find_task

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)
assert FORMAT_VERSION == VERSION  # what was trained on records of one format is not mixed with another's


def start_run(config: Config, records: Records, run: Run, retrain: bool = False) -> list[Fold]:
    """Write the settings, examples and folds of a run; returns its folds.

    Raises DataError for records of another competition, and for a directory that holds another run; ConfigError when a
    fold that is trained, or begun, would be trained again, unless `retrain` allows that. Then nothing is written.
    """
    records.require_competition(config.competition_name)
    refuse_other_run(config, run)
    config = with_network(config, run)
    config = config.model_copy(update={"image": records.image})  # what was built is what is trained on
    check_metadata(records.table, metadata_columns(config.model.arguments), records.labels)
    cells = split_folds(records.cells, config.folds, config.split_seed)
    check_dealt(records.rows([*range(records.cells)]), records.labels, cells, least_rows(config))
    folds = [Fold(config, records, cells, k, run.fold(k)) for k in range(len(cells))]
    split = Folds(
        format_version=FORMAT_VERSION,
        **records.fingerprints.model_dump(),
        task=records.task,
        labels=records.labels,
        cells=records.cells,
        folds=cells,
    )
    with run.locked():
        if not retrain:
            refuse_to_lose(config, folds, run)
        elif lost_folds(folds, run):
            run.forget_results()
        run.prepare(config, records.table, split)
    return folds


def train(
    config: Config,
    records: Records,
    run: Run,
    only: Sequence[int] | None = None,
    deadline: float | None = None,
    retrain: bool = False,
) -> bool:
    """Fit each fold, always a fresh model, into its folder; False when the deadline came before the last was done.

    Raises what `start_run` does.
    """
    count = len(split_folds(records.cells, config.folds, config.split_seed))
    chosen = list(range(count) if only is None else only)
    if unknown := set(chosen) - set(range(count)):
        raise ConfigError(f"there is no fold {min(unknown)}: folds are 0 to {count - 1}")
    with run.locked():
        folds = start_run(config, records, run, retrain)
        _warn_of_seen_images(config)
        _warn_of_random_weights(config)
        target, exclusive = find_competition(config.competition, config).target, find_task(records.task).exclusive
        metric = metric_of(target, config.evaluate, records.labels, exclusive)
        if fitted_part(config) == "head" and not all(folds[k].is_trained() for k in chosen):
            log.info("only a head is fitted, on features of a frozen backbone: augment, train and input play no part")
        return all(train_fold(folds[k], metric, deadline, len(chosen) - n) for n, k in enumerate(chosen, 1))


def train_fold(
    fold: Fold,
    metric: Metric,
    deadline: float | None,
    folds_after: int = 0,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> bool:
    """Fit the fold's model and leave it in its folder with its history, unless that is done.

    Returns False when the deadline (seconds of `time.monotonic()`) came first; what is trained is kept as its state.
    `folds_after` are still to come; `callbacks` see every epoch.
    """
    if not fold.is_trained():
        if _drop_state_of_other(fold) or fold.files.done.exists():
            log.info(f"{fold.title}  was trained with other settings: training it again")
        try:
            prepared = _with_pseudo_labels(relabelled(fold, deadline))
        except OutOfTime:
            return False
        if not FITS[fitted_part(fold.config)](prepared, metric, deadline, folds_after, callbacks):
            return False
        if fold.config.train.relabel.run:
            files.write_json(fold.files.relabel, relabel_inputs(fold.config, fold.files.relabel)[1])
        if fold.config.pseudo.run:
            files.write_json(fold.files.pseudo, pseudo_digest(fold))
        files.mark_done(fold.files.done, fold.inputs, [*fold.files.model, fold.files.history], keep_inputs=True)
    shutil.rmtree(fold.files.state.folder, ignore_errors=True)
    return True


def _fit(
    fold: Fold,
    metric: Metric,
    deadline: float | None,
    folds_after: int,
    callbacks: Sequence["keras.callbacks.Callback"],
) -> bool:
    config, records = fold.config, fold.records
    device = devices.set_up(config.runtime)
    import keras

    from kit.models import saved
    from kit.train.fit import Reporting, fit
    from kit.train.trackers import open_trackers

    valid = records.rows(fold.valid)
    assert_no_leak(records.rows(fold.train), valid)
    refuse_leaking_weights(fold)
    _check_shares(config, device)
    _check_hosts(fold, device)
    run = Run(fold.files.folder.parent)
    files.write_json(run.environment_path, devices.environment(device))
    keras.utils.clear_session()
    seed = fold_seed(config.seed, fold.k)
    devices.set_seed(seed)
    with device.scope():
        model, spec = build_model(config, records.image, records.labels, records.task)
    devices.synchronize_batch_norm(model, device)
    scored = _to_score(model, config, records, device)
    if config.train.initial_head == "linear" and not fold.files.state.state.exists():
        if scored is not model:
            scored.set_weights(model.get_weights())
        start_linear(model, scored, fold, device)
    eval_size = device.eval_batch(config.predict.batch_size)
    settings, monitor = config.predict.model_copy(update={"tta": "none"}), monitor_of(metric)

    def validate() -> dict[str, float]:
        with devices.alone(device):
            if scored is not model:
                scored.set_weights(model.get_weights())
            table = predict(scored, eval_batches(records, fold.valid, eval_size), records, settings)
        return epoch_values(table, valid, records.labels, records.task, metric)

    if config.input.cache != "none":
        size = cache_bytes(records, fold.train, config.input.cache)
        log.info(f"{fold.title}  keeps its {config.input.cache} images in memory: {size / 2**30:.2f} GiB")
    trackers = open_trackers(
        config.runtime.trackers, f"kit-{config.competition_name}", f"{run.name} {fold.title}", fold.files.folder
    )
    started = time.monotonic()
    with naming_damage(records):
        fitted = fit(
            model,
            feed(fold, seed, _shuffle_buffer(fold, device), device),
            validate,
            monitor=f"val_{monitor.name}",
            larger_is_better=monitor.larger_is_better,
            task=records.task,
            train=config.train,
            augment=config.augment,
            seed=seed,
            state=fold.files.state.folder,
            jit_compile=device.jit_compile,
            steps_per_execution=device.steps_per_execution,
            scope=device.scope,
            most_parts=_most_parts(config, device),
            deadline=deadline,
            agree=lambda stop: any(devices.on_all_hosts(device, int(stop))),
            reporting=Reporting(fold.title, folds_after, trackers),
            callbacks=callbacks,
        )
    if not fitted.finished:
        return False
    history = pd.DataFrame(fitted.history)
    fold.files.done.unlink(missing_ok=True)  # of the model that is replaced now
    with files.replacing(fold.files.history) as part:
        history.rename_axis("epoch").to_csv(part)
    saved.save_model(model, spec, fold.files.folder)
    values = history[f"val_{monitor.name}"].to_numpy()
    took = f"({counted(len(history), 'epoch')}; {time.monotonic() - started:.0f} s in this session)"
    if np.isnan(values).all():
        reason = f"{monitor.name} is not defined on this fold (a class does not occur in it)"
        log.info(f"{fold.title}  {reason}: epoch 1 is kept  {took}")
        return True
    best = int(np.nanargmax(values) if monitor.larger_is_better else np.nanargmin(values))
    log.info(f"{fold.title}  best epoch {best + 1}: val_{monitor.name} {values[best]:.4f}  {took}")
    return True


FITS = {"network": _fit, "head": fit_head}


def feed(fold: Fold, seed: int, buffer: int, device: Device) -> Any:
    """The fold's training batches as `kit.train.fit` takes them; of several hosts, this one's share."""
    from kit.train.fit import Feed

    records, cells, options = fold.records, fold.train, fold.config.input
    size, host = fold.config.train.batch_size, Host(device.host, device.hosts)

    def batches(epoch: int, parts: int) -> Any:
        return train_batches(records, cells, size, seed, epoch, buffer=buffer, options=options, host=host, parts=parts)

    def ids(epoch: int, step: int, parts: int) -> list[str]:
        return batch_ids(records, cells, size, seed, epoch, step, buffer=buffer, options=options, parts=parts)

    labels = truth(records.rows(cells), records.labels).astype(np.float32)
    return Feed(batches, steps_per_epoch(records, cells, size), labels, ids)


def _to_score(model: "keras.Model", config: Config, records: Records, device: Device) -> "keras.Model":
    """The model that validation runs: itself, or a copy on one device where the model's own are not this host's alone.

    (A mirrored model would score every row once per copy.)
    """
    if not device.mirrored and device.hosts == 1:
        return model
    with devices.alone(device):
        return build_model(config, records.image, records.labels, records.task, "none")[0]


def _most_parts(config: Config, device: Device) -> int:
    """Into how many parts a batch that does not fit in memory may be cut: 2, where the devices can share the halves."""
    even = config.train.batch_size % (2 * config.train.accumulate * device.count) == 0
    return 2 if even and not device.mirrored else 1


def _check_shares(config: Config, device: Device) -> None:
    """Raise ConfigError when the devices cannot share a batch evenly, or not in the way the config asks for."""
    size, parts = config.train.batch_size, config.train.accumulate
    if size % (device.count * parts):
        unit = device.count * parts
        raise ConfigError(
            f"train.batch_size = {size} does not split evenly over {device.count} devices, {parts} parts each: make it "
            f"a multiple of {unit}, such as {max(1, size // unit) * unit}"
        )
    if device.mirrored and parts > 1:
        raise ConfigError("train.accumulate does not work on several devices under TensorFlow: set runtime.backend=jax")
    clipping = {"clipnorm", "clipvalue", "global_clipnorm"} & set(config.train.optimizer_arguments)
    if device.mirrored and (config.train.clip_norm or clipping):
        raise ConfigError(
            "under TensorFlow, gradients would be clipped (train.clip_norm) on each device by itself: set "
            "runtime.backend=jax, or runtime.devices=1"
        )


def _warn_of_seen_images(config: Config) -> None:
    """Say so when a network was pre-trained on the competition's images; without their labels that is no leak."""
    from kit.models.presets import seen_before

    backbones = config.model.arguments.get("backbone", [])
    names = [config.model.name, *([backbones] if isinstance(backbones, str) else backbones)]
    for warning in seen_before(map(str, names), find_competition(config.competition, config).images):
        log.warning(warning)


def _warn_of_random_weights(config: Config) -> None:
    """Say so when a recipe that starts from what a network was pre-trained to see is given one that was not."""
    from kit.models import registry

    weights = registry.model_card(config.model.name).weights if config.model.weights is None else config.model.weights
    if fitted_part(config) == "network" and config.train.initial_head == "linear" and weights == "none":
        log.warning(
            f"the weights of {config.model.name} are random, but the recipe is one for pre-trained ones: consider "
            "--set train.initial_head=random --set train.freeze_batch_norm=false and a larger train.learning_rate"
        )


def _with_pseudo_labels(fold: Fold) -> Fold:
    """The fold with a further training cell, where the config asks for pseudo-labels."""
    settings = fold.config.pseudo
    if not settings.run:
        return fold
    records = fold.records
    exclusive = find_task(records.task).exclusive
    labels = sure_labels(pseudo_predictions(fold), exclusive, settings.above, settings.below)
    test = records.rows(None)
    held_out = set(records.rows(fold.valid)["group"])  # a patient of both sets must not come in by this door
    labels = labels[labels["id"].isin(test["id"][~test["group"].isin(held_out)])].reset_index(drop=True)
    log.info(f"{fold.title}  {len(labels)} of {len(test)} test images join with pseudo-labels")
    if labels.empty:
        return fold
    records = with_pseudo_labels(records, labels, fold.files.state.pseudo_records)
    return replace(fold, records=records, added=(fold.records.cells,))


def _shuffle_buffer(fold: Fold, device: Device) -> int:
    """How many examples are shuffled at a time: as memory, of the host with the least, allowed when training began."""
    path = fold.files.state.shuffle
    buffer = _positive(path, fold.files.state.remedy) if path.exists() else shuffle_buffer(fold.records, fold.train)
    buffer = min(devices.on_all_hosts(device, buffer))
    files.write_json(path, buffer)
    return buffer


def _positive(path: Path, remedy: str) -> int:
    number = files.read_json(path, remedy)
    if type(number) is not int or number < 1:
        raise files.damaged(path, "it is no number", remedy)
    return number


def _check_hosts(fold: Fold, device: Device) -> None:
    """Raise TrainingError when hosts that were killed would resume from different epochs."""
    state = fold.files.state
    epochs = devices.on_all_hosts(device, len(state.history()))
    if len(set(epochs)) > 1:
        raise TrainingError(
            f"the hosts were killed at different epochs ({', '.join(map(str, epochs))}): copy {state.folder} from one "
            "of them to all the others, or delete it on all"
        )


def _drop_state_of_other(fold: Fold) -> bool:
    """Make the state's folder one for training on the fold's inputs; whether one of other inputs was dropped."""
    state, expected = fold.files.state, files.fingerprint(fold.inputs)
    if state.inputs.exists() and files.read_json(state.inputs, state.remedy) == expected:
        return False
    before = state.inputs.exists()
    shutil.rmtree(state.folder, ignore_errors=True)
    files.write_json(state.inputs, expected)
    return before

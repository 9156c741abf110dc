"""What is wrong with settings and can be known before a file is listed, an image decoded or a network trained."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import pandas as pd

from kit import extensions
from kit.competitions import find_competition
from kit.config import Config, EvaluateSettings, ImageSettings, LossSettings, check_augment
from kit.data.records.shards import image_shape
from kit.errors import ConfigError, nearest
from kit.evaluate.metrics import METRICS, find_metric, metric_of
from kit.run import Run
from kit.runtime import devices
from kit.stages import initial_head
from kit.stages.fold import code_settings, fitted_part, settings_of_training
from kit.stages.model import build_frozen, build_model, require_model_of
from kit.stages.network import provisional
from kit.tables import truth


def check_settings(config: Config, run: Run | None = None) -> None:
    """Raise ConfigError for names that do not exist: competition, target, metric, model and its arguments.

    With a `run` that is to be trained, also for weights, packages and a backend that are not there. Loads no Keras
    (but for a model of a library, or one that finds boxes).
    """
    from kit.models import registry, weights

    config = provisional(config)
    target = find_competition(config.competition, config).target
    if extensions.is_code(config.model.name):
        devices.set_up(config.runtime)  # its file imports Keras
    metric = metric_of(target, config.evaluate, target.labels)
    card = registry.model_card(config.model.name)
    if config.metric and metric.needs != card.prediction:
        raise ConfigError(
            f"metric = {metric.name} measures {metric.needs}, but {config.model.name} predicts {card.prediction}"
        )
    if target.task:
        require_model_of(target.task, config)
    check_augment(config.augment, card.prediction, config.image.color)
    _OF_KIND[card.prediction](config)
    if card.backbone:
        for backbone in (backbones := registry.weights_cards(config.model.name, config.model.arguments)):
            if backbone.prediction == "boxes":
                raise ConfigError(f"model.arguments.backbone = {backbone.name} finds boxes itself: choose a classifier")
            if backbone.fitted == "head":
                raise ConfigError(f"model.arguments.backbone = {backbone.name} is a head: choose a network")
        if len(backbones) > 1 and not weights.is_of_each(config.model.weights):
            raise ConfigError(
                f"model.weights = {config.model.weights}: these are of one backbone, but there are {len(backbones)}"
            )
    if config.model.arguments and not config.model.name.startswith(tuple(registry.LIBRARIES)):
        if card.prediction == "boxes":  # their arguments stand beside their networks
            devices.set_up(config.runtime)
        _check_arguments(config, inspect.signature(card.builder))
    if run is None or is_trained(config, run):
        return  # it needs neither weights nor packages any more
    devices.choose_backend(config.runtime)
    for source in registry.weights_cards(config.model.name, config.model.arguments):
        weights.check_source(source, config.model.weights)
    if config.model.arguments.get("head") == "gbdt" and find_spec("lightgbm") is None:
        raise ConfigError("model.arguments.head = gbdt needs LightGBM: pip install lightgbm")
    for tracker in config.runtime.trackers:
        if find_spec(tracker) is None:
            raise ConfigError(f"runtime.trackers: {tracker} is not installed: pip install {tracker}")
    for setting in ("grid_mask", "fourier_mix"):
        if getattr(config.augment, setting) and find_spec("keras_cv") is None:
            raise ConfigError(f"augment.{setting} needs keras-cv: pip install keras-cv, or set it to 0")


def is_trained(config: Config, run: Run) -> bool:
    """Whether the run has all its folds, trained with such settings."""
    if not run.exists() or len(run.trained_folds()) < config.folds:
        return False
    sections = {"folds", *settings_of_training(config)}
    if code_settings(run.config) != code_settings(config):
        return False
    return bool(run.config.model_dump(include=sections) == config.model_dump(include=sections))


def rehearse_training(config: Config, image: ImageSettings, run: Run | None = None) -> None:
    """Build what will be trained on such images and throw it away, unless all folds are trained.

    Raises ConfigError for images that are too small for the model, weights that do not fit it, layers that it does not
    have, and arguments that the optimiser does not take.
    """
    if run is not None and is_trained(config, run):
        return
    task = find_competition(config.competition, config).target.task or "binary"
    _REHEARSALS[fitted_part(config)](config, image, task)


def _rehearse_network(config: Config, image: ImageSettings, task: str) -> None:
    model, _ = build_model(config, image, ["label"], task)
    from kit.train.fit import training_model
    from kit.train.objectives import make_objective
    from kit.train.optimize import make_optimizer, rates_of, unfreeze

    if config.train.initial_head == "linear":
        initial_head.extractor(model)
    for phase in config.train.all_phases:
        unfreeze(model, phase.unfreeze, config.train.freeze_batch_norm)
        make_optimizer(config.train, phase, 1, rates_of(model, phase.layer_decay), config.train.accumulate)
    if config.augment.layers:
        from kit.train.augment import try_layers

        try_layers(config.augment, image_shape(image))
    objective = make_objective(task, LossSettings(), np.zeros((1, 1), np.float32))
    training_model(model, objective, config.augment, config.seed)


def _rehearse_head(config: Config, image: ImageSettings, task: str) -> None:
    build_frozen(config, image, ["label"], task)


_REHEARSALS = {"network": _rehearse_network, "head": _rehearse_head}


def check_loss(config: Config, task: str, examples: pd.DataFrame) -> None:
    """Raise ConfigError for a loss that is not of this task, or `train.loss.weights` of another number of labels."""
    devices.set_up(config.runtime)
    from kit.train.objectives import make_objective

    make_objective(task, config.train.loss, truth(examples[examples["split"] == "train"]).astype(np.float32))


def check_columns(config: Config, labels: Sequence[str], examples: pd.DataFrame) -> None:
    """Raise ConfigError for columns of the example table that the model is to take but cannot; remark on suspicious."""
    from kit.models import frozen
    from kit.models.metadata import check_metadata, remark_on_answer

    names = frozen.metadata_columns(config.model.arguments)
    check_metadata(examples, names, labels)
    for name in names:
        remark_on_answer(examples[examples["split"] == "train"], name, labels)


def check_scoring(config: Config, labels: Sequence[str]) -> None:
    """Raise ConfigError for `evaluate.test_prevalence` that the scores of these labels could not take.

    Also for a metric from outside kit that fails on so many labels.
    """
    from kit.evaluate.decision import check_prevalence
    from kit.stages.score import is_balanced

    check_prevalence(config.evaluate, list(labels), is_balanced(config))
    target = find_competition(config.competition, config).target
    if target.metric not in METRICS:
        y = np.eye(len(labels) + 1, len(labels))[np.arange(4 * len(labels) + 4) % (len(labels) + 1)]
        find_metric(target.metric)(y, np.full_like(y, 1 / (len(labels) + 1)))


def _check_boxes(config: Config) -> None:
    """Raise ConfigError for settings that mean something for probabilities alone."""
    calibrated = config.evaluate.calibration != "none" or config.evaluate.test_prevalence is not None
    for name, is_set in (
        ("pseudo.run", config.pseudo.run),
        ("columns.case", config.columns.case),
        ("repeats", config.repeats > 1),
        ("train.relabel", config.train.relabel.run),
        ("evaluate.calibration and test_prevalence", calibrated),
        ("evaluate.threshold", config.evaluate.threshold != EvaluateSettings().threshold),
        ("train.loss", config.train.loss != LossSettings()),
    ):
        if is_set:
            raise ConfigError(f"{name}: of probabilities alone, but {config.model.name} finds boxes: leave it out")


_OF_KIND: dict[str, Callable[[Config], None]] = {"probabilities": lambda config: None, "boxes": _check_boxes}


# Annotations of the arguments of networks, as they begin -> what a value has to be.
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "<class 'int'>": ((int,), "a whole number"),
    "<class 'float'>": ((int, float), "a number"),
    "collections.abc.Mapping": ((Mapping, type(None)), "a dictionary, such as {width: 32},"),
}


def _check_arguments(config: Config, signature: inspect.Signature) -> None:
    accepted = _names(signature)
    if any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
        from kit.models.heads import head  # what a backbone's builder does not take itself, its head does

        accepted += _names(inspect.signature(head))
    for argument, value in config.model.arguments.items():
        if argument not in accepted:
            raise ConfigError(
                f"model.arguments.{argument}: {config.model.name} takes no such argument{nearest(argument, accepted)} "
                "(--set model.arguments={...} replaces all that the recipe gives)"
            )
        annotation = str(signature.parameters[argument].annotation) if argument in signature.parameters else ""
        for kind, (types, words) in _KINDS.items():
            if annotation.startswith(kind) and not isinstance(value, types):
                raise ConfigError(f"model.arguments.{argument} = {value!r}: {words} is needed")


def _names(signature: inspect.Signature) -> list[str]:
    keywords = [each.name for each in signature.parameters.values() if each.kind is each.KEYWORD_ONLY]
    return [name for name in keywords if name not in ("shape", "outputs", "activation")]

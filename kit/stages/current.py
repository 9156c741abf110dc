"""What the stages after training rely on: predictions that are not older than the models, and settings of their own."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kit import files
from kit.config import Config
from kit.config.load import with_settings
from kit.config.predict import PredictSettings
from kit.errors import ConfigError, DataError, some
from kit.run import FoldFiles, Run
from kit.tasks import find_task

_SETTINGS: dict[str, set[str]] = {"probabilities": set(), "boxes": {"boxes"}}  # `predict.*` that matter, beside tta


def inputs_of_predictions(fold: FoldFiles, settings: PredictSettings, task: str) -> dict[str, Any]:
    """What a fold's out-of-fold predictions are made with; those of the test set depend on that, too."""
    model = files.read_json(fold.done, fold.remedy)
    return {"model": model, "views": settings.tta, **settings_of_boxes(settings, task)}


def settings_of_boxes(settings: PredictSettings, task: str) -> dict[str, Any]:
    """What else than views decides predictions: how boxes are merged; nothing for a task without boxes."""
    return settings.model_dump(mode="json", include=_SETTINGS[find_task(task).prediction])


def stamps_of_predictions(fold: FoldFiles) -> tuple[Path, Path]:
    """The stamps of a fold's predictions."""
    return fold.oof_done, fold.test_done


def require_current(run: Run) -> None:
    """Raise DataError when the folds' models or predictions are newer than the run's tables of them.

    What is not there, such as the folders of the folds of a run that was copied without them, is not looked at.
    """
    if run.is_ensemble or not run.predicted_done.exists():
        return
    again = f"run `kit predict {run} --records DIR` again"
    chosen = sorted(set(run.oof()["fold"].tolist()))
    if not all(path.exists() for k in chosen for path in (run.fold(k).done, *stamps_of_predictions(run.fold(k)))):
        return
    settings, task = run.config.predict, run.folds.task
    for k in chosen:
        fold = run.fold(k)
        files.read_stamp(fold.done, fold.remedy)
        if files.read_stamp(fold.oof_done, again).inputs != files.fingerprint(
            inputs_of_predictions(fold, settings, task)
        ):
            raise DataError(
                f"{fold.oof} is older than {fold.done}, or of other settings (predict.*, such as views: tta = "
                f"{settings.tta}): {again}"
            )
        files.read_stamp(fold.test_done, again)
    stamps = {str(k): {path.name: files.read_json(path) for path in stamps_of_predictions(run.fold(k))} for k in chosen}
    if files.read_stamp(run.predicted_done, again).inputs != files.fingerprint({"folds": stamps}):
        raise DataError(f"{run.oof_path} or {run.test_path.name} is older than the predictions of its folds: {again}")


def changed_settings(config: Config, settings: Iterable[str], section: str, command: str) -> Config:
    """A run's config with settings of one section changed; raises ConfigError for a setting of another section."""
    settings = list(settings)
    if foreign := [text.partition("=")[0] for text in settings if not text.startswith(f"{section}.")]:
        raise ConfigError(
            f"`{command}` changes {section}.* alone, not {some(foreign)}: what a model is trained with is set by "
            "`kit run`"
        )
    return with_settings(config, settings) if settings else config

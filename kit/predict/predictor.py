"""New images -> predictions: the records' own preparation, the mean over folds and views, then the run's decision."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from kit import files
from kit.config import ImageSettings
from kit.data.pixels.prepared import prepare_array, prepare_file
from kit.data.records.shards import image_shape
from kit.errors import ConfigError, DataError, UnreadableImage
from kit.evaluate.decision import sent, with_decisions
from kit.parallel import progress_bar
from kit.predict.predict import predict_views
from kit.run import Run
from kit.runtime import devices
from kit.schemas import Decision
from kit.tables import with_probabilities

if TYPE_CHECKING:
    import keras

_AHEAD = 4  # batches that are prepared before they are needed
_CHUNK = 16  # images that a thread prepares at a time


class Predictor:
    """The folds' models of a run, its image settings and its decision.

    `Predictor.open(run).predict(images)` gives what the run would give for these images: for those of its test set,
    the values of `test.parquet`, averaged over folds and calibrated.
    """

    def __init__(
        self, models: "Sequence[keras.Model]", image: ImageSettings, decision: Decision, batch_size: int = 256
    ) -> None:
        self.models, self.image, self.decision, self.batch_size = list(models), image, decision, batch_size

    @classmethod
    def open(cls, run: Run | Path | str, folds: Sequence[int] | None = None, trust: bool = False) -> "Predictor":
        """The predictor of a run that is trained and scored, of all its folds or of some.

        Nothing outside the run is read or fetched, unless `trust` allows the networks and image steps that need it.
        Raises ConfigError for these, for what is not a run with models, or has no such fold, and DataError for one that
        is damaged, or not trained or scored yet.
        """
        run = run if isinstance(run, Run) else Run(run)
        config = run.config
        if run.is_ensemble:
            raise ConfigError(f"{run} is an ensemble and has no models of its own: predict with each of its runs")
        trained = run.trained_folds()
        chosen = trained if folds is None else list(folds)
        if not trained:
            raise DataError(f"{run} has no fold trained yet: run `kit train` first")
        if unknown := set(chosen) - set(trained):
            raise ConfigError(f"{run} has no trained fold {min(unknown)}: there are {', '.join(map(str, trained))}")
        if folds is None:
            _require_all(run, trained)
        split, decision = run.folds, run.decision
        if decision.labels != split.labels or decision.task != split.task:
            raise files.damaged(run.decision_path, "it is of other labels than the run", f"run `kit score {run}` again")
        _require_own_steps(run, config.image, trust)
        if missing := [k for k in chosen if run.fold(k).trained is None]:  # raises for one that is damaged
            raise DataError(f"{run} has no trained fold {missing[0]}")
        devices.set_up(config.runtime)
        from kit.models import saved

        models = [saved.load_model(run.fold(k).folder, trust) for k in chosen]
        for k, model in zip(chosen, models, strict=True):
            if (model.input_shape[1:], model.output_shape[1:]) != (image_shape(config.image), (len(decision.labels),)):
                raise DataError(f"{run.fold(k).folder} holds a model of other images or labels than {run}: restore it")
        return cls(models, config.image, decision, config.predict.batch_size)

    def predict(self, images: Path | str | Sequence[Path | str] | Sequence[np.ndarray] | np.ndarray) -> pd.DataFrame:
        """Columns id, `p_<label>` (as they would be sent) and `decision`, in the order of `images`.

        `images` are the path of a file or several, whose ids they are, or uint8 arrays (height, width) or (height,
        width, 1 or 3) of any size, whose ids are their numbers. Raises UnreadableImage at the first that cannot be
        read.
        """
        images = [images] if isinstance(images, str | Path) else list(images)
        ids = [files.escaped(str(image)) if isinstance(image, str | Path) else str(n) for n, image in enumerate(images)]
        rows = self._prepared(images)
        return self._table(ids, (_raised(name, row) for name, row in zip(ids, rows, strict=True)))

    def predict_files(self, paths: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, str]]:
        """As `predict`, of the files that can be read; and the reason for each of the others, by path."""
        unreadable: dict[str, str] = {}
        ids: list[str] = []

        def readable() -> Iterator[np.ndarray]:
            with progress_bar("predict", "image", len(paths)) as bar:
                for path, row in zip(paths, self._prepared(paths), strict=True):
                    bar.update()
                    if isinstance(row, UnreadableImage):
                        unreadable[files.escaped(str(path))] = str(row)
                    else:
                        ids.append(files.escaped(str(path)))
                        yield row

        return self._table(ids, readable()), unreadable

    def raw(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Mean probability over folds and views, float32 [n, labels], of prepared images uint8 [H, W, C]."""
        shape, size = image_shape(self.image), self.batch_size
        rows: list[np.ndarray] = []
        for batch in _batched(images, size):
            count = len(batch)
            full = np.zeros((size if rows or count == size else count, *shape), np.uint8)
            full[:count] = batch
            folds = np.stack([predict_views(model, full, self.decision.views)[:count] for model in self.models])
            rows.append(np.asarray(folds.mean(0, np.float32)))
        return np.concatenate(rows) if rows else np.empty((0, len(self.decision.labels)), np.float32)

    def _table(self, ids: list[str], images: Iterable[np.ndarray]) -> pd.DataFrame:
        p = self.raw(images)  # first: it fills `ids`
        table = with_probabilities(pd.DataFrame({"id": pd.Series(ids, dtype=object)}), p, self.decision.labels)
        return with_decisions(self.decision, sent(self.decision, table))

    def _prepared(self, images: Sequence[Any]) -> Iterator[np.ndarray | UnreadableImage]:
        """Every image as the records would hold it, or why it cannot be read; read by threads, some batches ahead."""

        def prepare(image: Any) -> np.ndarray | UnreadableImage:
            try:
                if isinstance(image, str | Path):
                    return prepare_file(files.expanded(image), self.image)
                return prepare_array(np.asarray(image), self.image)
            except UnreadableImage as error:
                return error

        if any(step.name == "super_resolution" for step in self.image.steps):
            return map(prepare, images)  # TensorFlow computes on all cores, or on the one GPU, by itself
        return _in_threads(prepare, images, _AHEAD * self.batch_size)


def _require_all(run: Run, trained: Sequence[int]) -> None:
    """Raise DataError when a fold is gone whose predictions the run was scored with."""
    try:
        predicted = set(files.read_parquet(run.oof_path)["fold"].tolist())
    except (DataError, KeyError):  # a run that was copied without them
        return
    if gone := predicted - set(trained):
        chosen = ",".join(map(str, trained))
        raise DataError(
            f"{run.fold(min(gone)).folder} holds no trained model, but the run was scored with it: restore it, or "
            f"predict without it by --folds {chosen}"
        )


def _require_own_steps(run: Run, image: ImageSettings, trust: bool) -> None:
    """Raise ConfigError, unless that is trusted, for preparing images with a network that the run only names."""
    for step in image.steps:
        if step.name == "super_resolution" and not trust:
            raise ConfigError(
                f"{run.config_path} prepares images with {step.model}, which lies outside the run: give --trust (in "
                "Python, trust=True) if you trust where the run comes from"
            )


def _in_threads(function: Callable[[Any], Any], items: Sequence[Any], ahead: int) -> Iterator[Any]:
    """The results in order, about `ahead` of them waiting; a thread takes several items at a time, which costs less."""
    chunks = _batched(items, _CHUNK)
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:

        def submit(count: int) -> list[Future[list[Any]]]:
            return [pool.submit(lambda chunk: [function(item) for item in chunk], c) for c in islice(chunks, count)]

        waiting = submit(max(1, ahead // _CHUNK))
        while waiting:
            yield from waiting.pop(0).result()
            waiting += submit(1)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _raised(name: str, row: np.ndarray | UnreadableImage) -> np.ndarray:
    if isinstance(row, UnreadableImage):
        raise UnreadableImage(f"{name}: {row}") from row
    return row

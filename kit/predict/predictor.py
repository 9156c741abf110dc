"""New images -> predictions: the records' own preparation, the mean over folds and views, then the run's decision."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np
import pandas as pd

from kit import files
from kit.config import ImageSettings, RuntimeSettings
from kit.config.predict import PredictSettings
from kit.data.pixels.prepared import prepare_array, prepare_file
from kit.data.pixels.sizes import Size, size_of
from kit.data.records.shards import image_shape
from kit.decisions import AnyDecision
from kit.errors import ConfigError, DataError, UnreadableImage
from kit.evaluate.sent import sent, with_decisions
from kit.parallel import progress_bar
from kit.predict.packed import opened
from kit.predict.predict import raw_of
from kit.run import Run
from kit.runtime import devices

if TYPE_CHECKING:
    import keras

_AHEAD = 4  # batches that are prepared before they are needed
_CHUNK = 16  # images that a thread prepares at a time


_NO_SIZE: Size = (0, 0)


class Prepared(NamedTuple):
    """An image as records hold it, uint8 [size, size, 1 or 3], and width and height of its source, where needed."""

    image: np.ndarray
    size: Size


class Predictor:
    """The folds' models of a run, its image settings and its decision.

    `Predictor.open(run).predict(images)` gives what the run would give for these images: for those of its test set,
    the values of `test.parquet`, averaged over folds and calibrated.
    """

    def __init__(
        self,
        models: "Sequence[keras.Model]",
        image: ImageSettings,
        decision: AnyDecision,
        settings: PredictSettings,
    ) -> None:
        from kit.models.frozen import together  # here: it loads Keras

        self.models, self.image, self.decision, self.settings = list(models), image, decision, settings
        self._together = together(self.models)

    @classmethod
    def open(
        cls,
        run: Run | Path | str,
        folds: Sequence[int] | None = None,
        trust: bool = False,
        runtime: RuntimeSettings | None = None,
    ) -> "Predictor":
        """The predictor of a run that is trained and scored, of all its folds or of some; or of a file (kit.export).

        Nothing outside the run is read or fetched, and no code executed that it holds and was not made here, unless
        `trust` allows that. `runtime`: what it runs on, in place of what the run's settings say.
        Raises ConfigError for these, for what is not a run with models, or has no such fold, and DataError for one that
        is damaged, or not trained or scored yet.
        """
        if not isinstance(run, Run):
            with opened(run) as unpacked:
                return cls.open(unpacked, folds, trust, runtime)
        if trust:
            run.trust_code()
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
        device = devices.set_up(runtime or config.runtime)
        from kit.models import saved
        from kit.models.boosted import BoostedModel

        models = [saved.load_model(run.fold(k).folder, trust) for k in chosen]
        for model in models:
            if isinstance(model, BoostedModel):
                model.trees.require_no_table("new images")
        for k in chosen:
            build = saved.read_build(run.fold(k).folder)
            if (build.shape, build.outputs) != (image_shape(config.image), len(decision.labels)):
                raise DataError(f"{run.fold(k).folder} holds a model of other images or labels than {run}: restore it")
        used = {"tta": decision.views, "batch_size": device.eval_batch(config.predict.batch_size)}
        return cls(models, config.image, decision, config.predict.model_copy(update=used))

    def predict(self, images: Path | str | Sequence[Path | str] | Sequence[np.ndarray] | np.ndarray) -> pd.DataFrame:
        """Columns id, `p_<label>` or boxes (as they would be sent) and `decision`, in the order of `images`.

        `images` are the path of a file or several, whose ids they are, or uint8 arrays (height, width) or (height,
        width, 1 or 3) of any size, whose ids are their numbers. Raises UnreadableImage at the first that cannot be
        read.
        """
        images = [images] if isinstance(images, str | Path) else list(images)
        ids = [files.escaped(str(image)) if isinstance(image, str | Path) else str(n) for n, image in enumerate(images)]
        rows = self.prepared(images)
        return self.table(ids, (_raised(name, row) for name, row in zip(ids, rows, strict=True)))

    def predict_files(self, paths: Sequence[Path]) -> tuple[pd.DataFrame, dict[str, str]]:
        """As `predict`, of the files that can be read; and the reason for each of the others, by path."""
        unreadable: dict[str, str] = {}
        ids: list[str] = []

        def readable() -> Iterator[Prepared]:
            with progress_bar("predict", "image", len(paths)) as bar:
                for path, row in zip(paths, self.prepared(paths), strict=True):
                    bar.update()
                    if isinstance(row, UnreadableImage):
                        unreadable[files.escaped(str(path))] = str(row)
                    else:
                        ids.append(files.escaped(str(path)))
                        yield row

        return self.table(ids, readable()), unreadable

    def raw(self, images: Iterable[np.ndarray]) -> Any:
        """The mean prediction of the folds' models and views for prepared images uint8 [H, W, C], before the decision.

        Probabilities float32 [n, labels], or boxes as shares of the prepared images.
        """
        kind, shape, size = raw_of(self.decision.task), image_shape(self.image), self.settings.batch_size
        parts: list[Any] = []
        for batch in _batched(images, size):
            count = len(batch)
            full = np.zeros((size if parts or count == size else count, *shape), np.uint8)
            full[:count] = batch
            folds = [kind.rows(each, np.arange(count)) for each in self._by_fold(full)]
            parts.append(kind.fused(folds, self.settings))
        return kind.stacked(parts, len(self.decision.labels))

    def _by_fold(self, images: np.ndarray) -> list[Any]:
        """What each fold's model predicts for a batch; what they share, a frozen backbone, is run once."""
        of_images = raw_of(self.decision.task).of_images
        if self._together is not None:
            return [*np.moveaxis(of_images(self._together, images, self.settings), 1, 0)]
        return [of_images(model, images, self.settings) for model in self.models]

    def raw_table(self, ids: list[str], prepared: Iterable[Prepared]) -> pd.DataFrame:
        """As `raw`, as a table: id, and `p_<label>` or boxes in pixels of the source images."""
        sizes: list[Size] = []

        def images() -> Iterator[np.ndarray]:
            for each in prepared:
                sizes.append(each.size)
                yield each.image

        raw = self.raw(images())  # first: it fills `ids` and `sizes`
        table, source = pd.DataFrame({"id": ids}, dtype=object), pd.DataFrame(sizes, columns=["width", "height"])
        return raw_of(self.decision.task).table(table, raw, self.decision.labels, source, self.image)

    def table(self, ids: list[str], prepared: Iterable[Prepared]) -> pd.DataFrame:
        """As `predict`, of images that are prepared."""
        return self.decided(self.raw_table(ids, prepared))

    def decided(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of `raw_table` as it would be sent, with the column `decision`."""
        return with_decisions(self.decision, sent(self.decision, table, fused=len(self.models) > 1))

    def prepared(self, images: Sequence[Any]) -> Iterator[Prepared | UnreadableImage]:
        """Every image as the records would hold it, or why it cannot be read; read by threads, some batches ahead."""
        sized = raw_of(self.decision.task).sized

        def read(image: Any) -> Prepared | UnreadableImage:
            try:
                if isinstance(image, str | Path):
                    path = files.expanded(image)
                    return Prepared(prepare_file(path, self.image), size_of(path) if sized else _NO_SIZE)
                pixels = np.asarray(image)
                return Prepared(prepare_array(pixels, self.image), (pixels.shape[1], pixels.shape[0]))
            except UnreadableImage as error:
                return error

        if any(step.name == "super_resolution" for step in self.image.steps):
            return map(read, images)  # TensorFlow computes on all cores, or on the one GPU, by itself
        return _in_threads(read, images, _AHEAD * self.settings.batch_size)


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


def _raised(name: str, row: Prepared | UnreadableImage) -> Prepared:
    if isinstance(row, UnreadableImage):
        raise UnreadableImage(f"{name}: {row}") from row
    return row

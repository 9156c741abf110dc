"""The predictor behind the page: one thread that takes what is waiting as a batch, always of a size it is warm for."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from kit.errors import ConfigError
from kit.predict.predictor import Predictor, Prepared
from kit.serve.answers import Row

SIZES = (1, 2, 4, 8, 16)  # of batches: JAX compiles for each, and TensorFlow is warm after two
_PATIENCE = 0.2  # of the time that the last batch took: how long the next one waits to be full


@dataclass(frozen=True)
class _Job:
    image: Prepared
    label: int | None  # whose map is wanted; None: a row
    done: "Future[Any]"


class Engine:
    """Rows and maps of images for any number of threads; `close` ends its own."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._sizes = sorted({min(size, predictor.settings.batch_size) for size in SIZES})
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._cams: list[Callable[..., np.ndarray]] | None = None
        self._thread = threading.Thread(target=self._work, name="kit-engine", daemon=True)
        self._thread.start()

    def warm_up(self) -> None:
        """Compute once with each size of batch, and a map, on a black image; raises what predicting raises."""
        blank = Prepared(np.zeros(self._shape, np.uint8), (self._shape[1], self._shape[0]))
        for size in self._sizes:
            self._rows([blank] * size)
        with suppress(ConfigError):  # its network has no map; who asks for one is told
            self.map(blank, 0)

    def row(self, image: Prepared, seconds: float) -> Row:
        """The prediction for an image; raises TimeoutError after so many seconds."""
        row: Row = self._ask(image, None, seconds)
        return row

    def map(self, image: Prepared, label: int, seconds: float | None = None) -> np.ndarray:
        """What speaks for a label, float32 [h, w], 0 to 1: Grad-CAM, the mean of the folds.

        Raises ConfigError for a network that has no feature map which gradients reach.
        """
        heat: np.ndarray = self._ask(image, label, seconds)
        return heat

    def close(self) -> None:
        """End the thread when it has done what was asked."""
        self._jobs.put(None)
        self._thread.join()

    @property
    def _shape(self) -> tuple[int, int, int]:
        size, color = self.predictor.image.size, self.predictor.image.color
        return size, size, 1 if color == "gray" else 3

    def _ask(self, image: Prepared, label: int | None, seconds: float | None) -> Any:
        job = _Job(image, label, Future())
        self._jobs.put(job)
        try:
            return job.done.result(seconds)
        finally:
            job.done.cancel()  # who asked has left: nothing is computed for them

    def _work(self) -> None:
        expected, patience, ends = 1, 0.0, False
        while not ends and (job := self._jobs.get()) is not None:
            jobs, ends = gathered(self._jobs, job, self._sizes[-1], expected, patience)
            began = time.monotonic()
            jobs = [job for job in jobs if job.done.set_running_or_notify_cancel()]
            self._answer([job for job in jobs if job.label is None], self._rows)
            for job in jobs:
                if (label := job.label) is not None:
                    self._answer([job], partial(self._maps, label))
            expected, patience = len(jobs) + self._jobs.qsize(), _PATIENCE * (time.monotonic() - began)

    @staticmethod
    def _answer(jobs: Sequence[_Job], function: Callable[[list[Prepared]], Sequence[Any]]) -> None:
        try:
            for job, result in zip(jobs, function([job.image for job in jobs]) if jobs else [], strict=True):
                job.done.set_result(result)
        except Exception as error:
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(error)

    def _rows(self, images: list[Prepared]) -> list[Row]:
        size = next(size for size in self._sizes if size >= len(images))
        full = [*images, *[images[0]] * (size - len(images))]
        raw = self.predictor.raw_table([str(n) for n in range(size)], full)
        sent = self.predictor.decided(raw)
        fused = len(self.predictor.models) > 1
        pairs = zip(_records(raw), _records(sent), strict=True)
        return [Row(*pair, fused) for pair in pairs][: len(images)]

    def _maps(self, label: int, images: list[Prepared]) -> list[np.ndarray]:
        from kit.explain import shown
        from kit.explain.cam import Cam

        if self._cams is None:
            self._cams = [Cam(model) for model in self.predictor.models]
        stack = np.stack([prepared.image for prepared in images])
        heats = np.mean([cam(stack, [label])[:, 0] for cam in self._cams], axis=0)
        return [np.asarray(shown(heat), np.float32) for heat in heats]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a small table, several times as fast as its `to_dict`."""
    rows = zip(*(column.tolist() for _, column in table.items()), strict=True)
    return [dict(zip(table.columns, row, strict=True)) for row in rows]


def gathered(
    waiting: "queue.SimpleQueue[Any]", first: Any, most: int, expected: int, patience: float
) -> tuple[list[Any], bool]:
    """`first` with those that wait behind it, `most` at most, and whether a None was among these, which ends the batch.

    Whoever was answered last may ask again at once. While fewer than `expected` are here, these are waited for,
    `patience` seconds in all: one batch of eight takes less time than two of four.
    """
    jobs, until = [first], time.monotonic() + patience
    while len(jobs) < most:
        wait = until - time.monotonic() if len(jobs) < expected else 0.0
        try:
            job = waiting.get(timeout=wait) if wait > 0 else waiting.get_nowait()
        except queue.Empty:
            break
        if job is None:
            return jobs, True
        jobs.append(job)
    return jobs, False

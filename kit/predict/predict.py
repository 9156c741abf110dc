"""Score batches with a model: one row per example, in the order of the batches."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from kit import boxes as box_columns
from kit.boxes import Boxes, with_boxes
from kit.config import ImageSettings
from kit.config.predict import PredictSettings
from kit.data.pixels.geometry import to_source
from kit.data.records.batches import Batch
from kit.data.records.manifest import Records
from kit.evaluate.boxes.merging import fuse, merge
from kit.predict.views import VIEWS
from kit.tables import with_probabilities
from kit.tasks import find_task

if TYPE_CHECKING:
    import keras

_CANDIDATES = 100  # of each image and label, before they are merged


class Raw(NamedTuple):
    """How predictions of one kind are made and handled before they are a table; `Any` is an array, or `Boxes`.

    `of_images` is the prediction for images uint8 [B, H, W, C] by a model, over the views of the settings; `rows` are
    those of some images (int [n]), `stacked` those of several batches, `fused` the mean of several models'. `table`
    adds them to a table of the images, for labels and image settings, as columns; boxes in pixels of the source images,
    whose `height` and `width` are columns of the second table, if they are needed (`sized`).
    """

    of_images: Callable[["keras.Model", np.ndarray, PredictSettings], Any]
    rows: Callable[[Any, np.ndarray], Any]
    stacked: Callable[[Sequence[Any], int], Any]
    fused: Callable[[Sequence[Any], PredictSettings], Any]
    table: Callable[[pd.DataFrame, Any, Sequence[str], pd.DataFrame, ImageSettings], pd.DataFrame]
    sized: bool


def raw_of(task: str) -> Raw:
    """How predictions of a task are made."""
    return _RAW[find_task(task).prediction]


def predict(
    model: "keras.Model", batches: Iterable[Batch], records: Records, settings: PredictSettings
) -> pd.DataFrame:
    """Predictions of batches of these records: `id`, and `p_<label>` float32 or boxes, over the views of each image."""
    kind = raw_of(records.task)
    ids: list[str] = []
    parts = []
    for batch in batches:
        ids += batch.ids
        parts.append(kind.rows(kind.of_images(model, batch.images, settings), np.flatnonzero(batch.mask)))
    table = pd.DataFrame({"id": pd.Series(ids, dtype=object)})
    rows = records.table.set_index("id").loc[ids]
    return kind.table(table, kind.stacked(parts, len(records.labels)), records.labels, rows, records.image)


def _probabilities(model: "keras.Model", images: np.ndarray, settings: PredictSettings) -> np.ndarray:
    return np.stack([model.predict_on_batch(view(images)) for view in VIEWS[settings.tta]]).mean(0, np.float32)


def _boxes(model: "keras.Model", images: np.ndarray, settings: PredictSettings) -> Boxes:
    """The merged boxes, as shares of the images."""
    height, width = images.shape[1:3]
    parts = []
    for view in VIEWS[settings.tta]:
        candidates = model.candidates(model.predict_on_batch(view(images)), _CANDIDATES)
        parts.append(view.back(merge(candidates, settings.boxes), height, width))
    found = fuse(parts, settings.boxes).clipped(width, height)
    return found.scaled(np.tile([1 / width, 1 / height], (len(images), 1)))


def _stacked_probabilities(parts: Sequence[np.ndarray], labels: int) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty((0, labels), np.float32)


def _box_table(
    table: pd.DataFrame, boxes: Boxes, labels: Sequence[str], sizes: pd.DataFrame, image: ImageSettings
) -> pd.DataFrame:
    heights, widths = (sizes[side].to_numpy(np.float64) for side in ("height", "width"))
    return with_boxes(table, to_source(boxes, heights, widths, image), labels)


_RAW = {
    "probabilities": Raw(
        of_images=_probabilities,
        rows=lambda p, rows: p[rows],
        stacked=_stacked_probabilities,
        fused=lambda parts, settings: np.stack(parts).mean(0, np.float32),
        table=lambda table, p, labels, sizes, image: with_probabilities(table, p, labels),
        sized=False,
    ),
    "boxes": Raw(
        of_images=_boxes,
        rows=lambda boxes, rows: boxes.of_images(rows),
        stacked=lambda parts, labels: box_columns.stacked(parts),
        fused=lambda parts, settings: fuse(parts, settings.boxes),
        table=_box_table,
        sized=True,
    ),
}

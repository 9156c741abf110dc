"""Score batches with a model: one row per example, in the order of the batches."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.data.records.batches import Batch
from kit.predict.views import VIEWS
from kit.tables import probability_columns

if TYPE_CHECKING:
    import keras


def predict(model: "keras.Model", batches: Iterable[Batch], labels: Sequence[str], views: str = "none") -> pd.DataFrame:
    """Columns `id` and `p_<label>` float32, the mean over the views of each image."""
    ids: list[str] = []
    probabilities = [np.empty((0, len(labels)), np.float32)]
    for batch in batches:
        ids += batch.ids
        probabilities.append(predict_views(model, batch.images, views)[batch.mask])
    table = pd.DataFrame(np.concatenate(probabilities), columns=probability_columns(labels))
    table.insert(0, "id", pd.Series(ids, dtype=object))
    return table


def predict_views(model: "keras.Model", images: np.ndarray, views: str) -> np.ndarray:
    """The mean probability, float32 [B, labels], over the views of images uint8 [B, H, W, C]."""
    return np.stack([model.predict_on_batch(view(images)) for view in VIEWS[views]]).mean(0, np.float32)

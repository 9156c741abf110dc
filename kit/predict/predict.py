"""Score batches with a model: one row per example, in the order of the batches."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.data.records.batches import Batch
from kit.predict.views import VIEWS

if TYPE_CHECKING:
    import keras


def predict(model: "keras.Model", batches: Iterable[Batch], labels: Sequence[str], tta: str = "none") -> pd.DataFrame:
    """Columns `id`, `y_<label>` (NaN where unknown) and `p_<label>` (the mean over the views), both float32."""
    views = VIEWS[tta]
    ids: list[str] = []
    known, probabilities = [np.empty((0, len(labels)), np.float32)], [np.empty((0, len(labels)), np.float32)]
    for batch in batches:
        scores = np.stack([model.predict_on_batch(view(batch.images)) for view in views]).mean(0, np.float32)
        ids += batch.ids
        known.append(batch.labels)
        probabilities.append(scores[batch.mask])
    y, p = np.concatenate(known), np.concatenate(probabilities)
    columns = {f"y_{label}": y[:, n] for n, label in enumerate(labels)}
    return pd.DataFrame({"id": ids, **columns, **{f"p_{label}": p[:, n] for n, label in enumerate(labels)}})

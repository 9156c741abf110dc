"""Batches of images -> their pooled features, by a frozen network."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from kit.data.records.batches import Batch
from kit.errors import TrainingError

if TYPE_CHECKING:
    import keras

Features = dict[str, np.ndarray]  # kind of pooling -> float32 [n, d]


def pooled(extractor: "keras.Model", batches: Iterable[Batch]) -> Iterator[tuple[list[str], Features]]:
    """The ids of each batch and their features, of each kind of pooling (kit.models.frozen.extractor).

    Raises TrainingError, with the image, for features that are infinite or NaN.
    """
    for batch in batches:
        values = extractor.predict_on_batch(batch.images)
        features = {kind: np.asarray(rows, np.float32)[batch.mask] for kind, rows in values.items()}
        for rows in features.values():
            bad = ~np.isfinite(rows).all(axis=1)
            if bad.any():
                name = batch.ids[int(np.argmax(bad))]
                raise TrainingError(
                    f"the features of {name} are not finite: set runtime.precision=float32, or choose another backbone"
                )
        yield batch.ids, features


def stacked(parts: list[Features]) -> Features:
    """The features of several batches as one."""
    return {kind: np.concatenate([part[kind] for part in parts]) for kind in (parts[0] if parts else {})}

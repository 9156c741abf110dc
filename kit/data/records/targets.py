"""What the target of an example is: features of its record, keys of its batch. One entry per kind of prediction."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.runtime.devices import import_tensorflow
from kit.tables import truth
from kit.tasks import find_task

Features = dict[str, list[float]]  # of one tf.train.Example, by name


class TargetFormat(NamedTuple):
    """How targets are written and read.

    `features` turns rows of an example table into the features of each row; `spec` turns the number of labels into the
    features that `tf.io.parse_example` takes. `columns` are the table's that enter targets, beside the truth.
    """

    features: Callable[[pd.DataFrame], list[Features]]
    spec: Callable[[int], dict[str, Any]]
    columns: tuple[str, ...] = ()


def target_format(task: str) -> TargetFormat:
    """How the targets of a task are written and read; raises ConfigError for an unknown task."""
    return _FORMATS[find_task(task).prediction]


def _label_features(rows: pd.DataFrame) -> list[Features]:
    return [{"label": y} for y in truth(rows).astype(np.float32).tolist()]


def _label_spec(labels: int) -> dict[str, Any]:
    tf = import_tensorflow()
    return {"label": tf.io.FixedLenFeature([labels], tf.float32)}


_FORMATS = {
    "probabilities": TargetFormat(_label_features, _label_spec),
    # Until a model needs boxes in batches, records hold only whether there are any.
    "boxes": TargetFormat(_label_features, _label_spec, columns=("boxes",)),
}

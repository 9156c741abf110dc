"""What the target of an example is: features of its record, keys of its batch. One entry per kind of prediction."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kit.boxes import BOXES, LABELS, Boxes, boxes_of
from kit.config import ImageSettings
from kit.data.pixels.geometry import count_cut, to_shares
from kit.errors import ConfigError
from kit.runtime.devices import import_tensorflow
from kit.tables import labels_of, truth
from kit.tasks import find_task

Features = dict[str, list[float] | list[int]]  # of one tf.train.Example, by name


class TargetFormat(NamedTuple):
    """How targets are written and read.

    `features` turns rows of an example table into the features of each row; `remarks` are what is odd about that, with
    how often. `spec` turns the number of labels into the
    features that `tf.io.parse_example` takes, and `keys` those of one example, the shape of its image and the padding
    into the keys of a batch. Without TensorFlow, `arrays` does both: from the `stored` features as lists, with the
    number of labels. `padding` is how many boxes every image of a batch has room for (0: none), from the rows
    and `input.most_boxes`. `columns` are the table's that enter targets, beside the truth. Features that are `ragged`
    are parsed one example at a time.
    """

    features: Callable[[pd.DataFrame, ImageSettings], list[Features]]
    spec: Callable[[int], dict[str, Any]]
    keys: Callable[[dict[str, Any], Sequence[int], int], dict[str, Any]]
    arrays: Callable[[dict[str, list[Any]], int, Sequence[int], int], dict[str, np.ndarray]]
    padding: Callable[[pd.DataFrame, int | None], int]
    remarks: Callable[[pd.DataFrame, ImageSettings], dict[str, int]]
    stored: tuple[str, ...] = ("label",)
    columns: tuple[str, ...] = ()
    ragged: bool = False


def target_format(task: str) -> TargetFormat:
    """How the targets of a task are written and read; raises ConfigError for an unknown task."""
    return _FORMATS[find_task(task).prediction]


def _label_features(rows: pd.DataFrame, image: ImageSettings) -> list[Features]:
    return [{"label": y} for y in truth(rows).astype(np.float32).tolist()]


def _label_spec(labels: int) -> dict[str, Any]:
    tf = import_tensorflow()
    return {"label": tf.io.FixedLenFeature([labels], tf.float32)}


def _box_features(rows: pd.DataFrame, image: ImageSettings) -> list[Features]:
    """The label, and `boxes` float[4n] (x, y, width, height as shares of the stored image), `box_labels` int64[n]."""
    shares = to_shares(*_sized_boxes(rows), image, rows["id"].tolist())
    ends = np.cumsum(np.bincount(shares.image, minlength=shares.images))[:-1]
    parts = zip(np.split(shares.xywh.astype(np.float32), ends), np.split(shares.label, ends), strict=True)
    return [
        {**label, "boxes": xywh.ravel().tolist(), "box_labels": names.tolist()}
        for label, (xywh, names) in zip(_label_features(rows, image), parts, strict=True)
    ]


def _box_remarks(rows: pd.DataFrame, image: ImageSettings) -> dict[str, int]:
    cut, dropped = count_cut(*_sized_boxes(rows), image, rows["id"].tolist())
    return {
        "boxes that the crops of image.steps cut": cut,
        "boxes that the crops of image.steps leave out": dropped,
    }


def _sized_boxes(rows: pd.DataFrame) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """The boxes of the rows, and the heights and widths of their images."""
    return boxes_of(rows, labels_of(rows)), rows["height"].to_numpy(float), rows["width"].to_numpy(float)


def _box_spec(labels: int) -> dict[str, Any]:
    tf = import_tensorflow()
    ragged = {"boxes": tf.io.RaggedFeature(tf.float32), "box_labels": tf.io.RaggedFeature(tf.int64)}
    return {**_label_spec(labels), **ragged}


def _box_keys(example: dict[str, Any], shape: Sequence[int], padding: int) -> dict[str, Any]:
    """`boxes` float32 [N, 4] in pixels, `box_labels` int32 [N] and `box_mask` bool [N], padded to N boxes."""
    tf = import_tensorflow()
    boxes = tf.reshape(example["boxes"], (-1, 4)) * tf.constant([shape[1], shape[0]] * 2, tf.float32)
    count = tf.shape(boxes)[0]
    return {
        **example,
        "boxes": tf.ensure_shape(tf.pad(boxes, [[0, padding - count], [0, 0]]), (padding, 4)),
        "box_labels": tf.ensure_shape(
            tf.pad(tf.cast(example["box_labels"], tf.int32), [[0, padding - count]]), (padding,)
        ),
        "box_mask": tf.range(padding) < count,
    }


def _label_arrays(features: dict[str, list[Any]], labels: int, shape: Sequence[int], padding: int) -> dict[str, Any]:
    return {"label": np.array(features["label"], np.float32).reshape(labels)}


def _box_arrays(features: dict[str, list[Any]], labels: int, shape: Sequence[int], padding: int) -> dict[str, Any]:
    """What `_box_keys` gives, as arrays."""
    count = len(features["box_labels"])
    boxes, names = np.zeros((padding, 4), np.float32), np.zeros(padding, np.int32)
    shares = np.array(features["boxes"], np.float32).reshape(count, 4)
    boxes[:count] = shares * np.array([shape[1], shape[0]] * 2, np.float32)
    names[:count] = features["box_labels"]
    mask = np.arange(padding) < count
    return {**_label_arrays(features, labels, shape, padding), "boxes": boxes, "box_labels": names, "box_mask": mask}


def _box_padding(rows: pd.DataFrame, most: int | None) -> int:
    counts = rows[BOXES].map(len)
    needed = int(counts.max()) if len(counts) else 0
    if most is None:
        return max(1, needed)
    if needed > most:
        name = rows["id"].iloc[int(counts.argmax())]
        raise ConfigError(f"input.most_boxes = {most}, but {name} has {needed} boxes: make it {needed}, or null")
    return most


_FORMATS = {
    "probabilities": TargetFormat(
        _label_features,
        _label_spec,
        keys=lambda example, shape, padding: example,
        arrays=_label_arrays,
        padding=lambda rows, most: 0,
        remarks=lambda rows, image: {},
    ),
    "boxes": TargetFormat(
        _box_features,
        _box_spec,
        _box_keys,
        _box_arrays,
        _box_padding,
        _box_remarks,
        stored=("label", "boxes", "box_labels"),
        columns=(BOXES, LABELS, "width", "height"),
        ragged=True,
    ),
}

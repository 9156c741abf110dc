"""Pseudo-labels: test images that an earlier run is sure of, as further training records (Lee 2013)."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.data.records import tfrecord
from kit.data.records.manifest import Records
from kit.data.records.shards import Shard
from kit.tables import predicted_labels, probabilities, truth_columns


def sure_labels(predictions: pd.DataFrame, exclusive: bool, above: float, below: float) -> pd.DataFrame:
    """Columns id and `y_*` (1., 0., or NaN: not sure) of the rows of `predictions` (id, `p_*`) with one sure label.

    A label is 1 from `above` on and 0 up to `below`; of exclusive classes the likeliest counts, from `above` on.
    """
    labels = predicted_labels(predictions)
    p = probabilities(predictions, labels).astype(np.float64)
    y = np.where(p >= above, 1.0, np.where(p <= below, 0.0, np.nan))
    if exclusive:
        likeliest = np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
        y = np.where(p.max(axis=1, keepdims=True) >= above, likeliest.astype(float), np.nan)
    table = pd.DataFrame(y.astype(np.float32), columns=truth_columns(labels))
    table.insert(0, "id", predictions["id"].to_numpy())
    return table.dropna(subset=truth_columns(labels), how="all").reset_index(drop=True)


def with_pseudo_labels(records: Records, labels: pd.DataFrame, shard: Path) -> Records:
    """The records with a further cell, number `records.cells`: the test images of `labels` (id, `y_*`), so labelled.

    They are written to `shard`, the same bytes for the same arguments.
    """
    label_of = labels.set_index("id")
    names = truth_columns(records.labels)

    def examples() -> Iterator[bytes]:
        for path in records.shard_paths(None):
            for data in tfrecord.read_records(path):
                example = tfrecord.parse(data)
                if (name := example["id"][0].decode()) in label_of.index:
                    label = label_of.loc[name, names].to_numpy(float).tolist()
                    yield tfrecord.framed(tfrecord.serialise({**example, "label": label}))

    digest, size, count = hashlib.sha256(), 0, 0
    with files.replacing(shard) as part, part.open("wb") as file:
        for record in examples():
            file.write(record)
            digest.update(record)
            size, count = size + len(record), count + 1
    rows = records.rows(None)
    rows = rows[rows["id"].isin(label_of.index)].assign(cell=records.cells)
    rows[names] = label_of.loc[rows["id"], names].to_numpy()
    added = Shard(file=str(shard.resolve()), cell=records.cells, examples=count, bytes=size, sha256=digest.hexdigest())
    table = pd.concat([records.table, rows], ignore_index=True)
    return replace(records, shards=(*records.shards, added), table=table)

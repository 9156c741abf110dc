"""Pseudo-labels: test images that an earlier run is sure about, as further training records (Lee 2013)."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.data.records import tfrecord
from kit.data.records.manifest import Records, rows_of
from kit.data.records.shards import Shard
from kit.tables import predicted_labels, probabilities, truth_columns


def sure_labels(predictions: pd.DataFrame, exclusive: bool, above: float, below: float) -> pd.DataFrame:
    """The rows of `predictions` (id, `p_*`) with at least one sure label, as id and `y_*` (1, 0, or NaN: unsure).

    A label is 1 where p ≥ `above` and 0 where p ≤ `below`. Of exclusive classes the likeliest is 1 and the others are 0
    where its p ≥ `above`.
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
    """The records with one more cell, number `records.cells`: the test images that `labels` (id, `y_*`) names.

    They are written to `shard`; the same arguments give the same bytes.
    """
    names = truth_columns(records.labels)
    rows = records.rows(None)
    rows = rows[rows["id"].isin(labels["id"])].assign(cell=records.cells)
    rows[names] = labels.set_index("id").loc[rows["id"], names].to_numpy()
    targets = {row.id: row.target for row in rows_of(rows, records.task, records.image)}

    def examples() -> Iterator[bytes]:
        for path in records.shard_paths(None):
            for data in tfrecord.read_records(path):
                example = tfrecord.parse(data)
                if (name := example["id"][0].decode()) in targets:
                    yield tfrecord.serialise({**example, **targets[name]})

    with files.replacing(shard) as part, part.open("wb") as file:
        count, size, sha256 = tfrecord.write_records(file, examples())
    added = Shard(file=str(shard.resolve()), cell=records.cells, examples=count, bytes=size, sha256=sha256)
    table = pd.concat([records.table, rows], ignore_index=True)
    return replace(records, shards=(*records.shards, added), table=table)

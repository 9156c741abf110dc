"""Records whose training labels are replaced: the same images in the same order, in shards of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.data.records import tfrecord
from kit.data.records.manifest import Records
from kit.data.records.shards import Shard
from kit.tables import truth_columns


def with_labels(records: Records, labels: pd.DataFrame, cells: Sequence[int], folder: Path) -> Records:
    """The records with other labels (id, `y_*` float32, a row for each image of these cells) in some training cells.

    Their shards are written into `folder`; the same arguments give the same bytes.
    """
    names = truth_columns(records.labels)
    target = dict(zip(labels["id"], labels[names].to_numpy(np.float32).tolist(), strict=True))
    shards = [_rewritten(records, shard, target, folder) if shard.cell in cells else shard for shard in records.shards]
    table = records.table.copy()
    inside = table["cell"].isin(cells)
    y = [target[name] for name in table["id"][inside]]
    table[names] = table[names].astype(np.float32)
    table.loc[inside, names] = np.array(y, np.float32).reshape(len(y), len(names))
    return replace(records, shards=tuple(shards), table=table)


def _rewritten(records: Records, shard: Shard, target: dict[str, list[float]], folder: Path) -> Shard:
    def examples() -> Iterator[bytes]:
        for data in tfrecord.read_records(records.directory / shard.file):
            example = tfrecord.parse(data)
            yield tfrecord.serialise({**example, "label": target[example["id"][0].decode()]})

    path = folder / Path(shard.file).name
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part, part.open("wb") as file:
        count, size, sha256 = tfrecord.write_records(file, examples())
    return Shard(file=str(path.resolve()), cell=shard.cell, examples=count, bytes=size, sha256=sha256)

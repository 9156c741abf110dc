"""Records -> pooled features of frozen backbones, each image once, kept beside the records for all folds and runs.

`RECORDS/features/KEY/SHARD.parquet`: `id`, and for every kind of pooling a list of float32 of one length. The key says
what they depend on beside the shard: network, weights, views, image settings and precision. A shard's file is written
whole and names the shard's SHA-256, so what was killed goes on, and a shard with other content is computed again.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kit import files
from kit.data.records.batches import eval_batches
from kit.data.records.manifest import Records
from kit.data.records.shards import Shard
from kit.errors import counted
from kit.parallel import progress_bar
from kit.predict.features import Features, pooled, stacked
from kit.runtime import devices, session
from kit.runtime.devices import Device

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)
_VERSION, _SHARD = 1, "shard"  # of the files; the key of their metadata that holds the SHA-256 of the shard


@dataclass(frozen=True)
class Source:
    """One frozen network of a model, and the folder of its features."""

    name: str
    network: "keras.Model"
    views: str
    pool: Sequence[str] | None
    folder: Path

    @cached_property
    def extractor(self) -> "keras.Model":
        """Images -> pooled features; compiled once."""
        from kit.models import frozen

        return frozen.extractor(self.network, self.views, self.pool)

    def path(self, shard: str) -> Path:
        """The file of the features of a shard."""
        return self.folder / f"{Path(shard).stem}.parquet"


class OutOfTime(Exception):
    """The deadline came before all features were computed; those of whole shards are kept."""


def sources(model: "keras.Model", arguments: Mapping[str, Any], records: Records, run: Path) -> list[Source]:
    """The networks of a model that kit.models.frozen built from `arguments` (at least its own), with their folders.

    Features are kept beside the records; where these cannot be written to, beside the run.
    """
    import keras

    from kit.models import frozen

    views, pool = arguments.get("views", "none"), arguments.get("pool")
    named = frozen.backbones(arguments.get("backbone", frozen.DEFAULT), arguments.get("backbone_arguments"))
    root = writable_beside(records.directory, run) / "features"
    every = []
    for (name, own), network in zip(named, frozen.networks(model), strict=True):
        key = {
            "version": _VERSION,
            "network": name,
            "arguments": dict(own),
            "weights": frozen.digest(network),
            "views": views,
            "pool": frozen.pooling_of(network, pool),
            "image": records.fingerprints.image,
            "precision": keras.config.dtype_policy().name,
        }
        folder = root / files.fingerprint(key)[:16]
        every.append(Source(name, network, views, [pool] if isinstance(pool, str) else pool, folder))
    return every


def writable_beside(records: Path, run: Path) -> Path:
    """The folder of the records; where it cannot be written to, a scratch folder, or the one that the run is in."""
    return records if os.access(records, os.W_OK) else session.scratch() or run.parent


def features_of(
    every: Sequence[Source],
    records: Records,
    cells: list[int] | None,
    batch_size: int,
    device: Device,
    deadline: float | None = None,
) -> tuple[list[str], np.ndarray]:
    """Ids and features float32 [n, d] of some training cells or the test set (None), computing what is missing.

    They are what the head of the model takes: the networks' side by side, each with its kinds of pooling in order.
    Raises OutOfTime when the deadline (of `time.monotonic()`) comes first.
    """
    from kit.models.frozen import kinds_of

    ids = records.rows(cells)["id"].tolist()
    parts: list[np.ndarray] = []
    for source in every:
        features = _complete(source, records, cells, batch_size, device, deadline)
        parts += [features[kind] for kind in (kinds_of(features, source.pool, source.name) if ids else ())]
    return ids, np.concatenate(parts, axis=1) if parts else np.empty((0, 0), np.float32)


def _complete(
    source: Source,
    records: Records,
    cells: list[int] | None,
    batch_size: int,
    device: Device,
    deadline: float | None,
) -> Features:
    """All kinds of features of these cells, in the order of the rows; what is missing is computed first."""
    rows = _rows_of_shards(records, cells)
    present = {shard.file: _read(source, shard, examples) for shard, examples in rows}
    missing = [(shard, examples) for shard, examples in rows if present[shard.file] is None]
    if missing:
        _extract(source, records, missing, cells, batch_size, device, deadline)
        present |= {shard.file: _read(source, shard, examples) for shard, examples in missing}
    if lost := [name for name, features in present.items() if features is None]:
        raise files.damaged(source.path(lost[0]), "it is not as it was written", "run the same command again")
    return stacked([features for features in present.values() if features is not None])


def _rows_of_shards(records: Records, cells: list[int] | None) -> list[tuple[Shard, pd.DataFrame]]:
    """The shards of some training cells, or of the test set, that hold anything, each with its example rows."""
    chosen: set[int | None] = {None} if cells is None else set(cells)
    by_cell = {cell: records.rows(None if cell is None else [cell]) for cell in chosen}
    first: Counter[int | None] = Counter()
    rows = []
    for shard in records.shards:
        if shard.cell in chosen and shard.examples:
            start = first[shard.cell]
            rows.append((shard, by_cell[shard.cell].iloc[start : start + shard.examples]))
            first[shard.cell] += shard.examples
    return rows


def _extract(
    source: Source,
    records: Records,
    missing: list[tuple[Shard, pd.DataFrame]],
    cells: list[int] | None,
    batch_size: int,
    device: Device,
    deadline: float | None,
) -> None:
    """Compute and write the features of shards, each as soon as it is complete."""
    table = pd.concat([examples for _, examples in missing])
    part = replace(records, shards=tuple(shard for shard, _ in missing), table=table)
    total, started = len(table), time.monotonic()
    size = device.eval_batch(min(batch_size, len(records.table)))
    ids: list[str] = []
    parts: list[Features] = []
    waiting = [shard for shard, _ in missing]
    with devices.alone(device), progress_bar("features", "image", total) as bar:
        for names, features in pooled(source.extractor, eval_batches(part, cells, size)):
            ids += names
            parts.append(features)
            while waiting and len(ids) >= waiting[0].examples:
                shard, every = waiting.pop(0), stacked(parts)
                count = shard.examples
                _write(source, shard, ids[:count], {kind: rows[:count] for kind, rows in every.items()})
                ids, parts = ids[count:], [{kind: rows[count:] for kind, rows in every.items()}]
            bar.update(len(names))
            if waiting and deadline is not None and time.monotonic() >= deadline:
                raise OutOfTime
    seconds = time.monotonic() - started
    log.info(
        f"features of {source.name}: {counted(total, 'image')} in {seconds:.0f} s ({total / seconds:.0f} images/s), "
        f"kept in {source.folder}"
    )


def _write(source: Source, shard: Shard, ids: list[str], features: Features) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        kind: pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        for kind, rows in features.items()
    }
    table = pa.table({"id": pa.array(ids, pa.string()), **columns})
    with files.replacing(source.path(shard.file)) as part:
        table = table.replace_schema_metadata({_SHARD: shard.sha256})
        parquet.write_table(table, part, use_dictionary=False, compression="none", write_statistics=False)


def _read(source: Source, shard: Shard, examples: pd.DataFrame) -> Features | None:
    """The features of a shard; None where there are none, of other content, or damaged."""
    from pyarrow import ArrowException, parquet

    path = source.path(shard.file)
    if not path.is_file():
        return None
    try:
        table = parquet.read_table(path)
        if (table.schema.metadata or {}).get(_SHARD.encode()) != shard.sha256.encode():
            return None
        if table["id"].to_pylist() != examples["id"].tolist():
            return None
        columns = {name: table[name].combine_chunks() for name in table.column_names if name != "id"}
        features = {kind: np.asarray(rows.flatten()).reshape(len(table), -1) for kind, rows in columns.items()}
    except (ArrowException, OSError, KeyError, ValueError, AttributeError):
        log.info(f"{path} is damaged: computed again")
        return None
    return features if all(np.isfinite(rows).all() for rows in features.values()) else None

"""Records -> pooled features of frozen backbones, each image once, kept beside the records for all folds and runs.

`RECORDS/features/KEY/SHARD.parquet`: `id`, and for every kind of pooling a list of float32 of one length. The key says
what they depend on beside the shard: network, weights, views, image settings and precision. A shard's file is written
whole and names the shard's SHA-256, so what was killed goes on, and a shard with other content is computed again.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
_VERSION = 1  # of the files


@dataclass(frozen=True)
class Source:
    """One frozen network of a model, and the folder of its features."""

    name: str
    network: "keras.Model"
    views: str
    pool: Sequence[str] | None
    folder: Path


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
    root = _writable(records.directory, run) / "features"
    every = []
    for (name, own), network in zip(named, frozen.networks(model), strict=True):
        key = {
            "version": _VERSION,
            "network": name,
            "arguments": dict(own),
            "weights": frozen.digest(network),
            "views": views,
            "image": records.fingerprints.image,
            "precision": keras.config.dtype_policy().name,
        }
        folder = root / files.fingerprint(key)[:16]
        every.append(Source(name, network, views, [pool] if isinstance(pool, str) else pool, folder))
    return every


def _writable(records: Path, run: Path) -> Path:
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
        tables = _complete(source, records, cells, batch_size, device, deadline)
        features = stacked(tables)
        width = source.network.output_shape[-1]
        kinds = kinds_of(features, source.pool, source.name) if features else []
        parts += [features[kind] for kind in kinds] or [np.empty((0, width), np.float32)]
    return ids, np.concatenate(parts, axis=1)


def _complete(
    source: Source,
    records: Records,
    cells: list[int] | None,
    batch_size: int,
    device: Device,
    deadline: float | None,
) -> list[Features]:
    """The features of each shard, in order."""
    rows = _rows_of_shards(records, cells)
    present = {shard.file: _read(source, shard, names) for shard, names in rows}
    missing = [shard for shard, _ in rows if present[shard.file] is None]
    if missing:
        names = {shard.file: names for shard, names in rows}
        _extract(source, _part(records, missing, names), cells, batch_size, device, deadline)
        present |= {shard.file: _read(source, shard, names[shard.file]) for shard in missing}
    return [features for features in present.values() if features is not None]

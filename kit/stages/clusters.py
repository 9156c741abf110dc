"""Training images that look alike, each cluster predicted by a head that has seen none of it.

The nearest to another scanner, or another stain, that one data set allows: what a change of source may cost.
"""

import logging
import time
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kit import files
from kit.data.pixels import appearance as pixels
from kit.data.records.batches import eval_batches
from kit.data.records.manifest import Records
from kit.data.table.appearance import Clusters, cluster
from kit.errors import DataError
from kit.parallel import progress_bar
from kit.run import Run
from kit.runtime import devices
from kit.stages.features import features_of, sources, writable_beside
from kit.stages.fold import Fold, fitted_part, fold_seed
from kit.stages.head import predicted, rows_to_fit
from kit.stages.model import build_frozen
from kit.tables import truth, with_probabilities

log = logging.getLogger(__name__)
_VERSION, _TABLE, _KEY = 1, "appearance.parquet", "key"  # of the numbers; their file; what they are made of, in it
_BATCH = 256
_TRAITS = 2  # by which a cluster is described


def leave_out_clusters(run: Run, fold: Fold) -> None:
    """Write `RUN/clusters.parquet`, unless that is done: what heads fitted without each cluster say of its images.

    `fold` is any of the run, all of which are trained. There is none where the out-of-fold predictions have something
    that these would not: a network trained whole, views at prediction, pseudo-labels, weights of a run (which has seen
    the clusters); nor where no two clusters look different.
    """
    config = fold.config
    comparable = config.predict.tta == "none" and not (config.pseudo.run or config.train.relabel.run)
    if fitted_part(config) != "head" or not comparable or (config.model.weights or "").startswith("run:"):
        return _forget(run)
    inputs = {"version": _VERSION, **{name: value for name, value in fold.inputs.items() if name != "fold"}}
    if files.is_done(run.clusters_done, inputs):
        return None
    table = _left_out(run, fold)
    if table is None:
        return _forget(run)
    files.write_parquet(run.clusters_path, table)
    files.mark_done(run.clusters_done, inputs, [run.clusters_path])
    return None


def appearance_of(records: Records, run: Run) -> pd.DataFrame:
    """The numbers of all training images (kit.data.pixels.appearance), in the order of `records.rows`.

    They are kept beside the records.
    """
    path = writable_beside(records.directory, run.directory) / _TABLE
    cells = [*range(records.cells)]
    ids = records.rows(cells)["id"].tolist()
    key = files.fingerprint([_VERSION, records.fingerprints.training, records.fingerprints.image])
    try:
        table = files.read_parquet(path)
        if table.attrs.get(_KEY) == key and table["id"].tolist() == ids:
            return table[[*pixels.NAMES]]
    except (DataError, KeyError):  # there is none, or it is damaged
        pass
    parts = []
    with progress_bar("appearance", "image", len(ids)) as bar:
        for batch in eval_batches(records, cells, min(_BATCH, len(ids))):
            parts.append(pixels.appearance(batch.images[batch.mask]))
            bar.update(len(batch.ids))
    table = pd.DataFrame(np.concatenate(parts), columns=[*pixels.NAMES])
    kept = table.assign(id=ids)
    kept.attrs[_KEY] = key
    files.write_parquet(path, kept)
    return table


def _left_out(run: Run, fold: Fold) -> pd.DataFrame | None:
    """Columns id, fold (the number of the cluster), looks and `p_*`; None where there are no two clusters."""
    config, records = fold.config, fold.records
    device = devices.set_up(config.runtime)
    from kit.models import frozen
    from kit.train.heads import HEADS

    started, cells = time.monotonic(), [*range(records.cells)]
    examples = records.rows(cells)
    clusters: Clusters = cluster(appearance_of(records, run), examples)
    chosen = [n for n in range(len(clusters.traits)) if _can_be_left_out(clusters.number == n, examples, records)]
    if len(chosen) < 2:
        return None
    model, spec = build_frozen(config, records.image, records.labels, records.task)
    every = sources(model, spec, records, run.directory)
    _, features = features_of(every, records, cells, config.predict.batch_size, device)
    head, name = frozen.head_of(model), spec.get("head", frozen.HEAD)
    parts = []
    for n in chosen:
        held, seed = clusters.number == n, fold_seed(config.seed, n)
        devices.set_seed(seed)
        rows = rows_to_fit(features[~held], examples[~held], records.labels)
        trees = HEADS[name](head, rows, records.task, seed, spec).trees
        p = predicted(head, features[held], trees, examples[held])
        part = examples.loc[held, ["id"]].assign(fold=n, looks=_described(clusters.traits[n]))
        parts.append(with_probabilities(part, p, records.labels))
    sizes = [len(part) for part in parts]
    log.info(
        f"left-out clusters: {len(parts)}, of {min(sizes)} to {max(sizes)} images that look alike, each predicted by a "
        f"head fitted without it ({time.monotonic() - started:.0f} s)"
    )
    return pd.concat(parts).sort_values("id", ignore_index=True)


def _can_be_left_out(held: np.ndarray, examples: pd.DataFrame, records: Records) -> bool:
    """Whether the rest of the images has, of every label, both classes that there are."""
    y = truth(examples, records.labels)
    return all((~side.any(axis=0) | side[~held].any(axis=0)).all() for side in (y > 0.5, y <= 0.5))


def _described(traits: Mapping[str, float]) -> str:
    most = sorted(traits, key=lambda name: -abs(traits[name]))[:_TRAITS]
    return ", ".join(f"{name} {traits[name]:+.1f}" for name in most)


def _forget(run: Run) -> None:
    for path in (run.clusters_done, run.clusters_path):
        path.unlink(missing_ok=True)

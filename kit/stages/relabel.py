"""Hard labels of training images, mixed with what heads of an earlier run say of them out of fold.

The rule against leaks: the label that the model of fold k learns of an image in fold j comes from a head that was
fitted on neither fold. Fold j, as a head knows the labels that it was fitted on by heart; fold k, as the truth of the
images that the model is validated on would else come in by this door. So a head is fitted for each pair of folds, on
the others, which takes seconds on features of a frozen backbone: that is what the earlier run has to be.
"""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from kit import files
from kit.config import Config
from kit.data.records.relabelled import with_labels
from kit.data.table.leaks import assert_no_leak
from kit.errors import ConfigError, LeakError
from kit.models.trust import source_outside
from kit.run import Run
from kit.runtime import devices
from kit.stages.features import features_of, sources
from kit.stages.fold import Fold, fitted_part, fold_seed
from kit.stages.head import predicted, rows_to_fit
from kit.stages.model import build_frozen
from kit.tables import probabilities, truth, truth_columns, with_probabilities

log = logging.getLogger(__name__)


def relabelled(fold: Fold, deadline: float | None = None) -> Fold:
    """The fold with other labels in what it trains on, where the config asks for that; its own images keep theirs.

    Raises ConfigError for an earlier run that is none of heads, or of other records, LeakError for one that has learnt
    from another run, OutOfTime when the deadline (seconds of `time.monotonic()`) comes before features are computed.
    """
    settings = fold.config.train.relabel
    if settings.run is None:
        return fold
    source = source_of(fold.config, fold)
    state = fold.files.state
    if not state.relabelled.exists():
        table = soft_labels(fold, source, deadline)
        files.write_parquet(state.relabelled, table)
    soft = files.read_parquet(state.relabelled, state.remedy)
    rows = fold.records.rows(fold.train)
    y = truth(rows, fold.records.labels).astype(np.float64)
    q = probabilities(soft.set_index("id").loc[rows["id"]].reset_index(), fold.records.labels).astype(np.float64)
    mixed = (1 - settings.weight) * y + settings.weight * q  # an unknown label stays unknown
    labels = rows[["id"]].assign(**dict(zip(truth_columns(fold.records.labels), mixed.T, strict=True)))
    changed = int(((y > 0.5) != (mixed > 0.5))[~np.isnan(y)].sum())
    log.info(
        f"{fold.title}  labels of {len(rows)} training images mixed with {settings.weight:g} of what heads of "
        f"{settings.run} say that saw neither them nor this fold; {changed} now lean to the other side"
    )
    return replace(fold, records=with_labels(fold.records, labels, fold.train, state.relabelled_records))


def source_of(config: Config, fold: Fold) -> Config:
    """The settings of the run that labels come from, checked."""
    run = Run(config.train.relabel.run or "")
    what = f"train.relabel.run = {run}"
    source, folds, ours = run.config, run.folds, fold.records.fingerprints
    if fitted_part(source) != "head":
        raise ConfigError(
            f"{what} trains networks: labels come from heads on frozen features, of which one is fitted for each pair "
            "of folds (`kit run COMP --quick` makes such a run, in RUN/frozen)"
        )
    if (folds.training, folds.image) != (ours.training, ours.image):
        raise ConfigError(f"{what} has other records: give a run of the same images and image settings")
    if (source.model.weights or "").startswith("run:") or source.pseudo.run or source.train.relabel.run:
        raise LeakError(f"{what} has learnt from another run, whose models may have seen what this run validates on")
    own = config.model
    outside = source_outside(source.model.name, source.model.arguments)
    if (outside and outside != source_outside(own.name, own.arguments)) or (
        source.model.weights not in ("none", "imagenet", None, own.weights)
    ):
        raise ConfigError(
            f"{what} builds on something outside it, {outside or source.model.weights}, which this run does not: give "
            "one of a network of kit's own, with its own weights"
        )
    if len(fold.cells) < 3:
        raise ConfigError("train.relabel needs 3 folds or more: a head is fitted on the others of each two")
    return source


def soft_labels(fold: Fold, source: Config, deadline: float | None = None) -> pd.DataFrame:
    """What heads say of the images that fold k trains on (id, `p_*`), those of fold j by one fitted without j and k."""
    records, k = fold.records, fold.k
    device = devices.set_up(fold.config.runtime)
    from kit.models import frozen
    from kit.train.heads import HEADS

    model, spec = build_frozen(source, records.image, records.labels, records.task)
    every = sources(model, spec, records, fold.files.folder.parent)
    cells = [*range(records.cells)]
    ids, features = features_of(every, records, cells, source.predict.batch_size, device, deadline)
    examples = records.rows(cells).set_index("id", drop=False).loc[ids].reset_index(drop=True)
    head, name = frozen.head_of(model), spec.get("head", frozen.HEAD)
    parts = []
    for j in (j for j in range(len(fold.cells)) if j != k):
        held, fitted = _rows_of_pair(examples, fold.cells, j, k)
        assert_no_leak(examples[fitted], examples[~fitted])
        # The same for (j, k) and (k, j), so that a pair of folds is one head.
        seed = fold_seed(source.seed, len(fold.cells) * min(j, k) + max(j, k))
        devices.set_seed(seed)
        rows = rows_to_fit(features[fitted], examples[fitted], records.labels)
        trees = HEADS[name](head, rows, records.task, seed, spec).trees
        p = predicted(head, features[held], trees, examples[held])
        parts.append(with_probabilities(examples.loc[held, ["id"]], p, records.labels))
    return pd.concat(parts, ignore_index=True)


def _rows_of_pair(examples: pd.DataFrame, cells: list[list[int]], j: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are of fold j, and which of neither j nor k: bool [rows] each."""
    cell = examples["cell"]
    return cell.isin(cells[j]).to_numpy(), ~cell.isin([*cells[j], *cells[k]]).to_numpy()

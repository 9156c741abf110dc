"""Whether a training set can be split into so many folds, and what they lack: known before anything is built."""

import numpy as np
import pandas as pd

from kit.data.table.cells import CELLS, split_folds
from kit.data.table.fold_columns import deal_cells
from kit.errors import ConfigError, some
from kit.tables import truth

_FEW = 5000  # groups: of more, every fold gets its share of all but the rarest labels, and dealing them takes a second


def check_folds(table: pd.DataFrame, labels: tuple[str, ...], folds: int, seed: int, batch_size: int) -> list[str]:
    """Remarks on the folds of a training table without cells yet; raises ConfigError as `check_dealt`.

    It also raises where there are fewer groups than folds.
    """
    groups = table["group"].nunique()
    if groups == 1:
        raise ConfigError(f"all training images ({len(table)}) are of one group (patient): cross-validation needs two")
    if groups < folds:
        what = "training images" if groups == len(table) else f"groups (patients) of {len(table)} images"
        raise ConfigError(
            f"folds = {folds}, but there are {groups} {what}, and none can be in two folds: "
            f"--set folds={_most_folds(table, labels)}"
        )
    if groups > _FEW:
        _require_batch(len(table) - -(-len(table) // folds), batch_size)
        return []
    cell = deal_cells(table)
    cells = int(cell.max()) + 1
    if cells >= CELLS and cells % folds:
        return []  # split_folds says so
    return check_dealt(table.assign(cell=cell), labels, split_folds(cells, folds, seed), batch_size)


def check_dealt(table: pd.DataFrame, labels: tuple[str, ...], folds: list[list[int]], batch_size: int) -> list[str]:
    """Remarks on labels that a fold lacks, from a training table with `cell`, and the cells of each fold.

    Raises ConfigError for a fold without any image, and where a batch is larger than what a fold trains on.
    """
    held = [table["cell"].isin(cells).to_numpy() for cells in folds]
    if empty := [str(k) for k, valid in enumerate(held) if not valid.any()]:
        raise ConfigError(f"fold {some(empty)} of {len(folds)} has no image that can be read: set fewer folds")
    _require_batch(min(int((~valid).sum()) for valid in held), batch_size)
    y = truth(table, labels)
    notes = []
    fewer = _most_folds(table, labels)
    remedy = f"; --set folds={fewer} gives each fold some" if fewer < len(folds) else ""
    for n, label in enumerate(labels):
        positive = y[:, n] > 0.5
        lacks = [str(k) for k, valid in enumerate(held) if not positive[valid].any()]
        if any(not positive[~valid].any() for valid in held):
            notes.append(f"noticed: one fold holds all {_count(positive)} of {label}: its model never sees one")
        elif lacks:
            notes.append(
                f"noticed: {len(lacks)} of {len(folds)} folds have no image of {label} (there are {_count(positive)}): "
                f"they have no score of their own, and the score over all folds is uncertain{remedy}"
            )
    if len(labels) == 1 and (full := [k for k, valid in enumerate(held) if not (y[valid, 0] < 0.5).any()]):
        notes.append(f"noticed: {len(full)} of {len(folds)} folds have images of {labels[0]} alone{remedy}")
    return notes


def _most_folds(table: pd.DataFrame, labels: tuple[str, ...]) -> int:
    """As many folds as there are groups; of one label, as have positives, and negatives, where two or more have."""
    groups = table["group"].nunique()
    if len(labels) != 1:
        return groups
    y = truth(table, labels)[:, 0]
    fewest = min(table["group"][side].nunique() for side in (y > 0.5, y < 0.5))
    return min(groups, fewest) if fewest > 1 else groups


def _count(positive: np.ndarray) -> str:
    count = int(positive.sum())
    return f"{count} image{'s' * (count != 1)}"


def _require_batch(images: int, batch_size: int) -> None:
    if images < batch_size:
        fits = 2 ** max(0, images.bit_length() - 1)
        raise ConfigError(
            f"train.batch_size = {batch_size}, but a fold trains on {images} images: make it smaller, such as "
            f"--set train.batch_size={fits}"
        )

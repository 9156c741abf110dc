"""Leak-free stratified cells: the training groups dealt into C cells; a fold of K is a union of C / K cells.

Cells are made once, when records are built, so that one set of records serves every K that divides C and every seed of
the folds. The dealing follows scikit-learn's StratifiedGroupKFold in spirit (hardest groups first, each to where it
unbalances least), with a score cheap enough for 220,000 groups that breaks ties by cell number; so equal groups go
round the cells in order, and any K neighbouring cells are alike.
"""

import hashlib

import numpy as np
import pandas as pd

from kit.data.examples import label_columns
from kit.errors import ConfigError, LeakError

CELLS = 60  # divisible by 2, 3, 4, 5, 6, 10, 12, 15, 20, 30
_FEWER = (30, 12, 10, 6, 4, 2)


def count_cells(groups: int) -> int:
    """How many cells a set of that many groups gets: 60, or fewer when there are not that many groups."""
    return next((cells for cells in (CELLS, *_FEWER) if cells <= groups), 1)


def assign_cells(table: pd.DataFrame, seed: int = 0) -> pd.Series:
    """The cell (int64, 0 ≤ cell < C) of every row of a training table with columns id, group and `y_<label>`.

    No group stands in two cells. Depends on groups, labels and seed alone, not on the order of rows. Unknown labels
    (NaN) count as a kind of their own. Returns a Series with the table's index.
    """
    counts = _counts_by_group(table)
    cells = count_cells(len(counts))
    # Each column's squared deviation from its mean per cell, relative to that mean: rare labels weigh as much as rows.
    weight = (cells / counts.sum().to_numpy()) ** 2
    values = counts.to_numpy() * np.sqrt(weight)
    ties = [hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest() for group in counts.index]
    order = sorted(range(len(counts)), key=lambda g: (-float((values[g] ** 2).sum()), ties[g]))
    held = np.zeros((cells, values.shape[1]))
    cell_of = np.empty(len(counts), np.int64)
    for g in order:
        # Adding v to cell c raises the sum of squares by 2 held[c]·v + v·v: the least is where held[c]·v is least.
        # Rounding first, so that cells equal but for floating-point noise count as a tie.
        cell = int(np.argmin(np.round(held @ values[g], 9)))
        held[cell] += values[g]
        cell_of[g] = cell
    return table["group"].map(pd.Series(cell_of, index=counts.index)).astype("int64")


def split_folds(cells: int, folds: int, seed: int) -> list[list[int]]:
    """The cells of each of K folds, shuffled by the seed; raises ConfigError unless K divides the number of cells.

    Every run of K consecutive cells gives one cell to each fold: what was dealt evenly to neighbours stays even.
    """
    if folds > cells or cells % folds:
        usable = ", ".join(str(k) for k in range(2, cells + 1) if cells % k == 0)
        raise ConfigError(f"folds = {folds}: these records have {cells} cells, so folds can be {usable}")
    rng = np.random.default_rng(seed)
    dealt = np.stack([rng.permutation(folds) + start for start in range(0, cells, folds)])
    return [sorted(int(cell) for cell in dealt[:, fold]) for fold in range(folds)]


def assert_no_leak(train: pd.DataFrame, valid: pd.DataFrame) -> None:
    """Raise LeakError when a group or an id of `train` stands in `valid` too."""
    for column in ("group", "id"):
        shared = set(train[column]) & set(valid[column])
        if shared:
            raise LeakError(f"{len(shared)} {column}s stand in both training and validation, such as {min(shared)!r}")


def _counts_by_group(table: pd.DataFrame) -> pd.DataFrame:
    """Rows, positives and unknowns of every group, sorted by group; columns that never occur left out."""
    labels = table[label_columns(table)]
    columns = {"rows": pd.Series(1.0, index=table.index)}
    for name in labels:
        columns[f"{name} positive"] = (labels[name] > 0.5).astype(float)
        columns[f"{name} unknown"] = labels[name].isna().astype(float)
    counts = pd.DataFrame(columns).groupby(table["group"]).sum().sort_index()
    return counts.loc[:, counts.sum() > 0]

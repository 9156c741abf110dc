"""Leak-free stratified cells: the training groups dealt into C cells; a fold of K is a union of C / K cells, or nearly.

Cells are assigned once, when records are built, so that one set of records serves every K that divides C and every seed
of the folds. The dealing follows scikit-learn's StratifiedGroupKFold in spirit (hardest groups first, each to where it
unbalances least), with a score cheap enough for 220,000 groups that breaks ties by cell number; so equal groups go
round the cells in order, and any K neighbouring cells are alike.
"""

import hashlib

import numpy as np
import pandas as pd

from kit.errors import ConfigError
from kit.tables import truth

CELLS = 60  # divisible by 2, 3, 4, 5, 6, 10, 12, 15, 20, 30


def count_cells(groups: int) -> int:
    """The number of cells for a number of groups: 60; of fewer groups each is a cell of its own, for any folds."""
    return max(1, min(CELLS, groups))


def assign_cells(table: pd.DataFrame, seed: int = 0) -> pd.Series:
    """The cell (int64, 0 ≤ cell < C) of every row of a training table with columns group and `y_<label>`.

    No group is in two cells. The cells depend on groups, labels and seed alone, not on the order of rows. Unknown
    labels (NaN) count as a class of their own. Returns a Series with the table's index.
    """
    codes, groups = pd.factorize(table["group"], sort=True)
    counts = _counts_by_group(table, codes)
    cells = count_cells(len(groups))
    # Each column's squared deviation from its mean per cell, relative to that mean: rare labels weigh as much as rows.
    values = counts * (cells / counts.sum(axis=0))
    digests = (hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest() for group in groups)
    ties = np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64, len(groups))
    held = np.zeros((cells, values.shape[1]))
    cell_of = np.empty(len(groups), np.int64)
    for g in np.lexsort((ties, -(values**2).sum(axis=1))):
        # Adding v to cell c raises the sum of squares by 2 held[c]·v + v·v: the least is where held[c]·v is least.
        # Rounding first, so that cells equal but for floating-point noise count as a tie.
        cell = int(np.argmin(np.round(held @ values[g], 9)))
        held[cell] += values[g]
        cell_of[g] = cell
    return pd.Series(cell_of[codes], index=table.index)


def split_folds(cells: int, folds: int, seed: int) -> list[list[int]]:
    """The cells of each of K folds, shuffled by the seed.

    Each K consecutive cells give one cell to every fold, so that what is even between neighbours stays even. Raises
    ConfigError when there are fewer cells than folds, and when K does not divide 60 cells. (Of fewer cells, which hold
    one group each, some folds get one more than others.)
    """
    if folds > cells or (cells % folds and cells >= CELLS):
        usable = [str(k) for k in range(2, cells + 1) if cells < CELLS or cells % k == 0]
        raise ConfigError(
            f"folds = {folds}: these records have {cells} cells, so folds can be "
            + (", ".join(usable) or "none: there is only one group (patient)")
        )
    if folds == cells:
        return [[k] for k in range(folds)]
    rng = np.random.default_rng(seed)
    dealt = [rng.permutation(folds) + start for start in range(0, cells, folds)]
    return [sorted(int(block[fold]) for block in dealt if block[fold] < cells) for fold in range(folds)]


def _counts_by_group(table: pd.DataFrame, codes: np.ndarray) -> np.ndarray:
    """Rows, and positives and unknowns of each label, in each group: float64 [G, columns that are not all 0]."""
    columns: list[np.ndarray] = [np.ones(len(table))]
    for y in truth(table).T:
        columns += [y > 0.5, np.isnan(y)]
    counts = np.stack([np.bincount(codes, column) for column in columns], axis=1)
    return counts[:, counts.any(axis=0)]

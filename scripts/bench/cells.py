"""Cells of the full NIH and RSNA tables: how evenly labels fall into 5 folds, and how long it takes.

    python scripts/bench/cells.py FOLDER

FOLDER holds `Data_Entry_2017.csv` (NIH ChestX-ray14, 112,120 rows) and `stage_2_train_labels.csv` (RSNA, 30,227 rows).
Printed is, over the folds and over labels with at least 500 positives, the furthest that a label's share of a fold's
rows lies from its share of all rows, relative to that; once for the worst label and once in the mean. scikit-learn's
StratifiedGroupKFold, which takes one class per row, is given the set of labels as the class. Iterative stratification
(Sechidis et al. 2011; package iterative-stratification) knows no groups: it says what is possible without them.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine
from sklearn.model_selection import StratifiedGroupKFold

from kit.data.table.cells import assign_cells, split_folds


def nih(folder):
    """The table's 14 findings as columns, a row per image, grouped by patient."""
    raw = pd.read_csv(folder / "Data_Entry_2017.csv")
    findings = raw["Finding Labels"].str.get_dummies("|").drop(columns="No Finding").astype(np.float32)
    rows = {"id": raw["Image Index"], "group": raw["Patient ID"].astype(str)}
    return pd.concat([pd.DataFrame(rows), findings.add_prefix("y_")], axis=1)


def rsna(folder):
    """A row per patient (several boxes are several rows of the file), one label."""
    raw = pd.read_csv(folder / "stage_2_train_labels.csv").groupby("patientId", as_index=False)["Target"].max()
    labels = raw["Target"].astype(np.float32)
    return pd.DataFrame({"id": raw["patientId"], "group": raw["patientId"], "y_pneumonia": labels})


def with_kit(table, folds):
    cell = assign_cells(table)
    fold_of = {c: k for k, cells in enumerate(split_folds(int(cell.max()) + 1, folds, seed=0)) for c in cells}
    return cell.map(fold_of).to_numpy()


def with_scikit_learn(table, folds):
    labels = table.filter(regex="^y_").astype(int).astype(str).agg("".join, axis=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # label sets with fewer rows than folds
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(table, labels, table["group"])
        return folds_of(splits, len(table))


def with_iterative_stratification(table, folds):
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    labels = table.filter(regex="^y_").to_numpy(int)
    labels = np.column_stack([labels, ~labels.any(axis=1)])  # it takes no single column; "no finding" is one more
    return folds_of(MultilabelStratifiedKFold(folds, shuffle=True, random_state=0).split(table, labels), len(table))


def folds_of(splits, count):
    fold = np.empty(count, int)
    for k, (_, test) in enumerate(splits):
        fold[test] = k
    return fold


def deviations(table, fold):
    """For every label with 500 positives: the greatest relative deviation of its share over the folds."""
    labels = table.filter(regex="^y_")
    labels = labels.loc[:, labels.sum() >= 500]
    return (labels.groupby(fold).mean() / labels.mean() - 1).abs().max()


def main():
    folder = Path(sys.argv[1])
    print(machine())
    for name, table in {"NIH": nih(folder), "RSNA": rsna(folder)}.items():
        print(
            f"\n{name}: {len(table)} rows, {table['group'].nunique()} groups, {len(table.columns) - 2} labels, 5 folds"
        )
        for way in (with_kit, with_scikit_learn, with_iterative_stratification):
            started = time.perf_counter()
            try:
                fold = way(table, 5)
            except ImportError as error:
                print(f"  left out: {way.__name__} ({error})")
                continue
            seconds, off = time.perf_counter() - started, deviations(table, fold)
            split = int((table.assign(fold=fold).groupby("group")["fold"].nunique() > 1).sum())
            print(
                f"  {way.__name__.removeprefix('with_'):24} {seconds:7.1f} s   worst label {off.max():.2%} "
                f"({off.idxmax()[2:]})   mean {off.mean():.2%}   rows a fold {np.bincount(fold).min()} to "
                f"{np.bincount(fold).max()}   groups in several folds {split}"
            )


if __name__ == "__main__":
    main()

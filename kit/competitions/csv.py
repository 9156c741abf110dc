"""Your own images with a table: `kit run csv --data DIR --set table=labels.csv --set columns.id=... columns.label=...`.

`columns.id` names images: by path below DIR, by file name, or by file name without its ending. A single label column
holds 0 and 1, or class names; several columns are one label each, 0 or 1, empty where unknown. `columns.group` is the
patient: without it every image is its own group, and patients may be on both sides of a fold. Rows whose
`columns.split` is test are predicted; without that column, rows without any label.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.competitions.folders import SPLITS
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.listing import found_in, list_images, require_folder, stems
from kit.data.table.raw import match, read_table, refuse_rows
from kit.errors import ConfigError, DataError, nearest, some
from kit.tables import labels_of, one_hot

_MOST_CLASSES = 100  # more distinct values than that are not classes


def read(root: Path, source: Source) -> Examples:
    """Examples from the rows of the table; raises DataError for missing columns, values and images."""
    require_folder(root)
    columns = source.columns
    if source.table is None or not (root / source.table).is_file():
        what = f"has no {source.table}" if source.table else "needs a table of labels"
        raise DataError(f"{root} {what}: give one below it with --set table=FILE.csv; found {found_in(root)}")
    path = root / source.table
    optional = [name for name in (columns.group, columns.split) if name is not None]
    raw = read_table(path, [columns.id, *columns.label, *optional], unique=columns.id)
    y, task = _labels(path, raw, columns.label, source.target)
    unlabelled = y.isna().all(axis=1)
    split = pd.Series(np.where(unlabelled, "test", "train"), raw.index)
    if columns.split is not None:
        split = raw[columns.split].str.lower().map(SPLITS)
        refuse_rows(path, raw, split.isna(), columns.split, "train, val or test")
        refuse_rows(
            path, raw, (split == "train") & unlabelled, columns.label[0], "a label, although its split is train"
        )
    rows = pd.concat([pd.DataFrame({"id": raw[columns.id], "split": split}), y], axis=1)
    rows["group"] = _groups(path, raw, columns.group) if columns.group else raw[columns.id]
    images = list_images(root)
    if images.empty:
        raise DataError(f"{root} holds no image; found {found_in(root)}")
    names = _ids(rows["id"], images)
    if len(rows) and not rows["id"].isin(names).any():
        raise DataError(
            f"{path}: the column {columns.id} ({raw[columns.id].iloc[0]!r}, ...) names none of the images below {root} "
            f"({some(images['path'])}): choose another one with --set columns.id=..."
        )
    table, missing, surplus = match(rows, images.assign(id=names))
    return Examples(table, tuple(labels_of(y)), task, missing, surplus)


def _labels(path: Path, raw: pd.DataFrame, names: tuple[str, ...], positive: str | None) -> tuple[pd.DataFrame, str]:
    """The columns `y_<label>`, and the task."""
    values = sorted(set(raw[names[0]]) - {""})
    if len(names) > 1 or set(values) <= {"0", "1", "0.0", "1.0"}:
        if positive is not None:
            raise ConfigError(f"target = {positive!r}: a positive class can only be chosen of two named classes")
        for name in names:
            refuse_rows(path, raw, ~raw[name].isin(["0", "1", "0.0", "1.0", ""]), name, "0, 1 or empty")
        y = {f"y_{name}": pd.to_numeric(raw[name]).astype(np.float32) for name in names}
        return pd.DataFrame(y), "binary" if len(names) == 1 else "multilabel"
    if not 2 <= len(values) <= _MOST_CLASSES:
        raise DataError(
            f"{path}: {names[0]} has {len(values)} distinct values ({some(values)}), not 2 to {_MOST_CLASSES} classes"
        )
    classes = raw[names[0]].replace("", None)
    if len(values) == 2:
        if positive is not None and positive not in values:
            raise ConfigError(f"target = {positive!r} is not one of the classes{nearest(positive, values)}")
        return one_hot(classes, [positive or values[1]]), "binary"
    return one_hot(classes, values), "multiclass"


def _groups(path: Path, raw: pd.DataFrame, column: str) -> pd.Series:
    refuse_rows(path, raw, raw[column] == "", column, "a group (a patient)")
    return raw[column]


def _ids(ids: pd.Series, images: pd.DataFrame) -> pd.Series:
    """Each image as the table names it: by path, file name or stem, whichever matches most rows."""
    path = images["path"]
    kinds = [path, path.str.split("/").str[-1], stems(images)]
    return max(kinds, key=lambda names: ids.isin(names).sum())


COMPETITION = Competition(
    name="csv",
    title="Your own images with a table of labels",
    slug=None,
    targets={"classes": Target("", (), "roc_auc")},
    read=read,
    settings=("target", "table", "columns"),
)

"""The patients of images in a user's table: a column of it, or a pattern of its ids or of paths."""

from pathlib import Path

import pandas as pd

from kit.config.source import ColumnSettings
from kit.data.table.groups import group_by
from kit.data.table.labels import known
from kit.data.table.raw import refuse_rows
from kit.errors import DataError, nearest, share_to_allow


def groups_of(
    path: Path, raw: pd.DataFrame, names: pd.Series, table: pd.DataFrame, ids: pd.Series, columns: ColumnSettings
) -> pd.Series:
    """The group of each image of `table`, None where it has none: a column, or what a pattern finds in ids or paths.

    `names` are the ids of the rows of the file `path` (`raw`, each image once), `ids` those of the images of `table`.
    Raises DataError for more images without a group than `columns.ungrouped` allows.
    """
    if columns.group is None:
        return pd.Series(None, table.index, dtype=object)
    if columns.group in raw.columns:
        groups = known(raw[columns.group])
        empty = groups.isna()
        if empty.mean() > columns.ungrouped:
            share = share_to_allow(empty.sum(), len(empty))
            remedy = f"let these be groups of their own with --set columns.ungrouped={share:g}"
            refuse_rows(path, raw, empty, columns.group, "a group (a patient)", f"complete it, or {remedy}")
        return ids.map(dict(zip(names, groups, strict=True))).astype(object).where(lambda group: group.notna(), None)
    for texts in (table["id"], table["path"]):
        if group_by(texts, columns.group, 1).notna().any():
            return group_by(texts, columns.group, columns.ungrouped)
    raise DataError(
        f"{path} has no column {columns.group!r}{nearest(columns.group, raw.columns)}; and as a pattern it finds "
        f"nothing in the ids, such as {table['id'].iloc[0]!r}, nor in the paths (columns.group)"
    )

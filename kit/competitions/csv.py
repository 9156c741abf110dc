"""Your own images with a table: `kit run csv --data DIR --set table=labels.csv --set columns.id=... columns.label=...`.

`columns.id` names images: by path below DIR, by file name, or by file name without its ending. A single label column
holds 0 and 1, or class names; several columns are one label each, 0 or 1, empty where unknown. `columns.group` is the
patient, a column or a pattern of the ids: without it every image is its own group, and patients may be on both sides of
a fold. Rows whose `columns.split` is test are predicted; without that column, rows without any label. With the target
`boxes` the table has the boxes: kit.data.table.box_examples.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES
from kit.competition import Competition, Target
from kit.config import Source
from kit.data.table.box_examples import TASK, read_box_examples
from kit.data.table.examples import Examples
from kit.data.table.grouped import groups_of
from kit.data.table.groups import describe_groups, patient_hint
from kit.data.table.ids import name_images
from kit.data.table.labels import known, read_labels
from kit.data.table.layout import SPLITS
from kit.data.table.listing import found_in, list_folder, require_folder
from kit.data.table.masks import are_masks
from kit.data.table.raw import match, read_table, refuse_rows
from kit.data.table.unused import patient_column_hint, split_column_hint
from kit.errors import ConfigError, DataError
from kit.tables import CASE, FOLD_OF, is_metadata, labels_of


def read(root: Path, source: Source) -> Examples:
    """Examples from the rows of the table; raises DataError for missing columns, values and images."""
    if source.target == BOXES:
        return read_box_examples(root, source, every_image=False)
    require_folder(root)
    columns = source.columns
    if source.table is None or not (root / source.table).is_file():
        what = f"has no {source.table}" if source.table else "needs a table of labels"
        raise DataError(f"{root} {what}: give one below it with --set table=FILE.csv; found {found_in(root)}")
    path = root / source.table
    used = [columns.id, *columns.label, *([columns.split] if columns.split else []), *columns.metadata, *columns.case]
    used += [columns.fold] if columns.fold else []
    remedy = "choose with --set columns.id=NAME and --set columns.label=NAME"
    raw = read_table(path, used, columns.id, remedy=remedy)
    y, task, remarks = read_labels(path, raw, columns, source.target)
    unlabelled = y.isna().all(axis=1)
    split = pd.Series(np.where(unlabelled, "test", "train"), raw.index)
    if columns.split is None and unlabelled.any():
        what = "rows have" if unlabelled.sum() > 1 else "row has"
        remarks[f"{what} no label and will be predicted as the test set"] = int(unlabelled.sum())
    if columns.split is not None:
        split = raw[columns.split].str.strip().str.lower().map(SPLITS)
        refuse_rows(path, raw, split.isna(), columns.split, "train, val or test")
        bad = (split == "train") & unlabelled
        remedy = "correct it, or delete the row"
        refuse_rows(path, raw, bad, columns.label[0], "a label, although its split is train", remedy)
    metadata, cases = _metadata(path, raw, source), _cases(path, raw, source)
    rows = pd.concat(
        [
            pd.DataFrame({"id": raw[columns.id], "split": split}),
            y,
            metadata,
            cases,
            _folds(path, raw, split, columns.fold),
        ],
        axis=1,
    )
    images, odd = _images(root, source.table, rows["id"])
    names, compared = name_images(path, columns.id, rows["id"], images, columns.loose_ids)
    table, missing, surplus = match(rows, images.assign(id=names))
    groups = groups_of(path, raw, raw[columns.id], table, table["id"], columns)
    if columns.group:
        note: str | None = describe_groups(groups)
    elif columns.case:
        note = f"{describe_groups(table[CASE])}, the cases; where a patient has several: --set columns.group=PATIENT"
    else:
        note = patient_column_hint(raw, used) or patient_hint(table["path"])
    of_split = split_column_hint(raw, used) if columns.split is None else None
    table["group"] = groups.fillna(table[CASE if columns.case else "id"])
    notes = tuple(filter(None, (note, of_split)))
    return Examples(table, tuple(labels_of(y)), task, missing, surplus, remarks | compared | odd, notes)


def _metadata(path: Path, raw: pd.DataFrame, source: Source) -> pd.DataFrame:
    """The columns `columns.metadata`: numbers where all are, else texts; missing where a cell is empty or says so."""
    columns = source.columns
    for name in columns.metadata:
        if name in (columns.id, *columns.label, columns.split, columns.group):
            raise ConfigError(f"columns.metadata: {name!r} is the id, a label, the split or the group: leave it out")
        if not is_metadata(name):
            raise DataError(f"{path}: the column {name!r} cannot be metadata, as kit has one of that name: rename it")
    table = pd.DataFrame({name: known(raw[name], columns.unknown) for name in columns.metadata}, raw.index)
    numbers = {name: pd.to_numeric(texts, errors="coerce") for name, texts in table.items()}
    whole = {name: column for name, column in numbers.items() if (column.notna() == table[name].notna()).all()}
    return table.assign(**{str(name): column for name, column in whole.items()})


def _folds(path: Path, raw: pd.DataFrame, split: pd.Series, column: str | None) -> pd.DataFrame:
    """The column `fold_of`, from that which `columns.fold` names; without one, a table without columns."""
    if column is None:
        return pd.DataFrame(index=raw.index)
    values = known(raw[column])
    refuse_rows(path, raw, values.isna() & (split == "train"), column, "a fold, although its split is train")
    return pd.DataFrame({FOLD_OF: values.astype(object).where(split == "train", None)}, raw.index)


def _cases(path: Path, raw: pd.DataFrame, source: Source) -> pd.DataFrame:
    """The column `case`, from those that `columns.case` names; without any, a table without columns."""
    columns = source.columns.case
    if not columns:
        return pd.DataFrame(index=raw.index)
    for name in columns:
        refuse_rows(path, raw, known(raw[name], source.columns.unknown).isna(), name, "a part of the name of a case")
    names = ["_".join(parts) for parts in zip(*(raw[name].str.strip() for name in columns), strict=True)]
    return pd.DataFrame({CASE: names}, raw.index)


def _images(root: Path, table: str, ids: pd.Series) -> tuple[pd.DataFrame, dict[str, int]]:
    """The images (path, bytes) without masks that no id is the path of, and what is odd about the folder."""
    listing = list_folder(root)
    others = tuple(path for path in listing.others if Path(path) != Path(table))
    images, remarks = listing.images, replace(listing, others=others).remarks()
    masks = are_masks(images["path"]) & ~images["path"].isin(ids)
    if images[~masks].empty:
        raise DataError(f"{root} holds no image; found {found_in(root)}")
    if masks.any():
        remarks["masks beside their pictures, left out"] = int(masks.sum())
    return images[~masks].reset_index(drop=True), remarks


COMPETITION = Competition(
    name="csv",
    title="Your own images with a table of labels",
    slug=None,
    targets={"classes": Target("", (), "roc_auc"), BOXES: Target(TASK, (), "box_ap50")},
    read=read,
    settings=("target", "table", "columns"),
)

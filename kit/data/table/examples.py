"""The example table: one row per image, the contract between a competition's raw files and everything after.

Columns: `id` str, unique; `path` str, relative to the data root; `bytes` int64, the size of the file; `split`
train|test; `group` str (patient, slide; the id when unknown); `case` str, where several images are of one (each case is
of one group, and on one side of the split); a float32 column `y_<label>` for each label (NaN =
unknown); `boxes`, where a competition has them: lists of [x, y, width, height] in pixels of the source. A task that
predicts boxes has `width` and `height` of every image too (NaN of one that cannot be read), y_<label> says whether an
image has a box of the label, and `box_labels`, where there are several, are lists of the boxes' labels. Further columns
are metadata, never used silently.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit import files
from kit.data.table.boxes import require_boxes
from kit.errors import DataError, counted, share_to_allow, some
from kit.tables import CASE, labels_of, truth_columns
from kit.tasks import TASKS, find_task

_COLUMNS = ["id", "path", "bytes", "split", "group"]


@dataclass(frozen=True)
class Examples:
    """The example table with its labels and task, and what is odd about the raw folder.

    `missing` are the ids of labelled or expected images that have no file, `surplus` the paths of images that no table
    names. `remarks` count oddities (what -> how many), such as impossible ages; `notes` are lines on how the folder was
    read, such as which images are one patient's.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    task: str
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    remarks: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def validate(examples: Examples, max_missing: float) -> Examples:
    """The examples with rows sorted by (split, id) and columns in order; raises DataError when they break the contract.

    That is: duplicate ids, rows without a group, splits and labels of other values, no training image, unlabelled
    training rows, rows with several of exclusive classes, labels of which all training images have the same value (of
    boxes: no box in any), and more missing or surplus images than `max_missing` (a share of the images that there
    should be).
    """
    table, y = examples.table, truth_columns(examples.labels)
    absent = {*_COLUMNS, *y} - set(table.columns)
    if absent:
        raise DataError(f"the example table lacks the columns {some(absent)}")
    duplicates = table["id"][table["id"].duplicated()]
    if len(duplicates):
        raise DataError(f"duplicate ids in the example table: {some(set(duplicates))}")
    _require_values(table, examples.labels)
    _require_images(examples, max_missing)
    train = table[table["split"] == "train"]
    if train.empty:
        raise DataError("the raw folder has no training image")
    if train[y].isna().all(axis=1).any():
        unlabelled = train["id"][train[y].isna().all(axis=1)]
        raise DataError(
            f"{counted(len(unlabelled), 'training image has', 'training images have')} no label: {some(unlabelled)}"
        )
    if find_task(examples.task).exclusive:
        several = table["id"][table[y].notna().all(axis=1) & (table[y].sum(axis=1) != 1)]
        if len(several):
            raise DataError(f"{counted(len(several), 'image has', 'images have')} no class or several: {some(several)}")
    if CASE in table.columns:
        _require_cases(table, y, find_task(examples.task).exclusive)
    remarks = examples.remarks | _LEARNABLE[find_task(examples.task).prediction](train, examples.labels, examples.task)
    others = [column for column in table.columns if column not in (*_COLUMNS, *y)]
    table = table.sort_values(["split", "id"], ignore_index=True)[[*_COLUMNS, *y, *others]]
    return replace(examples, table=table, remarks=remarks)


def require_both_values(train: pd.DataFrame, labels: tuple[str, ...], task: str) -> dict[str, int]:
    """A remark (what -> how many) on labels of which all training images have the same value.

    Raises DataError when that is so of all labels, or when all images are of one class: nothing can be learnt, and no
    metric is defined.
    """
    y = _numbers(train, labels)
    positive = {label: bool((values > 0.5).any()) for label, values in zip(labels, y.T, strict=True)}
    negative = {label: bool((values <= 0.5).any()) for label, values in zip(labels, y.T, strict=True)}
    if find_task(task).exclusive:
        only = [label for label in labels if positive[label]]
        if len(only) < 2:
            raise DataError(
                f"all {len(train)} training images are of one class, {some(only)}: there is nothing to learn"
            )
        return {}
    constant = [label for label in labels if not (positive[label] and negative[label])]
    if len(constant) == len(labels):
        value = f", {int(positive[labels[0]])}," if len(labels) == 1 else ""
        raise DataError(
            f"all training images have the same value{value} of {some(constant)}: there is nothing to learn. Is it the "
            "right column, or were the others filtered out?"
        )
    if constant:
        return {f"labels have one value in all training images, and cannot be learnt: {some(constant)}": len(constant)}
    return {}


def _require_boxes(train: pd.DataFrame, labels: tuple[str, ...], task: str) -> dict[str, int]:
    """A remark on labels without a box in any training image; raises DataError when that is so of all.

    So it does for boxes that are not sound. That all images have a box is no fault: there is background around it.
    """
    require_boxes(train, labels)
    without = [label for label, y in zip(labels, _numbers(train, labels).T, strict=True) if not (y > 0.5).any()]
    if len(without) == len(labels):
        raise DataError(f"no training image has a box ({some(labels)}): there is nothing to learn")
    if without:
        return {f"labels that have no box in any training image, and cannot be learnt: {some(without)}": len(without)}
    return {}


_LEARNABLE = {"probabilities": require_both_values, "boxes": _require_boxes}  # by what the task predicts


def _require_cases(table: pd.DataFrame, y: list[str], exclusive: bool) -> None:
    """Raise DataError for images without a case, and cases of several groups or splits, or of several classes."""
    if (absent := table[CASE].isna() | (table[CASE].astype(str) == "")).any():
        raise DataError(
            f"{counted(int(absent.sum()), 'image has', 'images have')} no case: {some(table['id'][absent])}"
        )
    for columns, what in (
        (["group"], "groups (patients): a case is of one, which no fold splits"),
        (["split"], "splits (train, test)"),
        *([(y, "classes")] if exclusive else []),
    ):
        known = table.dropna(subset=columns)[[CASE, *columns]].drop_duplicates()
        several = known[CASE][known[CASE].duplicated()]
        if len(several):
            cases = counted(several.nunique(), "case is", "cases are")
            raise DataError(f"{cases} of several {what}; such as {several.iloc[0]} (columns.case)")


def _numbers(table: pd.DataFrame, labels: tuple[str, ...]) -> np.ndarray:
    """The truth, float64 [rows, labels], of whatever dtype the columns are; raises DataError for other than numbers."""
    try:
        columns = [table[column].to_numpy(np.float64, na_value=np.nan) for column in truth_columns(labels)]
    except (TypeError, ValueError) as error:
        raise DataError(f"the labels of the example table are not all numbers: {error}") from error
    return np.array(columns).reshape(len(labels), len(table)).T


def _require_values(table: pd.DataFrame, labels: tuple[str, ...]) -> None:
    """Raise DataError for rows whose split, group or labels are nothing that these columns hold."""
    values = _numbers(table, labels)
    for column, bad, expected in (
        ("split", ~table["split"].isin(["train", "test"]), "train or test"),
        ("group", table["group"].isna() | (table["group"].astype(str) == ""), "a group (the id, where it is unknown)"),
        *(
            (column, (y < 0) | (y > 1), "0, 1 or unknown")
            for column, y in zip(truth_columns(labels), values.T, strict=True)
        ),
    ):
        if bad.any():
            row = table[bad].iloc[0]
            more = f" ({bad.sum()} images are like this)" if bad.sum() > 1 else ""
            raise DataError(f"{column} of the image {row['id']} is {row[column]}, not {expected}{more}")


def _require_images(examples: Examples, max_missing: float) -> None:
    """Raise DataError for more missing or surplus images than allowed; the names of both, where there are both."""
    for names, what, others, of_others in (
        (
            examples.missing,
            ("expected image has no file", "expected images have no file"),
            examples.surplus,
            "files that nothing names",
        ),
        (examples.surplus, ("image is unlabelled", "images are unlabelled"), examples.missing, "names without a file"),
    ):
        total = len(examples.table) + len(names)
        if names and len(names) / total > max_missing:
            both = f" ({of_others}: {some(others)})" if others else ""
            allow = f", or leave them out with --set data.max_missing={share_to_allow(len(names), total):g}"
            remedy = f"Complete the data{allow if len(examples.table) else ''}"
            raise DataError(f"{counted(len(names), *what)}: {some(names)}{both}. {remedy}")


def write_examples(path: Path, examples: Examples) -> None:
    """Write the example table as parquet, with its task in the metadata."""
    table = examples.table.copy()
    table.attrs = {"task": examples.task}
    files.write_parquet(path, table)


def read_examples(path: Path) -> Examples:
    """The examples in a file that `kit examples` wrote, validated again; raises DataError for other files."""
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as parquet ({error}): write it with `kit examples`") from error
    if table.attrs.get("task") not in TASKS:
        raise DataError(f"{path} does not name its task: write it with `kit examples`")
    task, table.attrs = table.attrs["task"], {}
    for column in table.columns[table.map(lambda value: isinstance(value, np.ndarray)).any()]:
        table[column] = [_as_list(value) for value in table[column]]  # boxes: as they were before they were written
    return validate(Examples(table, tuple(labels_of(table)), task), max_missing=0)


def _as_list(value: Any) -> Any:
    return [_as_list(item) for item in value.tolist()] if isinstance(value, np.ndarray) else value

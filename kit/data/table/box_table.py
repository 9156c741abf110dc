"""Boxes in a table of text: a row for each box, with its image, x, y, width, height and maybe a label."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from kit.config.source import ColumnSettings
from kit.data.table.boxes import CORNER, Annotations
from kit.data.table.labels import MOST_CLASSES, known, name_key, number, spellings
from kit.data.table.raw import read_table, refuse_rows
from kit.data.table.vocabulary import NOTHING
from kit.errors import ConfigError, DataError, some

LABEL = "box"  # the label of boxes that have none
_DEFAULT = ColumnSettings()
_REMEDY = "boxes have x and y (upper left), width and height, in pixels; of two corners, width is x2 - x1"
_EMPTY = "an image without a box has no x, y, width and height"


def read_box_table(path: Path, columns: ColumnSettings) -> Annotations:
    """The boxes of a CSV file with the columns x, y, width, height (pixels), `columns.id` and maybe `columns.label`.

    A row without numbers is an image without a box. Boxes without a label are of the label `box`; where labels are 0
    (no box) and 1, the column names the label. Raises DataError, with the line, for cells that are no numbers, rows
    without numbers that look as if they should have some, boxes of a label that means nothing ("normal"), and rows of
    an image that contradict each other.
    """
    raw = read_table(path, CORNER, remedy=_REMEDY)
    image = _id_column(path, raw, columns)
    refuse_rows(path, raw, raw[image].str.strip() == "", image, "the name of an image")
    numbers, has_box = _numbers(path, raw, columns)
    label, remarks = _labels(path, raw, has_box, columns)
    boxes = numbers[has_box].assign(id=raw[image][has_box], label=label)
    if boxes.empty:
        raise DataError(f"{path}: no row has a box: there is nothing to learn")
    _refuse_contradictions(path, raw, image, has_box, columns)
    labels = sorted(boxes["label"].unique(), key=lambda text: (number(text) is None, number(text) or 0, text))
    if len(labels) > MOST_CLASSES:
        raise DataError(f"{path}: boxes have {len(labels)} labels ({some(labels)}), more than {MOST_CLASSES}")
    return Annotations(path, image, raw.drop_duplicates(image), boxes, tuple(labels), remarks=remarks)


def refuse_label_settings(columns: ColumnSettings) -> None:
    """Raise ConfigError for settings of labels that boxes have no use for."""
    if len(columns.label) > 1:
        raise ConfigError(f"columns.label names {len(columns.label)} columns, but boxes have one for their label")
    for setting in ("separator", "soft"):
        if getattr(columns, setting) != getattr(_DEFAULT, setting):
            raise ConfigError(f"columns.{setting} is for labels of images, and not used with target = boxes")


def _id_column(path: Path, raw: pd.DataFrame, columns: ColumnSettings) -> str:
    names = [columns.id, *(["image"] if columns.id == _DEFAULT.id else [])]
    for name in names:
        if name in raw.columns:
            return name
    others = some(raw.columns.drop(CORNER), 6) or "no other"
    raise DataError(
        f"{path} has no column {' or '.join(map(repr, names))} that names the image of a box; besides x, y, width and "
        f"height it has {others}: choose with --set columns.id=NAME"
    )


def _numbers(path: Path, raw: pd.DataFrame, columns: ColumnSettings) -> tuple[pd.DataFrame, pd.Series]:
    """The numbers of all rows, NaN where there is none, and which rows have all four."""
    cells = {column: known(raw[column], columns.unknown) for column in CORNER}
    numbers = pd.DataFrame(
        {column: texts.map(number, na_action="ignore").astype(np.float64) for column, texts in cells.items()}, raw.index
    )
    present = pd.DataFrame({column: texts.notna() for column, texts in cells.items()}, raw.index)
    for column in CORNER:
        refuse_rows(path, raw, present[column] & numbers[column].isna(), column, "a number")
        partly = present.any(axis=1) & ~present[column]
        refuse_rows(path, raw, partly, column, "a number, although others in the row are", _EMPTY)
    return numbers, present.all(axis=1)


def _labels(
    path: Path, raw: pd.DataFrame, has_box: pd.Series, columns: ColumnSettings
) -> tuple[pd.Series, dict[str, int]]:
    """The label of each box, and remarks on how labels are written."""
    (column,) = columns.label
    if column not in raw.columns and columns.label == _DEFAULT.label:
        return pd.Series(LABEL, raw.index[has_box]), {}
    if column not in raw.columns:
        raise DataError(f"{path} has no column {column!r} (columns.label); it has {some(raw.columns, 6)}")
    texts = known(raw[column], columns.unknown)
    if texts[has_box].isna().all():
        return pd.Series(LABEL, raw.index[has_box]), {}
    refuse_rows(path, raw, has_box & texts.isna(), column, "a label, as other boxes have")
    keys = texts.map(name_key, na_action="ignore")
    of_boxes, of_others = {*keys[has_box]}, {*keys[~has_box].dropna()}
    says_nothing = has_box & keys.isin(NOTHING)
    remedy = f"delete the box, or correct the label ({_EMPTY})"
    refuse_rows(path, raw, says_nothing, column, "the label of a box", remedy)
    if of_others == {"0"} and "0" in of_boxes and of_boxes <= {"0", "1"}:
        refuse_rows(path, raw, has_box & (keys == "0"), column, "1, although there is a box", _EMPTY)
    bare = ~has_box & keys.isin(of_boxes)
    words = f"a number, although {column} is a label of boxes"
    refuse_rows(path, raw, bare, "x", words, f"complete the row, or empty its {column} ({_EMPTY})")
    if of_boxes == {"1"} and of_others <= {"0"}:
        return pd.Series(column, raw.index[has_box]), {}
    spelling, remarks = spellings(texts[has_box])
    if of_others:
        names = some({*texts[~has_box].dropna()})
        bare = ~has_box & keys.notna()
        remarks[f"lines without numbers are of images without a box (labelled {names})"] = int(bare.sum())
    return texts[has_box].map(spelling), remarks


def _refuse_contradictions(
    path: Path, raw: pd.DataFrame, image: str, has_box: pd.Series, columns: ColumnSettings
) -> None:
    """Raise DataError for an image with and without a box, or in several groups or splits."""
    boxed = raw[image].isin({*raw[image][has_box]}) & ~has_box
    if boxed.any():
        line, name = boxed.index[boxed][0], raw[image][boxed].iloc[0]
        other = raw.index[has_box & (raw[image] == name)][0]
        raise DataError(f"{path}: {name} has no box in line {line}, but one in line {other}: delete one of the lines")
    for column in _of_images(raw, columns):
        several = raw.groupby(image)[column].transform("nunique") > 1
        if several.any():
            name = raw[image][several].iloc[0]
            values = some(map(repr, {*raw[column][raw[image] == name]}))
            raise DataError(f"{path}: {column} of {name} is {values} in several lines: an image has only one")


def _of_images(raw: pd.DataFrame, columns: ColumnSettings) -> Collection[str]:
    return [name for name in (columns.group, columns.split) if name is not None and name in raw.columns]

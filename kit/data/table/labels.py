"""What the cells of label columns mean: unknown, 0 or 1, a probability, one class or several.

A cell is never guessed at: what is neither is an error that names its line and the setting that would read it.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kit.config.source import ColumnSettings
from kit.data.table.raw import refuse_rows
from kit.data.table.vocabulary import NOTHING, VAGUE, side
from kit.errors import ConfigError, DataError, nearest, some
from kit.tables import one_hot, truth_columns

UNKNOWN = frozenset(["", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "null"])  # in any case
_NONE = "none"  # means unknown among 0 and 1; among names it is one
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d{1,3})?", re.IGNORECASE)
_SEPARATORS = ("|", ";", ",", "/", "+", "&")
MOST_CLASSES = 100  # more distinct values than that are not classes
_MOSTLY = 0.5  # share of numbers from which other texts are strays, not classes
_CODE = 9  # the least number that may mean "unknown": 9, 99, 999


class Labels(NamedTuple):
    """The columns `y_<label>` (float32, NaN where unknown), the task, and what is odd (what -> how many)."""

    y: pd.DataFrame
    task: str
    remarks: dict[str, int]


def read_labels(path: Path, raw: pd.DataFrame, columns: ColumnSettings, target: str | None) -> Labels:
    """The labels in the columns `columns.label` of a table of strings whose index is the line.

    One column: 0 and 1 (binary), class names (binary for two, multiclass for more), or several names in a cell
    (multilabel), with `columns.separator` between them. Several columns: one label each. Raises DataError for cells
    that are nothing of the kind, with the line, and ConfigError for settings that do not go together.
    """
    names, separator = columns.label, columns.separator
    one_class = separator is not None and separator.casefold() == _NONE
    separator = None if one_class else separator
    if len({*names}) < len(names):
        raise ConfigError(f"columns.label names a column twice: {', '.join(names)}")
    if separator and (len(names) > 1 or columns.soft):
        raise ConfigError("columns.separator reads one column of names: neither several columns nor soft labels")
    cells = {name: known(raw[name], columns.unknown) for name in names}
    truth = {name: column.where(column.str.casefold() != _NONE, None) for name, column in cells.items()}
    for name, values in truth.items():
        if values.isna().all():
            raise DataError(f"{path}: {name} is empty, or unknown, in all lines: choose another column of labels")
    if not separator and (len(names) > 1 or columns.soft or truth[names[0]].dropna().map(_is_truth).all()):
        if target is not None and not (len(names) == 1 and (target == names[0] or _zero_one(target) == 1)):
            raise ConfigError(f"target = {target!r}: a positive class can only be chosen of two named classes")
        y = {name: _truth(path, name, column, columns.soft, len(names) > 1) for name, column in truth.items()}
        table = pd.DataFrame(y, raw.index).astype(np.float32).set_axis(truth_columns(names), axis=1)
        return Labels(table, "multilabel" if len(names) > 1 else "binary", _one_hot_remark(table))
    name, column = names[0], cells[names[0]]
    if separator:
        return _several(path, name, column, separator, columns.unknown, target)
    _refuse_strays(path, name, column)
    if not one_class:
        _refuse_combined(path, name, column)
    return _classes(path, name, raw[name].astype(object).where(column.notna(), None), target)


def _one_hot_remark(table: pd.DataFrame) -> dict[str, int]:
    """A remark, with its count, when one of several labels is 1 in every line, as in tables that spell out classes."""
    rows = table.dropna(how="all")
    if len(table.columns) < 2 or len(rows) < 2 or not (rows.isin([0, 1]).all(axis=1) & (rows.sum(axis=1) == 1)).all():
        return {}
    remark = "lines have exactly one of the labels, as classes do: a column that names it would make them classes"
    return {remark: len(rows)}


def known(cells: pd.Series, unknown: Sequence[str] = ()) -> pd.Series:
    """The cells without spaces around them, None where they mean "unknown": `UNKNOWN`, or one of `unknown`."""
    texts = {text.casefold() for text in unknown}
    numbers = {number(text) for text in unknown} - {None}
    stripped = cells.str.strip().astype(object)
    values = {
        text: None if text.casefold() in UNKNOWN | texts or number(text) in numbers else text
        for text in stripped.unique()
    }
    return pd.Series([values[text] for text in stripped], cells.index, dtype=object)


def number(text: str) -> float | None:
    """The finite number that a cell holds (with a decimal point or comma), or None."""
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def positive_class(classes: Sequence[str], target: str | None) -> str:
    """The positive one of two classes: `target`, or the one whose name says so ("malignant", "ja", "1").

    Raises ConfigError for a target that is none of the two, and where names leave it open.
    """
    first, second = classes
    if target is not None:
        if target not in classes:
            raise ConfigError(f"target = {target!r} is not one of the classes{nearest(target, classes)}")
        return target
    sides = [side(name) for name in classes]
    if sides[0] == sides[1] or (0 in sides and 1 in map(len, classes)):  # f and m are not false and something
        raise ConfigError(
            f"which of the classes {first!r} and {second!r} is the positive one, whose probability is predicted? "
            f"Say --set target={quoted(first)} or --set target={quoted(second)}"
        )
    return first if sides[0] > sides[1] else second


def quoted(text: str) -> str:
    """A text as the value of `--set`, in quotes where a shell or YAML would read it otherwise."""
    return text if re.fullmatch(r"[\w.-]+", text) else f"'{text}'"


def _zero_one(text: str) -> float | None:
    """0. or 1., or None for what is neither: 1, 1.0, 1., TRUE."""
    value = {"true": 1.0, "false": 0.0}.get(text.casefold(), number(text))
    return value if value in (0, 1) else None


def _is_truth(text: str) -> bool:
    return _zero_one(text) is not None


def _truth(path: Path, name: str, column: pd.Series, soft: bool, words: bool) -> pd.Series:
    """The values of a column of 0 and 1, or of probabilities (`soft`), or of yes and no (`words`); NaN for None."""

    def value(text: str | None) -> float | None:
        if text is None:
            return math.nan
        if soft:
            share = number(text)
            return share if share is not None and 0 <= share <= 1 else None
        sign = side(text) if words and number(text) is None else 0
        return float(sign > 0) if sign else _zero_one(text)

    values = column.map({text: value(text) for text in column.unique()}, na_action="ignore")
    bad = column.notna() & values.isna()
    expected = "a probability, 0 to 1, or empty" if soft else "0, 1 or empty"
    _refuse(path, column, bad, name, expected)
    return values.astype(float)


def _refuse(path: Path, column: pd.Series, bad: pd.Series, name: str, expected: str, remedy: str = "") -> None:
    """Raise DataError for the first bad cell, with the setting that would read it."""
    if bad.any():
        text = column[bad].iloc[0]
        value = number(text)
        if not remedy and "probability" not in expected and value is not None and 0 < value < 1:
            remedy = "labels that are probabilities need --set columns.soft=true"
        remedy = remedy or f"correct it, or --set columns.unknown={quoted(text)} if it means unknown"
        refuse_rows(path, column.to_frame(name), bad, name, expected, remedy)


def _refuse_strays(path: Path, name: str, column: pd.Series) -> None:
    """Raise DataError for a column that is mostly numbers, but neither 0 and 1 nor the numbers of classes."""
    cells = column.dropna()
    values = {text: _zero_one(text) if _is_truth(text) else number(text) for text in cells.unique()}
    numbers = cells.map(values).astype(float)
    if numbers.notna().mean() < _MOSTLY:
        return
    truth = numbers.isin([0, 1]).mean() >= _MOSTLY
    expected = "0, 1 or empty, as most lines are" if truth else "a number, as most lines are"
    _refuse(path, cells, numbers.isna(), name, expected)
    if (numbers % 1 != 0).any():
        if numbers.between(0, 1).all():
            _refuse(path, cells, numbers % 1 != 0, name, "0, 1 or empty")
        remedy = "kit predicts classes and findings, not measurements: cut them into classes"
        _refuse(path, cells, numbers % 1 != 0, name, "the number of a class", remedy)
    _refuse(path, cells, numbers < 0, name, "0, 1 or empty" if truth else "the number of a class")
    distinct = numbers.nunique()
    if numbers.min() <= 1 and distinct <= MOST_CLASSES:
        far = numbers >= max(_CODE, 2 * distinct + 1)
        if far.any():
            code = quoted(cells[far].iloc[0])
            remedy = f"--set columns.unknown={code} if it means unknown; a class so far from the others needs a name"
            _refuse(path, cells, far, name, f"one of the classes {some(cells[~far].unique(), 5)}", remedy)


def _refuse_combined(path: Path, name: str, column: pd.Series) -> None:
    """Raise DataError when cells look like several classes each: their parts are cells, or parts of others, too."""
    values = column.dropna().unique()
    for separator in _SEPARATORS:
        parts = {text: {name_key(part) for part in _parts(text, separator)} for text in values}
        several = {text: names for text, names in parts.items() if len(names) > 1}
        if not several:
            continue
        everywhere = pd.Series([part for names in parts.values() for part in names]).value_counts()
        of_several = set().union(*several.values())
        if sum(everywhere[part] > 1 for part in of_several) >= len(of_several) / 2:
            raise DataError(
                f"{path}: {name} seems to name several classes in a cell, such as {next(iter(several))!r}: "
                f"--set columns.separator='{separator}' makes each a label of its own; --set columns.separator=none "
                "takes every cell as one class"
            )


def _parts(text: str, separator: str) -> list[str]:
    """The names in a cell; also of a list as Python writes it, with brackets and quotes."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    parts = [part.strip().strip("'\"").strip() for part in inside.split(separator)]
    return [part for part in parts if part.casefold() not in UNKNOWN]


def _several(
    path: Path, name: str, column: pd.Series, separator: str, unknown: Sequence[str], target: str | None
) -> Labels:
    """The labels of cells that name several: one for each name; a name of nothing ("No Finding") is none."""
    if target is not None:
        raise ConfigError(f"target = {target!r}: a positive class can only be chosen of two named classes")
    if not column.dropna().str.contains(separator, regex=False).any():
        raise DataError(f"{path}: no cell of {name} has the separator {separator!r} (columns.separator)")
    ignored = {text.casefold() for text in unknown}
    parts = [[part for part in _parts(text or "", separator) if part.casefold() not in ignored] for text in column]
    spelling, remarks = spellings(pd.Series([part for names in parts for part in names], dtype=object))
    rows = [{spelling[part] for part in names} for names in parts]
    combined = set().union(*(names for names in rows if len(names) > 1))
    nothing = {label for label in set().union(*rows) - combined if name_key(label) in NOTHING}
    labels = sorted(set().union(*rows) - nothing)
    if not 1 <= len(labels) <= MOST_CLASSES:
        raise DataError(f"{path}: {name} names {len(labels)} labels ({some(labels)}), not 1 to {MOST_CLASSES}")
    if nothing:
        remarks[f"lines with {some(nothing)} have none of the labels"] = sum(bool(names & nothing) for names in rows)
    y = [[float(label in names) if names else math.nan for label in labels] for names in rows]
    table = pd.DataFrame(np.array(y, np.float32), column.index, truth_columns(labels))
    return Labels(table, "multilabel" if len(labels) > 1 else "binary", remarks)


def _classes(path: Path, name: str, column: pd.Series, target: str | None) -> Labels:
    """The labels of a column of class names."""
    spelling, remarks = spellings(column.dropna())
    classes = column.map(spelling, na_action="ignore").astype(object)
    counts = classes.value_counts()
    values = sorted(counts.index, key=lambda text: (number(text) is None, number(text) or 0, text))
    if not 2 <= len(values) <= MOST_CLASSES:
        raise DataError(
            f"{path}: {name} has {len(values)} distinct values ({some(values)}), not 2 to {MOST_CLASSES} classes"
        )
    if len(values) == len(column.dropna()) > 2:
        raise DataError(f"{path}: {name} is different in every line ({some(values)}), so it names no classes")
    for text in (text for text in values if text.casefold() in VAGUE and not (text == "-" and "+" in values)):
        remarks[f"lines are of the class {text!r}: --set columns.unknown={quoted(text)} if it is none"] = counts[text]
    if single := [text for text in values if counts[text] == 1]:
        what = "classes have" if len(single) > 1 else "class has"
        remarks[f"{what} a single image, which cannot be both learnt and validated: {some(single)}"] = len(single)
    if len(values) == 2:
        return Labels(one_hot(classes, [positive_class(values, target)]), "binary", remarks)
    if target is not None:
        raise ConfigError(f"target = {target!r}: {name} has {len(values)} classes, and the positive one is one of two")
    return Labels(one_hot(classes, values), "multiclass", remarks)


def name_key(text: str) -> str:
    """What is the same for spellings of one name: no case, single spaces, one Unicode form, 1 for 1.0."""
    value = number(text.strip())
    if value is not None and value % 1 == 0:
        return str(int(value))
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def spellings(names: pd.Series) -> tuple[dict[str, str], dict[str, int]]:
    """Spelling -> the commonest spelling of the same name; and remarks on names with several."""
    texts_of: dict[str, list[str]] = {}
    counts = names.str.strip().value_counts().sort_index()
    for text in sorted(names.unique(), key=lambda text: (-counts[text.strip()], text)):
        texts_of.setdefault(name_key(text), []).append(text)
    chosen: dict[str, str] = {}
    remarks: dict[str, int] = {}
    for key, texts in texts_of.items():
        name = key if number(key) is not None else unicodedata.normalize("NFC", texts[0].strip())
        chosen |= dict.fromkeys(texts, name)
        if len(texts) > 1:
            remarks[f"spellings of {name!r} are taken as one class"] = len(texts)
    return chosen, remarks

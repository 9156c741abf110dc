"""The column names of kit's tables, spelled in this file alone.

`id` · `fold` · `y_<label>` float32, the truth: 1, 0 or NaN (unknown) · `p_<label>` float32, a probability. Prediction
tables have id, fold and probabilities, or boxes (kit.boxes); example tables have the truth and more
(kit.data.table.examples).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from kit.boxes import fault_of_boxes
from kit.errors import counted, some
from kit.tasks import Task

TRUTH, PROBABILITY = "y_", "p_"
_ROUNDING, _UNEVEN = 1e-5, 1e-2  # of float32 probabilities, and of sums of them in 16 bits
DECISION = "decision"  # the label or labels decided on, by thresholds or the likeliest class


CASE = "case"  # of which the image is a part, where several images are of one

FOLD_OF = "fold_of"  # by which training images are dealt into folds, where the user says so

_NO_METADATA = (
    *("id", "path", "bytes", "split", "group", CASE, FOLD_OF, "cell", "fold", "crc32"),
    *("boxes", "box_labels", DECISION),
)


def is_metadata(column: str) -> bool:
    """Whether a column of an example table may say something of the patient: it is no label, id or other part of it."""
    return column not in _NO_METADATA and not column.startswith((TRUTH, PROBABILITY))


def truth_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the truth of these labels."""
    return [TRUTH + label for label in labels]


def probability_columns(labels: Iterable[str]) -> list[str]:
    """The columns that hold the probabilities of these labels."""
    return [PROBABILITY + label for label in labels]


def labels_of(table: pd.DataFrame, prefix: str = TRUTH) -> list[str]:
    """The labels whose truth (or, by its prefix, probability) a table has, in the order of its columns."""
    return [str(column).removeprefix(prefix) for column in table.columns if str(column).startswith(prefix)]


def predicted_labels(table: pd.DataFrame) -> list[str]:
    """The labels whose probabilities a table has, in the order of its columns."""
    return labels_of(table, PROBABILITY)


def truth(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The truth, float [rows, labels], of these labels or all that the table has."""
    return table[truth_columns(labels_of(table) if labels is None else labels)].to_numpy()


def probabilities(table: pd.DataFrame, labels: Iterable[str] | None = None) -> np.ndarray:
    """The probabilities, float [rows, labels], of these labels or all that the table has."""
    return table[probability_columns(predicted_labels(table) if labels is None else labels)].to_numpy()


def with_probabilities(table: pd.DataFrame, p: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """The table with the probabilities [rows, labels] as columns, float32."""
    values = np.asarray(p, np.float32)
    return table.assign(**{column: values[:, n] for n, column in enumerate(probability_columns(labels))})


def with_truth(predictions: pd.DataFrame, examples: pd.DataFrame, labels: Iterable[str]) -> pd.DataFrame:
    """The predictions with the truth of their ids from an example table, 0, 1 or NaN: soft labels are cut at .5.

    Raises KeyError for an unknown id.
    """
    columns = truth_columns(labels)
    values = cut(examples.set_index("id")[columns].loc[predictions["id"]].to_numpy())
    return predictions.assign(**{column: values[:, n] for n, column in enumerate(columns)})


def fault_of_predictions(table: pd.DataFrame, labels: Sequence[str], task: Task, repeated: bool) -> str | None:
    """What makes a table no predictions of these labels (id, fold, and what the task predicts), in words; or None.

    `repeated`: an id has a row for every fold.
    """
    if absent := [name for name in ("id", "fold") if name not in table.columns]:
        return f"it has no column {some(absent)}"
    if not table["id"].map(lambda name: isinstance(name, str)).all():
        return "ids are not all texts"
    if not pd.api.types.is_integer_dtype(table["fold"]) or (table["fold"] < 0).any():
        return "folds are not all numbers from 0 on"
    twice = table["id"][table.duplicated(["id", "fold"] if repeated else ["id"])]
    if len(twice):
        return f"{counted(len(twice), 'id occurs', 'ids occur')} twice, such as {twice.iloc[0]}"
    return fault_of_values(table, labels, task)


def fault_of_values(table: pd.DataFrame, labels: Sequence[str], task: Task) -> str | None:
    """What is wrong with the values of predictions with ids, in words; None where nothing is."""
    return _FAULTS[task.prediction](table, labels, task)


def _fault_of_probabilities(table: pd.DataFrame, labels: Sequence[str], task: Task) -> str | None:
    columns = probability_columns(labels)
    if absent := [name for name in columns if name not in table.columns]:
        return f"it has no column {some(absent)}"
    if extra := {*predicted_labels(table)} - {*labels}:
        return f"it has predictions of other labels: {some(extra)}"
    if not all(pd.api.types.is_float_dtype(table[column]) for column in columns):
        return "probabilities are not all numbers"
    p = probabilities(table, labels).astype(np.float64)
    outside = ~((p >= -_ROUNDING) & (p <= 1 + _ROUNDING)).all(axis=1)  # NaN is
    uneven = np.abs(p.sum(axis=1) - 1) > _UNEVEN if task.exclusive else np.zeros(len(p), bool)
    for bad, problem in ((outside, "values that are not from 0 to 1"), (uneven, "classes that do not sum to 1")):
        if bad.any():
            rows = counted(int(bad.sum()), "row has", "rows have")
            return f"{rows} {problem}, such as that of {table['id'].to_numpy()[bad][0]}"
    return None


_FAULTS: dict[str, Callable[[pd.DataFrame, Sequence[str], Task], str | None]] = {
    "probabilities": _fault_of_probabilities,
    "boxes": lambda table, labels, task: fault_of_boxes(table, labels),
}


def fault_among_examples(
    table: pd.DataFrame, examples: pd.DataFrame, split: str, labels: Sequence[str], folds: Sequence[Sequence[int]]
) -> str | None:
    """What makes predictions those of other images than `split` of an example table, in words; None where nothing does.

    `folds` are the cells of each fold: of training images the predictions must come from the fold that holds them out.
    """
    if absent := [name for name in ("id", "split", *truth_columns(labels)) if name not in examples.columns]:
        return f"the example table has no column {absent[0]}"
    rows = examples[examples["split"] == split].set_index("id")
    strangers = table["id"][~table["id"].isin(rows.index)]
    if len(strangers):
        ids = counted(len(strangers), f"id is no {split} image", f"ids are no {split} images")
        return f"{ids} of the run, such as {strangers.iloc[0]}"
    unknown = table["fold"][table["fold"] >= len(folds)]
    if len(unknown):
        return f"there is no fold {unknown.iloc[0]}"
    if split == "train" and "cell" in rows.columns:
        fold_of = {cell: k for k, cells in enumerate(folds) for cell in cells}
        expected = table["id"].map(rows["cell"].map(fold_of)).to_numpy()
        moved = table["id"][expected != table["fold"].to_numpy()]
        if len(moved):
            return f"{counted(len(moved), 'image is', 'images are')} of another fold, such as {moved.iloc[0]}"
    return None


def fault_of_clusters(table: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], task: Task) -> str | None:
    """What makes a table no predictions of clusters of training images (`fold`: the cluster), in words; or None."""
    if fault := fault_of_predictions(table, labels, task, repeated=False):
        return fault
    if "looks" not in table.columns or not table["looks"].map(lambda looks: isinstance(looks, str)).all():
        return "it does not say what all clusters look like"
    strangers = table["id"][~table["id"].isin(examples["id"][examples["split"] == "train"])]
    return f"{strangers.iloc[0]} is no training image of the run" if len(strangers) else None


def cut(y: np.ndarray) -> np.ndarray:
    """The truth as 0 and 1, where soft labels (probabilities) are above .5, and NaN where it is unknown."""
    return np.where(np.isnan(y), y, y > 0.5).astype(y.dtype)


def one_hot(names: pd.Series, labels: Sequence[str]) -> pd.DataFrame:
    """The truth of `labels`, float32 0 or 1, from a column of class names; a row whose name is missing is NaN."""
    named = names.notna().to_numpy()
    columns = zip(labels, truth_columns(labels), strict=True)
    return pd.DataFrame(
        {column: np.where(named, names == label, np.nan).astype(np.float32) for label, column in columns}, names.index
    )

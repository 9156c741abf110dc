"""Make a submission table, and check it against the competition's sample."""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition
from kit.delimited import read_delimited
from kit.errors import DataError, SubmissionError, counted, some
from kit.tables import PROBABILITY, predicted_labels, probabilities

BOXES = "PredictionString"  # the column of Kaggle's detection competitions: confidence x y width height, repeated


def make_submission(competition: Competition, predictions: pd.DataFrame, sample: pd.DataFrame | None) -> pd.DataFrame:
    """The submission in the sample's order of rows and columns, from a table with columns `id` and `p_<label>`.

    A row of the sample whose image could not be read gets the mean prediction, which is neutral for a ranking metric.
    Without a sample, the rows are the predictions', and each label is a column. Raises SubmissionError for a sample
    with other columns or duplicate ids.
    """
    labels = predicted_labels(predictions)
    column_of = {label: column for column, label in (competition.target.columns or {x: x for x in labels}).items()}
    columns = {f"{PROBABILITY}{label}": column for label, column in column_of.items()}
    table = predictions.rename(columns={"id": competition.id_column, **columns})
    if sample is None:
        return table
    if BOXES in sample.columns and BOXES not in table.columns:
        problem = f"{competition.name} is scored by boxes ({BOXES}), but these predictions are of {some(labels)}"
        raise SubmissionError(f"{problem}: kit has no model for boxes yet")
    if absent := [column for column in sample.columns if column not in table.columns]:
        raise SubmissionError(
            f"the sample has the columns {list(sample.columns)}; the predictions have no {some(absent)}"
        )
    duplicates = sample[competition.id_column][sample[competition.id_column].duplicated()]
    if len(duplicates):
        raise SubmissionError(f"the sample has {counted(len(duplicates), 'duplicate id')}: {some(set(duplicates))}")
    table = sample[[competition.id_column]].merge(table, on=competition.id_column, how="left", validate="one_to_one")
    return table.fillna({column: table[column].mean() for column in columns.values()})[list(sample.columns)]


def read_submission(path: Path, id_column: str) -> pd.DataFrame:
    """A submission or sample, its ids as strings, other columns as numbers where they hold nothing else.

    The index is the line in the file. Raises SubmissionError unless the competition's server would read it alike: CSV
    with commas, in UTF-8, with that column, without blank rows and empty ids.
    """
    try:
        read = read_delimited(path, [id_column])
    except DataError as error:
        raise SubmissionError(str(error)) from error
    if read.remarks:
        raise SubmissionError(f"{path}: {read.remarks[0]}: a submission is CSV with commas, in UTF-8")
    empty = read.table.index[read.table[id_column].str.strip() == ""]
    too_long = "longer than the header"
    for lines, what in ((read.blank, "blank"), (empty, f"without {id_column}"), (read.surplus, too_long)):
        if len(lines):
            names = ", ".join(map(str, lines[:5])) + f" and {len(lines) - 5} more" * (len(lines) > 5)
            raise SubmissionError(f"{path}: {len(lines)} rows are {what}, in lines {names}: correct or delete them")
    return read.table.assign(**{column: _typed(read.table[column]) for column in read.table.columns.drop(id_column)})


def _typed(cells: pd.Series) -> pd.Series:
    """The cells as numbers, or as they are when any is something else than a number or empty."""
    numbers = pd.to_numeric(cells.replace("", "nan"), errors="coerce")
    texts = cells[numbers.isna()].str.strip().str.lower()
    return numbers if texts.isin(["", "nan", "na"]).all() and len(texts) < len(cells) else cells


def _line(table: pd.DataFrame, row: int) -> int:
    """The line of a row in the file: as it was read, or as it will be written."""
    return int(table.index[row]) if table.index.name == "line" else row + 2


def check_submission(
    competition: Competition, submission: pd.DataFrame, sample: pd.DataFrame, oof: pd.DataFrame | None = None
) -> list[str]:
    """Raise SubmissionError, naming column and row, unless the competition would accept this and score it as intended.

    Returns remarks on what is odd but allowed, such as another order of rows than the sample's. A column of only two
    values is refused: it is a thresholded prediction, and every metric here takes probabilities. Given the out-of-fold
    predictions (`p_*`), exchanged columns are detected by their means.
    """
    remarks = []
    key = competition.id_column
    if list(submission.columns) != list(sample.columns):
        raise SubmissionError(f"columns are {list(submission.columns)}, the sample has {list(sample.columns)}")
    ids, expected = submission[key], sample[key]
    if ids.duplicated().any():
        repeated = ids[ids.duplicated()]
        raise SubmissionError(f"{counted(len(repeated), 'duplicate id')}: {some(set(repeated))}")
    both = ((set(expected) - set(ids), "missing"), (set(ids) - set(expected), "not in the sample"))
    if problems := [
        f"{counted(len(names), 'id is', 'ids are')} {problem}: {some(names)}" for names, problem in both if names
    ]:
        raise SubmissionError("; ".join(problems))
    if not ids.reset_index(drop=True).equals(expected.reset_index(drop=True)):
        remarks.append("the rows are in another order than the sample's; they are matched by id")
    columns = list(submission.columns.drop(key))
    for column in columns:
        if column == BOXES:
            _check_boxes(submission, column, key)
            continue
        values = _numbers(submission, column, key)
        distinct = np.unique(values)
        if len(values) > 2 and len(distinct) == 1:
            raise SubmissionError(f"column {column!r} holds only {distinct[0]:g}: it ranks no image above another")
        if len(values) > 2 and len(distinct) == 2:
            why = (
                "ROC AUC, which ranks probabilities" if competition.target.metric == "roc_auc" else "its probabilities"
            )
            raise SubmissionError(
                f"column {column!r} holds only the values {distinct[0]:g} and {distinct[1]:g}: "
                f"{competition.name} is scored by {why}. Submit the probabilities, not the thresholded labels"
            )
    if oof is not None and BOXES not in columns:
        _check_exchanged(competition, submission, columns, oof)
    return remarks


def _numbers(submission: pd.DataFrame, column: str, key: str) -> np.ndarray:
    if len(submission) and submission[column].astype(str).str.lower().isin(["true", "false"]).all():
        raise SubmissionError(f"column {column!r} holds True and False: submit numbers, such as probabilities")
    values = pd.to_numeric(submission[column], errors="coerce").to_numpy(np.float64)
    for bad, problem in ((~np.isfinite(values), "not a finite number"), ((values < 0) | (values > 1), "outside 0..1")):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            cell = submission[column].iloc[row]
            raise SubmissionError(
                f"column {column!r}: {counted(int(bad.sum()), 'value is', 'values are')} {problem}; the first is "
                f"{repr(cell) if isinstance(cell, str) else f'{cell:g}'} "
                f"in line {_line(submission, row)} ({submission[key].iloc[row]})"
            )
    return values


def _check_boxes(submission: pd.DataFrame, column: str, key: str) -> None:
    """Refuse cells other than groups of five numbers: confidence in 0..1, x and y of the corner (≥ 0), size (> 0)."""
    for row, (name, cell) in enumerate(zip(submission[key], submission[column], strict=True)):
        text = "" if pd.isna(cell) else str(cell)
        try:
            boxes = np.array(text.split(), dtype=np.float64).reshape(-1, 5)
        except ValueError:
            boxes = np.full((1, 5), np.nan)
        valid = np.isfinite(boxes).all() and ((boxes[:, 0] >= 0) & (boxes[:, 0] <= 1)).all()
        if not valid or (boxes[:, 1:3] < 0).any() or (boxes[:, 3:] <= 0).any():
            raise SubmissionError(
                f"column {column!r}, line {_line(submission, row)} ({name}): {text[:60]!r} is not "
                "`confidence x y width height` for each box, with a confidence in 0..1 and pixels "
                "(an image without a box has an empty cell)"
            )


def _check_exchanged(competition: Competition, submission: pd.DataFrame, columns: list[str], oof: pd.DataFrame) -> None:
    """Refuse columns whose means fit each other's label clearly better than their own.

    Means are compared as logits: exchanging a pair must bring both closer by a factor of e in the odds.
    """
    label_of, labels = competition.target.columns or {column: column for column in columns}, predicted_labels(oof)
    columns = [column for column in columns if label_of.get(column) in labels]
    means = np.array([submission[column].astype(float).mean() for column in columns])
    expected = probabilities(oof, [label_of[column] for column in columns]).mean(axis=0)
    distance = np.abs(_logit(means)[:, None] - _logit(expected)[None])  # of column i's mean from label j's
    for i, j in zip(*np.triu_indices(len(columns), 1), strict=True):
        if distance[i, j] + 1 < distance[i, i] and distance[j, i] + 1 < distance[j, j]:
            raise SubmissionError(
                f"columns {columns[i]!r} and {columns[j]!r} look exchanged: their means are {means[i]:.3g} and "
                f"{means[j]:.3g}, out of fold {expected[i]:.3g} and {expected[j]:.3g}"
            )


def _logit(p: np.ndarray) -> np.ndarray:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))

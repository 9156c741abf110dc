"""Write and check a submission table against the competition's sample."""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competitions import Competition
from kit.errors import SubmissionError, some


def make_submission(competition: Competition, predictions: pd.DataFrame, sample: pd.DataFrame | None) -> pd.DataFrame:
    """The submission in the sample's order of rows and columns, from a table with columns id and `p_<label>`.

    A row of the sample whose image could not be read gets the mean prediction, which is neutral for a ranking metric.
    Without a sample, the rows are the predictions', and each label is a column.
    """
    labels = [column[2:] for column in predictions.columns if column.startswith("p_")]
    columns = {f"p_{label}": column for column, label in (competition.columns or {x: x for x in labels}).items()}
    table = predictions.rename(columns={"id": competition.id_column, **columns})
    if sample is None:
        return table
    table = sample[[competition.id_column]].merge(table, on=competition.id_column, how="left", validate="one_to_one")
    return table.fillna({column: table[column].mean() for column in columns.values()})[list(sample.columns)]


def read_submission(path: Path, id_column: str) -> pd.DataFrame:
    """A submission or sample with ids as strings; raises SubmissionError when it is no CSV with that column."""
    try:
        table = pd.read_csv(path, dtype={id_column: str})
    except (OSError, ValueError) as error:
        raise SubmissionError(f"cannot read {path} as CSV: {error}") from error
    if id_column not in table.columns:
        raise SubmissionError(f"{path} has no column {id_column!r}; it has {some(table.columns, 6)}")
    return table


def check_submission(competition: Competition, submission: pd.DataFrame, sample: pd.DataFrame) -> None:
    """Raise SubmissionError, naming column and row, unless the competition would take this and score it as meant.

    The order of rows is free. For a metric that ranks (ROC AUC), a column of only two values is refused: it is a
    thresholded prediction, and throws the ranking away.
    """
    if list(submission.columns) != list(sample.columns):
        raise SubmissionError(f"columns are {list(submission.columns)}, the sample has {list(sample.columns)}")
    ids, wanted = submission[competition.id_column], sample[competition.id_column]
    if ids.duplicated().any():
        raise SubmissionError(f"{ids.duplicated().sum()} duplicate ids: {some(set(ids[ids.duplicated()]))}")
    for names, what in ((set(wanted) - set(ids), "missing"), (set(ids) - set(wanted), "not in the sample")):
        if names:
            raise SubmissionError(f"{len(names)} ids are {what}: {some(names)}")
    for column in submission.columns.drop(competition.id_column):
        values = pd.to_numeric(submission[column], errors="coerce").to_numpy(np.float64)
        for bad, what in ((~np.isfinite(values), "not a finite number"), ((values < 0) | (values > 1), "outside 0..1")):
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise SubmissionError(
                    f"column {column!r}: {bad.sum()} values are {what}; the first is {submission[column].iloc[row]!r} "
                    f"in line {row + 2} ({ids.iloc[row]})"
                )
        if competition.metric == "roc_auc" and len(values) > 2 and len(np.unique(values)) <= 2:
            raise SubmissionError(
                f"column {column!r} holds only the values {sorted(set(values))}: {competition.name} is scored by ROC "
                "AUC, which ranks probabilities. Submit the probabilities, not the thresholded labels"
            )

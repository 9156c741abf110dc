"""Make a submission table, and check it against the competition's sample."""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import SENT_AS_DECISIONS, Competition, Target
from kit.delimited import read_delimited
from kit.errors import DataError, SubmissionError, counted, some
from kit.submit.boxes import BOXES
from kit.submit.formats import Format, line_of, owner_of
from kit.submit.probabilities import PROBABILITIES
from kit.tables import TRUTH
from kit.tasks import find_task

# What the cells of a submission hold, by what the task predicts.
_FORMATS = {"probabilities": PROBABILITIES, "boxes": BOXES}


def make_submission(
    competition: Competition,
    predictions: pd.DataFrame,
    sample: pd.DataFrame | None,
    examples: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The submission in the sample's order of rows and columns, from a table with `id` and `p_<label>` or boxes.

    A row of the sample whose image could not be read gets the mean prediction, which is neutral for a ranking metric,
    or no box. Without a sample, the rows are the predictions', and each label is a column. Boxes, in pixels of the
    source images, need the images' sizes: the example table (id, width, height). Raises SubmissionError for a sample
    with other columns or duplicate ids, and for boxes outside their images.
    """
    form, key = _format_of(competition.target), competition.id_column
    table = form.columns(competition, predictions, examples)
    if sample is None:
        return table
    if absent := [column for column in sample.columns if column not in table.columns]:
        raise SubmissionError(
            f"the sample has the columns {list(sample.columns)}; the predictions have no {some(absent)}"
            f"{_other_target(competition, absent)}"
        )
    duplicates = sample[key][sample[key].duplicated()]
    if len(duplicates):
        raise SubmissionError(f"the sample has {counted(len(duplicates), 'duplicate id')}: {some(set(duplicates))}")
    missing = {column: form.missing(table[column]) for column in table.columns if column in sample and column != key}
    table = sample[[key]].merge(table, on=key, how="left", validate="one_to_one")
    return table.fillna(missing)[list(sample.columns)]


def stand_in(competition: Competition) -> str:
    """What an image gets that could not be read, in words."""
    return _format_of(competition.target).stand_in


def constants(
    competition: Competition, examples: pd.DataFrame | None = None, decisions: bool = False
) -> dict[str, float | str]:
    """The submission's columns -> a cell that is right for no image in particular: a label's share of the training set.

    Without an example table, or for a label that it does not have, a half; of boxes, none. Where the metric takes
    `decisions`, or they are sent, the likeliest: 0 or 1.
    """
    target, form = competition.target, _format_of(competition.target)
    columns = target.columns or {label: label for label in target.labels}
    trained = None if examples is None else examples[examples["split"] == "train"]
    shares = [_share(trained, label) for label in columns.values()]
    if shares and (decisions or target.metric in SENT_AS_DECISIONS):
        one = find_task(target.task).exclusive if target.task else False
        likeliest = int(np.argmax(shares))
        shares = [float(n == likeliest if one else share > 0.5) for n, share in enumerate(shares)]
    return {column: form.constant(share) for column, share in zip(columns, shares, strict=True)}


def _share(examples: pd.DataFrame | None, label: str) -> float:
    truth = None if examples is None else examples.get(f"{TRUTH}{label}")
    share = 0.5 if truth is None else float(truth.mean())
    return share if np.isfinite(share) else 0.5


def same_cells(competition: Competition, column: str, a: pd.Series, b: pd.Series) -> np.ndarray:
    """Which cells of two columns of that name say the same to the competition, bool [rows]."""
    return _format_of(owner_of(competition, column)).same(a, b)


def _format_of(target: Target) -> Format:
    return _FORMATS[find_task(target.task).prediction if target.task else "probabilities"]


def _other_target(competition: Competition, columns: list[str]) -> str:
    """A hint, where it is another target of the competition that has these columns."""
    names = [name for name, target in competition.targets.items() if {*columns} <= {*(target.columns or {})}]
    return f": {competition.name} asks for the target {names[0]} (--set target={names[0]})" if names else ""


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


def check_submission(
    competition: Competition,
    submission: pd.DataFrame,
    sample: pd.DataFrame,
    oof: pd.DataFrame | None = None,
    examples: pd.DataFrame | None = None,
) -> list[str]:
    """Raise SubmissionError, naming column and row, unless the competition would accept this and score it as intended.

    Returns remarks on what is odd but allowed, such as another order of rows than the sample's. A column of only two
    values is refused: it is a thresholded prediction, and every metric of probabilities takes those; so is a file
    without any box. Given the out-of-fold predictions, exchanged columns are detected by their means (`p_*`), another
    number of boxes is remarked on (`boxes`, those that the decision keeps). Given the example table (id, width,
    height), boxes are checked against the sizes of images where the competition has no frame.
    """
    key = competition.id_column
    remarks = check_rows(submission, sample, key)
    columns = list(submission.columns.drop(key))
    forms = {column: _format_of(owner_of(competition, column)) for column in columns}
    for form in _FORMATS.values():
        if own := [column for column in columns if forms[column] is form]:
            remarks += form.check(competition, submission, own, oof, examples)
    return remarks


def check_rows(submission: pd.DataFrame, sample: pd.DataFrame, key: str) -> list[str]:
    """Raise SubmissionError unless columns and ids (column `key`) are the sample's; returns remarks."""
    remarks = []
    if list(submission.columns) != list(sample.columns):
        raise SubmissionError(f"columns are {list(submission.columns)}, the sample has {list(sample.columns)}")
    ids, expected = submission[key], sample[key]
    if ids.duplicated().any():
        repeated = ids[ids.duplicated()]
        where = line_of(submission, int(np.flatnonzero(ids.duplicated())[0]))
        problem = f"{counted(len(repeated), 'duplicate id')}: {some(set(repeated))}"
        raise SubmissionError(f"{problem} (first in line {where})")
    if problems := _strangers(submission, ids, expected):
        raise SubmissionError("; ".join(problems))
    if not ids.reset_index(drop=True).equals(expected.reset_index(drop=True)):
        remarks.append("the rows are in another order than the sample's; they are matched by id")
    return remarks


def _strangers(submission: pd.DataFrame, ids: pd.Series, expected: pd.Series) -> list[str]:
    """What is wrong with the ids, in words: which are missing, and which nobody asked for."""
    problems = []
    if missing := set(expected) - set(ids):
        problems.append(f"{counted(len(missing), 'id is', 'ids are')} missing: {some(missing)}")
    if extra := set(ids) - set(expected):
        where = line_of(submission, int(np.flatnonzero(ids.isin(extra))[0]))
        names = f"{counted(len(extra), 'id is', 'ids are')} not in the sample: {some(extra)}"
        problems.append(f"{names} (first in line {where})")
    return problems

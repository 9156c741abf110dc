"""What a submission of one kind of prediction has in its cells: see probabilities.py and boxes.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kit.competition import Competition, Target


@dataclass(frozen=True)
class Format:
    """How cells of this kind are written, read and checked.

    `columns`: competition, predictions and example table (or None) -> the competition's id column and a column for each
    label · `missing`: the column of the images that were read -> the cell of one that could not be read · `check`:
    competition, submission, names of columns of this kind, out-of-fold predictions and example table (or None) ->
    remarks; raises SubmissionError · `same`: two columns -> which cells say the same, bool [rows] · `stand_in`: the
    missing cell in words · `constant`: the label's share among the training images -> a cell that says no more.
    """

    columns: Callable[[Competition, pd.DataFrame, pd.DataFrame | None], pd.DataFrame]
    missing: Callable[[pd.Series], object]
    check: Callable[
        [Competition, pd.DataFrame, Sequence[str], pd.DataFrame | None, pd.DataFrame | None],
        list[str],
    ]
    same: Callable[[pd.Series, pd.Series], np.ndarray]
    stand_in: str
    constant: Callable[[float], float | str]


def line_of(table: pd.DataFrame, row: int) -> int:
    """The line of a row in the file: as it was read, or as it will be written."""
    return int(table.index[row]) if table.index.name == "line" else row + 2


def owner_of(competition: Competition, column: str) -> Target:
    """The target whose submission has this column: the chosen one, or another if it alone has it."""
    owners = (target for target in competition.targets.values() if column in (target.columns or {}))
    return competition.target if column in (competition.target.columns or {}) else next(owners, competition.target)

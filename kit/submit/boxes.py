"""Submissions of boxes: `confidence x y width height` for each box in a cell, the best first; none is an empty cell.

Numbers are in pixels of the competition's frame (`Target.frame`) or, where it has none, of the image itself.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kit.boxes import BOXES as BOX_COLUMN
from kit.boxes import Boxes, boxes_of
from kit.competition import Competition, Target
from kit.errors import SubmissionError, counted
from kit.submit.formats import Format, line_of, owner_of
from kit.tables import labels_of

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_HUNDRED = 100  # coordinates are whole hundredths of a pixel
_ROUNDING = 0.5  # pixels that a box may end outside the image, by rounding
_ALIKE = np.array([1e-5, 0.02, 0.02, 0.02, 0.02])  # differences that rounding can make


def parse(text: str) -> np.ndarray:
    """The boxes of a cell, float64 [n, 5]: confidence, x, y, width, height; ValueError says what is malformed."""
    words = text.split()
    bad = next((word for word in words if not _NUMBER.fullmatch(word)), None)
    if bad is not None:
        raise ValueError(f"{bad[:30]!r} is not a number" + ("; put spaces between numbers" if "," in bad else ""))
    if len(words) % 5:
        raise ValueError(f"{counted(len(words), 'number')}, where every box has 5")
    boxes = np.array(words, np.float64).reshape(-1, 5)
    if not np.isfinite(boxes).all():
        raise ValueError("a number is too large")
    return boxes


def _columns(competition: Competition, predictions: pd.DataFrame, examples: pd.DataFrame | None) -> pd.DataFrame:
    target, ids = competition.target, predictions["id"]
    labels = list((target.columns or {}).values()) or list(target.labels)
    labels = labels or labels_of(predictions if examples is None else examples)
    columns = target.columns or {label: label for label in labels}
    sizes = _sizes(ids, examples)
    boxes = boxes_of(predictions, labels)
    if target.frame is not None:
        boxes, sizes = boxes.scaled(target.frame / sizes), np.full(sizes.shape, float(target.frame))
    cells = {name: _texts(boxes.of_label(labels.index(label)), sizes, ids) for name, label in columns.items()}
    return pd.DataFrame({competition.id_column: ids.to_numpy(), **cells})


def _sizes(ids: pd.Series, examples: pd.DataFrame | None) -> np.ndarray:
    """Width and height of each image, float64 [rows, 2]; raises SubmissionError where one is not known."""
    table = pd.DataFrame(columns=["id", "width", "height"]) if examples is None else examples
    sizes = table.set_index("id")[["width", "height"]].reindex(ids).to_numpy(np.float64)
    unknown = ~(sizes > 0).all(axis=1)
    if unknown.any():
        which = f"{counted(int(unknown.sum()), 'image')}, such as {ids.to_numpy()[unknown][0]}"
        raise SubmissionError(f"the example table has no width and height of {which}: build the examples again")
    return sizes


def _texts(boxes: Boxes, sizes: np.ndarray, ids: pd.Series) -> list[str]:
    """The cell of each image; raises SubmissionError for a box outside its image by more than rounding."""
    boxes = boxes.where(np.lexsort((-boxes.score, boxes.image)))
    limit = sizes[boxes.image]
    low, high = boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]
    outside = ~((low >= -_ROUNDING) & (high <= limit + _ROUNDING) & (high > low)).all(axis=1)
    if outside.any():
        n = int(np.flatnonzero(outside)[0])
        (x, y, width, height), (right, bottom) = boxes.xywh[n], limit[n]
        raise SubmissionError(
            f"a box of {ids.iloc[boxes.image[n]]}, x {x:g}, y {y:g}, {width:g} x {height:g}, is not inside the image "
            f"of {right:g} x {bottom:g} pixels: predict again"
        )
    end = np.floor(limit * _HUNDRED).astype(np.int64)
    first = np.clip(np.rint(low * _HUNDRED).astype(np.int64), 0, end - 1)
    side = np.clip(np.rint((high - low) * _HUNDRED).astype(np.int64), 1, end - first)
    numbers = np.hstack([first, side]) / _HUNDRED
    texts: list[list[str]] = [[] for _ in range(boxes.images)]
    for image, score, row in zip(boxes.image.tolist(), boxes.score.tolist(), numbers.tolist(), strict=True):
        texts[image] += [_short(min(max(score, 0), 1), 6), *(_short(number, 2) for number in row)]
    return [" ".join(words) for words in texts]


def _short(number: float, digits: int) -> str:
    return f"{number:.{digits}f}".rstrip("0").rstrip(".")


def _check(
    competition: Competition,
    submission: pd.DataFrame,
    columns: Sequence[str],
    oof: pd.DataFrame | None,
    examples: pd.DataFrame | None,
) -> list[str]:
    counts = np.zeros(len(submission), np.int64)
    for column in columns:
        counts += _counts(competition, submission, column, examples)
    if len(counts) and not counts.any():
        problem = (
            "no image has a box: the cut is above every score, or the model finds nothing. Look at the out-of-fold "
            "scores and the cut in decision.json"
        )
        if competition.leaderboard:
            raise SubmissionError(problem)
        return [problem]  # nobody takes it: few images of your own may well have none
    return _remarks(counts, oof)


def _counts(
    competition: Competition, submission: pd.DataFrame, column: str, examples: pd.DataFrame | None
) -> np.ndarray:
    """How many boxes each cell holds, int [rows]; raises SubmissionError for the first cell that is malformed."""
    ids = submission[competition.id_column]
    sizes = _limits(owner_of(competition, column), ids, examples)
    counts, faults = np.zeros(len(ids), np.int64), {}
    for row, (cell, size) in enumerate(zip(submission[column], sizes, strict=True)):
        try:
            boxes = parse(_text(cell))
            _require_sound(boxes, size)
            counts[row] = len(boxes)
        except ValueError as error:
            faults[row] = str(error)
    if faults:
        row, reason = next(iter(faults.items()))
        more = f"; {counted(len(faults) - 1, 'further cell')} like it" if len(faults) > 1 else ""
        raise SubmissionError(
            f"column {column!r}, line {line_of(submission, row)} ({ids.iloc[row]}): "
            f"{_text(submission[column].iloc[row])[:60]!r} is not `confidence x y width height` for each box: {reason} "
            f"(an image without a box has an empty cell){more}"
        )
    return counts


def _text(cell: Any) -> str:
    return "" if pd.isna(cell) else str(cell)


def _require_sound(boxes: np.ndarray, size: np.ndarray) -> None:
    """Raise ValueError, with the reason, for boxes [n, 5] that are none, or not inside an image of this size."""
    for confidence, x, y, width, height in boxes.tolist():
        if not 0 <= confidence <= 1:
            raise ValueError(f"a confidence of {confidence:g} is not in 0..1")
        if not (width > 0 and height > 0):
            raise ValueError(f"a box of {width:g} x {height:g} pixels has no area")
        if min(x, y) < 0 or x + width > size[0] + _ROUNDING or y + height > size[1] + _ROUNDING:
            image = f" of {size[0]:g} x {size[1]:g} pixels" if np.isfinite(size).all() else ""
            raise ValueError(f"x {x:g}, y {y:g}, {width:g} x {height:g} is not inside the image{image}")


def _limits(target: Target, ids: pd.Series, examples: pd.DataFrame | None) -> np.ndarray:
    """Width and height that boxes of each image end at, float64 [rows, 2]; infinite where that is not known."""
    if target.frame is not None:
        return np.full((len(ids), 2), float(target.frame))
    if examples is None or not {"id", "width", "height"} <= {*examples.columns}:
        return np.full((len(ids), 2), np.inf)
    sizes = examples.set_index("id")[["width", "height"]].reindex(ids).to_numpy(np.float64)
    return np.where(sizes > 0, sizes, np.inf)


def _remarks(counts: np.ndarray, oof: pd.DataFrame | None) -> list[str]:
    remarks = []
    if len(counts) > 2 and counts.all():
        remarks.append("every image has a box: images without one are usual, and every false box costs")
    if oof is not None and BOX_COLUMN in oof.columns and len(oof):
        mean, expected = counts.mean(), np.mean([len(cell) for cell in oof[BOX_COLUMN]])
        apart = abs(mean - expected) * len(counts)
        if max(mean, expected) > 2 * min(mean, expected) and apart > 10:
            remarks.append(f"an image has {mean:.2f} boxes in the mean, out of fold {expected:.2f}: look at the cut")
    return remarks


def _same(a: pd.Series, b: pd.Series) -> np.ndarray:
    """Whether cells hold the same boxes, but for rounding: bool [rows]."""
    return np.array([_same_boxes(first, second) for first, second in zip(a, b, strict=True)], bool)


def _same_boxes(a: Any, b: Any) -> bool:
    try:
        first, second = parse(_text(a)), parse(_text(b))
    except ValueError:
        return False
    return first.shape == second.shape and bool((np.abs(first - second) <= _ALIKE).all())


BOXES = Format(
    _columns, missing=lambda cells: "", check=_check, same=_same, stand_in="no box", constant=lambda share: ""
)

"""Boxes as a file lists them, a row each, and what is wrong with them. What is refused is named by line or annotation.

The index of a table of boxes is named `line` or `annotation` and says where in the file each box is. Its columns are
`id` (of the image), `x`, `y`, `width`, `height` (float64) and, where there are several labels, `label`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES, LABELS, boxes_of
from kit.errors import DataError, some
from kit.tables import truth, truth_columns

CORNER = ["x", "y", "width", "height"]
_ROUNDING = 0.5  # pixels that a box may be outside of its image
_HAIR = 1e-6  # pixels: of sums of floats
_CORNERS = (
    "all boxes would be inside if width and height were x and y of the lower right corner: if they are, subtract x and "
    "y from them"
)
_SHARES = "all boxes lie within the first pixel: if they are shares of the image, multiply them by its size in pixels"


@dataclass(frozen=True)
class Annotations:
    """What a file says of images and of boxes in them.

    `images` has a row for each image, all texts: the column `id_column` and others, with the index `line` or
    `image`. `boxes` is a table of boxes, its ids those of `images`; `labels` are its labels. `sizes` are the widths and
    heights of images in pixels, where the file has them. `remarks` count what is odd.
    """

    path: Path
    id_column: str
    images: pd.DataFrame
    boxes: pd.DataFrame
    labels: tuple[str, ...]
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)

    @property
    def ids(self) -> pd.Series:
        """The image of each row of `images`."""
        return self.images[self.id_column]


def inside(path: Path, boxes: pd.DataFrame, sizes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The boxes of a file, each once and inside its image, and remarks on those that were not.

    `sizes` are `width` and `height` of the image of each box, in the box's unit, with its index; boxes whose image has
    none (NaN) may lie anywhere. A box that leaves its image by at most half a pixel is cut to it. Raises DataError for
    others outside, and for sizes that are not above 0.
    """
    x, y, width, height = (boxes[column].to_numpy(np.float64) for column in CORNER)
    across, down = (sizes[column].to_numpy(np.float64) for column in ("width", "height"))
    right, bottom = x + width, y + height
    finite = np.isfinite(boxes[CORNER].to_numpy(np.float64)).all(axis=1)
    _refuse(path, boxes, ~finite, "has numbers that are not finite")
    _refuse(path, boxes, ~((width > 0) & (height > 0)), "has a width or height that is not above 0")
    beyond = np.fmax.reduce([-x, -y, right - across, bottom - down])
    outside = beyond > _ROUNDING + _HAIR
    as_corners = (x >= 0) & (width > x) & (width <= across) & (y >= 0) & (height > y) & (height <= down)
    hint = f": {_CORNERS}" if as_corners[~np.isnan(across)].all() else ""

    def place(row: int) -> str:
        return f"is not inside the image of {across[row]:.8g} x {down[row]:.8g} pixels"

    _refuse(path, boxes, outside, place, hint)
    if len(boxes) and (right <= 1).all() and (bottom <= 1).all() and (np.fmin(across, down) > 2).all():
        _refuse(path, boxes, np.ones(len(boxes), bool), "is smaller than a pixel", f": {_SHARES}")

    over = beyond > _HAIR
    left, top = np.clip(x, 0, None), np.clip(y, 0, None)
    cut = np.stack([left, top, np.fmin(right, across) - left, np.fmin(bottom, down) - top], axis=1)
    _refuse(path, boxes, over & ~(cut[:, 2:] > 0).all(axis=1), place)
    result = boxes.copy()
    result.loc[over, CORNER] = cut[over]
    twice = result.duplicated()
    remarks = {
        f"boxes that are up to half a pixel outside of their image, cut to it{_place(boxes, over)}": int(over.sum()),
        f"boxes that are listed again, taken once{_place(boxes, twice.to_numpy())}": int(twice.sum()),
    }
    return result[~twice], {remark: count for remark, count in remarks.items() if count}


def listed(boxes: pd.DataFrame, ids: pd.Series, labels: Sequence[str], has_truth: pd.Series) -> pd.DataFrame:
    """The boxes as columns of an example table whose images have these `ids`, with the index of it.

    They are `boxes`, `box_labels` (of several labels) and `y_<label>`: float32, 1 where an image has a box of the
    label, else 0, NaN where `has_truth` is false.
    """
    label = boxes["label"] if len(labels) > 1 else pd.Series(labels[0], boxes.index)
    corners: dict[str, list[list[float]]] = {}
    names: dict[str, list[str]] = {}
    for name, corner, of in zip(boxes["id"], boxes[CORNER].to_numpy(np.float64).tolist(), label, strict=True):
        corners.setdefault(name, []).append(corner)
        names.setdefault(name, []).append(of)
    columns = {BOXES: pd.Series([corners.get(name, []) for name in ids], ids.index, dtype=object)}
    if len(labels) > 1:
        columns[LABELS] = pd.Series([names.get(name, []) for name in ids], ids.index, dtype=object)
    for of, column in zip(labels, truth_columns(labels), strict=True):
        y = [float(of in names.get(name, [])) for name in ids]
        columns[column] = pd.Series(y, ids.index, np.float32).where(has_truth)
    return pd.DataFrame(columns, ids.index)


def require_boxes(table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Raise DataError, naming an image, unless an example table has sound boxes of these labels.

    That is: lists of four finite numbers with sizes above 0 in `boxes`, inside an image of `width` x `height` (where
    these are known), as many of the `labels` in `box_labels` where there are several, and `y_<label>` 1 exactly where
    there is a box of the label.
    """
    names = [BOXES, "width", "height", *([LABELS] if len(labels) > 1 else [])]
    if absent := [name for name in names if name not in table.columns]:
        raise DataError(f"the example table lacks the columns {some(absent)}, which boxes need")
    rows = table.reset_index(drop=True)
    for name, cell, of in zip(rows["id"], rows[BOXES], rows.get(LABELS, [None] * len(rows)), strict=True):
        if not isinstance(cell, list) or not all(isinstance(box, list) and len(box) == 4 for box in cell):
            raise DataError(f"boxes of the image {name} are {str(cell)[:60]}, not lists of [x, y, width, height]")
        if LABELS in names and not (isinstance(of, list) and len(of) == len(cell) and {*of} <= {*labels}):
            raise DataError(f"box_labels of the image {name} are {str(of)[:60]}, not a label for each of its boxes")
    try:
        boxes = boxes_of(rows, labels)
        sizes = rows[["width", "height"]].to_numpy(np.float64, na_value=np.nan)[boxes.image]
    except (TypeError, ValueError) as error:
        raise DataError(f"the boxes or sizes of the example table are not all numbers: {error}") from error
    far = np.fmax(-boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:] - sizes).max(axis=1, initial=-np.inf)
    sound = np.isfinite(boxes.xywh).all(axis=1) & (boxes.xywh[:, 2:] > 0).all(axis=1) & ~(far > _ROUNDING + _HAIR)
    if not sound.all():
        first = int(np.flatnonzero(~sound)[0])
        row = rows.iloc[boxes.image[first]]
        raise DataError(
            f"a box of the image {row['id']}, {boxes.xywh[first].tolist()}, is not inside its {row['width']} x "
            f"{row['height']} pixels, or has no size"
        )
    y = truth(rows, labels)
    contrary = (~np.isnan(y) & ((y > 0.5) != (boxes.best(len(labels)) > 0))).any(axis=1)
    if contrary.any():
        raise DataError(f"y_* of the image {rows['id'][contrary].iloc[0]} says otherwise than its boxes")


def _refuse(
    path: Path, boxes: pd.DataFrame, bad: np.ndarray, problem: str | Callable[[int], str], remedy: str = ""
) -> None:
    """Raise DataError for the first bad box: where it stands, what it is, and its problem (one for all, or a row's)."""
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    name, x, y, width, height = boxes.iloc[row][["id", *CORNER]]
    more = f" ({bad.sum()} of {len(boxes)} boxes are like this)" if bad.sum() > 1 else ""
    raise DataError(
        f"{path}, {boxes.index.name} {boxes.index[row]}: a box of {name}, x {x:.8g}, y {y:.8g}, "
        f"{width:.8g} x {height:.8g}, {problem if isinstance(problem, str) else problem(row)}{more}{remedy}"
    )


def _place(boxes: pd.DataFrame, which: np.ndarray) -> str:
    return f" (such as {boxes.index.name} {boxes.index[which][0]})" if which.any() else ""

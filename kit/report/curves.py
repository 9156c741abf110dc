"""Curves of a label over all cuts of its probability, as points: thinned to those that their shape needs."""

from dataclasses import dataclass

import numpy as np

from kit.evaluate.thresholds import all_cuts

TOLERANCE = 0.0005  # of an axis from 0 to 1: a quarter of a pixel of a figure


@dataclass(frozen=True)
class Line:
    """A line of points, float [n] each, and its name."""

    name: str
    x: np.ndarray
    y: np.ndarray

    def thinned(self, tolerance: float = TOLERANCE) -> "Line":
        """The same line by fewer points (`thin`)."""
        places = thin(self.x, self.y, tolerance)
        return Line(self.name, self.x[places], self.y[places])


@dataclass(frozen=True)
class Curves:
    """What all cuts of a label's probability give.

    `roc`: sensitivity over 1 - specificity · `pr`: precision over recall · `precision`, `recall`, `f1`: over the cut ·
    `auc`, `ap`: the area under the ROC curve, and average precision · `prevalence`: the share of positive images.
    """

    roc: Line
    pr: Line
    precision: Line
    recall: Line
    f1: Line
    auc: float
    ap: float
    prevalence: float


def curves_of(y: np.ndarray, p: np.ndarray, name: str = "") -> Curves | None:
    """The curves of a label with truth `y` (float [rows], NaN: unknown) and probabilities `p` [rows].

    None where only one class of it occurs. Area and average precision are those of scikit-learn: by trapezoids, and the
    sum of precision times the gain in recall.
    """
    known = ~np.isnan(y)
    positive, score = y[known] > 0.5, p[known].astype(np.float64)
    if not positive.any() or positive.all():
        return None
    cuts = all_cuts(positive, score)
    tp, fp = cuts.tp[1:], cuts.fp[1:]  # without the cut above all probabilities
    recall, precision = tp / cuts.positives, tp / (tp + fp)
    f1, cut = 2 * tp / (tp + fp + cuts.positives), cuts.thresholds[1:]
    x, sensitivity = cuts.fp / cuts.negatives, cuts.tp / cuts.positives
    return Curves(
        roc=Line(name, x, sensitivity).thinned(),
        pr=Line(name, recall, precision).thinned(),
        precision=Line("precision", cut, precision).thinned(),
        recall=Line("sensitivity (recall)", cut, recall).thinned(),
        f1=Line("F1", cut, f1).thinned(),
        auc=float(np.trapezoid(sensitivity, x)),
        ap=float(np.sum(np.diff(recall, prepend=0) * precision)),
        prevalence=float(positive.mean()),
    )


def thin(x: np.ndarray, y: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """The places, int64 [k] rising, of points that draw a line of points [n]: no other is further from it than
    `tolerance`.

    Of points that follow each other in a cell of a fine grid only the first is looked at; then Ramer's and Douglas and
    Peucker's algorithm (1972, 1973), all segments at a time: each is split at its furthest point, until none is too
    far. Raises ValueError for points that are not finite.
    """
    points = np.column_stack([x, y]).astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError("a line has points that are not finite")
    if len(points) < 3:
        return np.arange(len(points))
    cells = np.floor(points / (tolerance / 4))
    begins = np.append(True, (cells[1:] != cells[:-1]).any(axis=1))
    begins[-1] = True
    places = np.flatnonzero(begins)
    return places[_split(points[places], tolerance * 0.6)]  # and at most .36 for the diagonal of a cell


def _split(points: np.ndarray, tolerance: float) -> np.ndarray:
    """The places, rising, of the ends of segments that have no point [n, 2] further away than `tolerance`."""
    first, last = np.array([0]), np.array([len(points) - 1])
    kept = [first, last]
    while len(first):
        inner = last - first - 1
        first, last, inner = first[inner > 0], last[inner > 0], inner[inner > 0]
        if not len(first):
            break
        starts = np.cumsum(inner) - inner
        segment = np.repeat(np.arange(len(first)), inner)
        place = np.arange(len(segment)) - starts[segment] + first[segment] + 1
        away = _distances(points[place], points[first][segment], points[last][segment])
        furthest = np.maximum.reduceat(away, starts)
        at = np.flatnonzero(away == furthest[segment])
        middle = place[at[np.unique(segment[at], return_index=True)[1]]]
        split = furthest > tolerance
        first, middle, last = first[split], middle[split], last[split]
        kept.append(middle)
        first, last = np.concatenate([first, middle]), np.concatenate([middle, last])
    return np.unique(np.concatenate(kept))


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From each point to its segment, float64 [n]; points, starts and ends [n, 2]."""
    along, to = end - start, points - start
    length = np.maximum((along**2).sum(axis=1), 1e-300)
    share = np.clip((to * along).sum(axis=1) / length, 0, 1)
    return np.sqrt(((to - share[:, None] * along) ** 2).sum(axis=1))

"""Labels that look wrong: confident learning (Northcutt et al. 2021, JAIR 70, 1373-1411) on out-of-fold probabilities.

A label is taken to be another one when the model is as sure of that other one as it is, in the mean, of the images that
have it. So a model that is never sure of a rare class still counts, and classes need not be calibrated alike.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from kit.tables import predicted_labels, probabilities, truth, with_truth

COLUMNS = ("id", "label", "given", "p", "suggested", "score", "rank")
CLASS = "class"  # the `label` of rows on exclusive classes
_ROUNDING = 1e-6  # a mean of equal float32 values may lie above them


def label_errors(oof: pd.DataFrame, examples: pd.DataFrame, labels: Sequence[str], exclusive: bool) -> pd.DataFrame:
    """The labels that are likely wrong, the likeliest first: columns COLUMNS, a row for each image and label.

    `label` is the label's name, `given` and `suggested` are "0" or "1"; of `exclusive` classes, `label` is CLASS and
    they are names of classes. `p` is the probability of what is given, `score` 0 to 1 the normalised margin (paper's
    section 3.2): that of p over the largest other probability; the lower, the likelier an error. `rank` counts from 1.
    Unknown labels are left out. `oof` are the out-of-fold predictions (id, `p_*`), `examples` the example table.

    Of predictions of boxes the table is empty: to say which box is missing or misplaced takes a matching of boxes
    that can be wrong itself, and the method is defined for labels of whole images alone.
    """
    if not {*labels} <= {*predicted_labels(oof)}:
        return pd.DataFrame(columns=COLUMNS).astype({"p": float, "score": float, "rank": int})
    rows = with_truth(oof, examples, labels)
    y, p = truth(rows, labels), probabilities(rows, labels).astype(np.float64)
    parts = []
    for label, names, known, given, of_class in _questions(y, p, labels, exclusive):
        suggested = confident(given, of_class)
        wrong = np.flatnonzero(suggested != given)
        own, margin = _margins(given[wrong], of_class[wrong])
        values = (names[given[wrong]], own, names[suggested[wrong]], margin)
        parts.append(pd.DataFrame({"id": rows["id"].to_numpy()[known][wrong], "label": label}))
        parts[-1] = parts[-1].assign(**dict(zip(COLUMNS[2:6], values, strict=True)))
    table = pd.concat(parts).sort_values(["score", "id", "label"], ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))[[*COLUMNS]]


def confident(given: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The class that each label is confidently taken for, int64 [rows]: the given one where there is no other.

    `given` int64 [rows], `p` [rows, classes]. A class is one where its probability is at least the mean over the images
    that are given it (eq. 2); of several, the likeliest class. Where it is not the given one, the label is counted off
    the diagonal of the confident joint (eq. 1), which is the paper's choice of labels by that joint.
    """
    counts = np.bincount(given, minlength=p.shape[1])
    of_given = np.bincount(given, p[np.arange(len(p)), given], minlength=p.shape[1])
    means = np.where(counts > 0, of_given / np.maximum(counts, 1), np.inf)
    sure = p >= means - _ROUNDING
    likeliest = np.where(sure, p, -np.inf).argmax(axis=1)
    return np.where(sure.any(axis=1), likeliest, given)


def _questions(
    y: np.ndarray, p: np.ndarray, labels: Sequence[str], exclusive: bool
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Label, names of its classes, which rows [rows] are known, and of these the given class and [known, classes]."""
    if exclusive:
        known = ~np.isnan(y).any(axis=1)
        yield CLASS, np.array([*labels], object), known, y[known].argmax(axis=1), p[known]
        return
    for n, label in enumerate(labels):
        known = ~np.isnan(y[:, n])
        yes = p[known, n]
        yield label, np.array(["0", "1"], object), known, y[known, n].astype(np.int64), np.stack([1 - yes, yes], 1)


def _margins(given: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of the given classes [rows], and their margins over the largest others, as 0..1."""
    rows = np.arange(len(p))
    others = p.copy()
    others[rows, given] = -np.inf
    own = p[rows, given]
    return own, (own - others.max(axis=1) + 1) / 2 if len(p) else own

"""What the images of a data set look like, by class: statistics of a sample, and images to be shown."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kit.config import ImageSettings
from kit.data.pixels.arrays import unpacked
from kit.data.pixels.survey import BINS, SIDE, survey, thumbnails
from kit.parallel import count_workers, in_processes, progress_bar
from kit.tables import truth

_AT_ONCE = 25  # images per call of a worker
_FEW = 100  # images of a class, up to which more are added to a sample


@dataclass(frozen=True)
class Classes:
    """Parts of the images that are compared: `names` [G], and which rows belong to each, bool [rows, G].

    They are the exclusive classes, or the labels and the images that have none of them. Rows whose labels are unknown
    belong to none.
    """

    names: tuple[str, ...]
    members: np.ndarray

    def largest(self, most: int) -> "Classes":
        """The `most` largest of them, in their order."""
        kept = sorted(np.argsort(-self.members.sum(axis=0), kind="stable")[:most])
        return Classes(tuple(self.names[n] for n in kept), self.members[:, kept])


@dataclass(frozen=True)
class Survey:
    """Statistics of n images: `rows` int [n] of the example table, `random` bool [n]: not added for a rare class.

    `grey` float32 [n, BINS] and `colour` float32 [n, 3, BINS] (NaN of grey images) are shares of pixels by level;
    `means` float32 [G, SIDE, SIDE, 3] the mean image of each class (NaN where there is no image), `edges` float32
    [G, SIDE, SIDE] that of its edges, or None.
    """

    rows: np.ndarray
    random: np.ndarray
    grey: np.ndarray
    colour: np.ndarray
    means: np.ndarray
    edges: np.ndarray | None


def classes_of(table: pd.DataFrame, labels: Sequence[str], exclusive: bool) -> Classes:
    """The classes of an example table's rows; that of images without any label comes last, where there are such."""
    y = truth(table, labels)
    positive = y > 0.5
    if exclusive:
        return Classes(tuple(labels), positive)
    none = (y <= 0.5).all(axis=1)
    name = f"not {labels[0]}" if len(labels) == 1 else "none of these"
    return Classes((*labels, name), np.column_stack([positive, none]))


def draw(classes: Classes, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows int [n] of a random sample of so many images and, of classes that it has few of, up to 100 each.

    Also bool [n]: which are of the sample itself.
    """
    order = np.random.default_rng(seed).permutation(len(classes.members))
    chosen, added = order[:images], order[images:]
    few = np.minimum(_FEW, images) - classes.members[chosen].sum(axis=0)
    more: set[int] = set()
    for column, missing in enumerate(few):
        if missing > 0:
            more |= {*added[classes.members[added, column]][:missing].tolist()}
    rows = np.concatenate([chosen, np.array(sorted(more), np.int64)])
    return rows, np.arange(len(rows)) < len(chosen)


def survey_images(
    table: pd.DataFrame, classes: Classes, root: Path, settings: ImageSettings, images: int, seed: int, edges: bool
) -> Survey:
    """The statistics of a sample of images (`draw`), read in parallel; those that cannot be read are left out."""
    rows, random = draw(classes, images, seed)
    paths = table["path"].to_numpy()
    known, of_class = dict(zip(rows.tolist(), random, strict=True)), np.zeros(len(classes.names), np.int64)
    sums = np.zeros((len(classes.names), SIDE, SIDE, 3))
    strength = np.zeros((len(classes.names), SIDE, SIDE))
    read: list[tuple[int, np.ndarray, np.ndarray]] = []

    def parts() -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(rows), _AT_ONCE):
            chunk = rows[start : start + _AT_ONCE]
            yield chunk.tolist(), paths[chunk].tolist()

    for each in _in_parallel(survey, parts(), paths[rows].tolist(), root, settings, "survey", edges):
        for row, found in each:
            inside = classes.members[row]
            sums[inside] += found.small
            of_class += inside
            if found.edges is not None:
                strength[inside] += found.edges
            read.append((row, found.grey, np.full((3, BINS), np.nan) if found.colour is None else found.colour))
    read.sort(key=lambda each: each[0])
    with np.errstate(invalid="ignore"):
        means, strength = (total / of_class.reshape(-1, *[1] * (total.ndim - 1)) for total in (sums, strength))
    return Survey(
        rows=np.array([row for row, _, _ in read], np.int64),
        random=np.array([known[row] for row, _, _ in read], bool),
        grey=np.array([grey for _, grey, _ in read], np.float32).reshape(-1, BINS),
        colour=np.array([colour for _, _, colour in read], np.float32).reshape(-1, 3, BINS),
        means=means.astype(np.float32),
        edges=strength.astype(np.float32) if edges else None,
    )


@dataclass(frozen=True)
class Thumbnail:
    """An image uint8 [h, w, 1 or 3] to be shown, and height and width of what it was made from."""

    image: np.ndarray
    height: int
    width: int


def show(paths: Sequence[str], root: Path, settings: ImageSettings, side: int) -> dict[str, Thumbnail]:
    """Thumbnails of at most `side` pixels, by path; what cannot be read is left out."""
    chunks = [([*paths[start : start + _AT_ONCE]],) for start in range(0, len(paths), _AT_ONCE)]
    found = _in_parallel(thumbnails, iter(chunks), [*paths], root, settings, "pictures", side)
    return {path: Thumbnail(image, *shape) for each in found for path, image, shape in each}


def _in_parallel(
    function: Callable[..., list[Any]],
    parts: Iterator[tuple[Any, ...]],
    paths: list[str],
    root: Path,
    settings: ImageSettings,
    what: str,
    *more: Any,
) -> Iterator[list[Any]]:
    """The results of `function(*part, root, arrays, settings, *more)`, in any order, with a progress bar."""
    with _arrays(root, paths) as arrays, progress_bar(what, "image", len(paths)) as bar:
        calls = ((*part, root, arrays, settings, *more) for part in parts)
        for found in in_processes(function, calls, count_workers(len(paths))):
            yield found
            bar.update(len(found))


@contextmanager
def _arrays(root: Path, paths: list[str]) -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as scratch, unpacked(root, paths, Path(scratch)) as arrays:
        yield arrays

"""Clusters of images that look alike: the nearest to several sources (scanners, stains) that one data set allows."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from kit.data.pixels.appearance import CHROMA, COLOUR, GREY
from kit.lazy import lazy

sk = lazy("sklearn.cluster")
sk_metrics, threads = lazy("sklearn.metrics"), lazy("threadpoolctl")

_COUNTS = (5, 6, 7, 8)  # of clusters, before small ones are merged
_COLOURED = 3.0  # mean chroma, above which images are coloured
_SAMPLE = 1000  # images by which the number of clusters is chosen
_SMALL = 0.05  # share of the images, below which a cluster is merged into the nearest one
_FEWEST = 20  # images of a cluster
_EXTREME = 3.0  # deviations, beyond which a number counts no more: single odd images are no source


class Clusters(NamedTuple):
    """`number` int64 [n], from 0, the largest cluster first; the means of its traits, in standard deviations."""

    number: np.ndarray
    traits: list[dict[str, float]]


def cluster(appearance: pd.DataFrame, examples: pd.DataFrame, seed: int = 0) -> Clusters:
    """The cluster of every training image, from its numbers (kit.data.pixels.appearance) and its example row.

    Both tables have the same rows in the same order. A group stays whole, in the cluster of most of its images.
    Numbers are those of colour, or for grey images those of grey values and of the source's size, standardised; k-means
    takes the number of clusters, 5 to 8, whose silhouette is best. The order of rows does not matter.
    """
    order = np.argsort(examples["id"].to_numpy(), kind="stable")
    table = _traits(appearance, examples).iloc[order].reset_index(drop=True)
    groups = pd.factorize(examples["group"].to_numpy()[order], sort=True)[0]
    x = np.clip(_standardised(table.to_numpy(np.float64)), -_EXTREME, _EXTREME)
    with threads.threadpool_limits(1):  # sums do not depend on the number of cores
        of_group = _merged(x, _whole(_k_means(x, seed), groups))
    sizes = np.bincount(of_group)
    number = np.empty(len(sizes), np.int64)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    sorted_number = number[of_group]
    traits = [
        dict(zip(table.columns, np.round(x[sorted_number == n].mean(axis=0), 2).tolist(), strict=True))
        for n in range(int((sizes > 0).sum()))
    ]
    result = np.empty(len(order), np.int64)
    result[order] = sorted_number
    return Clusters(result, traits)


def _traits(appearance: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    if appearance[CHROMA].mean() > _COLOURED:
        return appearance[[*COLOUR]].reset_index(drop=True)
    table = appearance[[*GREY]].reset_index(drop=True)
    sizes = {name: np.log(examples[name].to_numpy(np.float64)) for name in ("width", "height") if name in examples}
    if len(sizes) == 2 and all(np.isfinite(values).all() for values in sizes.values()):
        area, aspect = sizes["width"] + sizes["height"], sizes["width"] - sizes["height"]
        return table.assign(size=area / 2, aspect=aspect)
    if "bytes" in examples:  # the file's: all that is left of the source's size
        return table.assign(bytes=np.log(np.maximum(1, examples["bytes"].to_numpy(np.float64))))
    return table


def _standardised(x: np.ndarray) -> np.ndarray:
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1) if len(x) else x


def _k_means(x: np.ndarray, seed: int) -> np.ndarray:
    """The clusters of rows, int [n]; all 0 of too few, or too few different ones."""
    distinct = len(np.unique(x, axis=0))
    counts = [k for k in _COUNTS if k < distinct and k * _FEWEST <= len(x)]
    if not counts:
        return np.zeros(len(x), np.int64)
    sample = np.random.default_rng(seed).permutation(len(x))[:_SAMPLE]
    best: tuple[float, np.ndarray] | None = None
    for k in counts:
        fitted = sk.KMeans(k, n_init=2, random_state=seed).fit(x[sample])
        width = float(sk_metrics.silhouette_score(x[sample], fitted.labels_))
        if best is None or width > best[0]:
            best = width, fitted.cluster_centers_
    assert best is not None
    return _nearest(x, best[1])


def _nearest(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distances = (centres**2).sum(axis=1) - 2 * x @ centres.T  # but for x², which is the same for all
    return distances.argmin(axis=1)


def _merged(x: np.ndarray, number: np.ndarray) -> np.ndarray:
    """The clusters, the smallest merged into the one with the nearest centre until none is small."""
    while True:
        names, sizes = np.unique(number, return_counts=True)
        if len(names) < 2 or sizes.min() >= max(_FEWEST, _SMALL * len(x)):
            return np.unique(number, return_inverse=True)[1]
        smallest = names[sizes.argmin()]
        others = names[names != smallest]
        centres = np.stack([x[number == name].mean(axis=0) for name in others])
        centre = x[number == smallest].mean(axis=0, keepdims=True)
        number = np.where(number == smallest, others[_nearest(centre, centres)[0]], number)


def _whole(number: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The clusters with each group's rows in that of most of them; of equally many in the first."""
    counts = np.zeros((int(groups.max(initial=-1)) + 1, int(number.max(initial=-1)) + 1), np.int64)
    np.add.at(counts, (groups, number), 1)
    chosen = counts.argmax(axis=1)[groups]
    return np.unique(chosen, return_inverse=True)[1]

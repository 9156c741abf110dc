"""How far maps can be trusted, as numbers: each check compares them with maps that say nothing.

Maps are float32 [n, h, w], one for each image, signed (kit.explain.cam, kit.explain.occlusion).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kit.explain.scores import Scores
from kit.schemas import ExplanationCheck

_SIMILAR = 0.5  # the rank correlation from which on two maps are much the same
_SURE, _FEW = 2.0, 8  # standard errors that a difference takes, and images below which nothing is said
_STEPS, _DRAWS = 10, 3  # of the deletion, and of its random orders
_GRAIN = 16  # places along a side of a random map, where maps have more
_GRID, _PLACES = 128, 64  # places along a side on which boxes are compared, and random places of a box


def randomisation(maps: np.ndarray, others: np.ndarray) -> ExplanationCheck:
    """The rank correlation of maps with those of the same network with random weights, the mean over images.

    Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292. Maps that do not depend on what the
    network has learnt, such as those that show edges, fail from a correlation of .5 on.
    """
    values = [_similarity(*pair) for pair in zip(maps, others, strict=True)]
    passed = bool(np.mean(values) < _SIMILAR)
    found = {
        True: "The maps change when the network's weights are replaced by random ones, as they should.",
        False: "The maps hardly change when the network's weights are replaced by random ones: they show what is in "
        "the image, not what the network has learnt.",
    }
    return _check("randomised weights", "rank correlation", np.mean(values), None, passed, len(values), found)


def deletion(
    scores: Scores,
    images: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[int],
    seed: int = 0,
    after: Callable[[], Any] = lambda: None,
) -> ExplanationCheck:
    """The area under the score of a label while the image is blurred, its highest places on the map first.

    Petsiuk et al. 2018, "RISE", arXiv:1806.07421, section 4.2. A map that has found what the score rests on makes it
    fall early. The reference is the same in the order of random maps of the same grain. `images` are uint8
    [n, H, W, C], whose scores of their labels (numbers) should be high.
    """
    rng = np.random.default_rng(seed)
    areas, chances = [], []
    for image, heat, label in zip(images, maps, labels, strict=True):
        grain = [min(side, _GRAIN) for side in heat.shape]
        random = [rng.random(grain) for _ in range(_DRAWS)]
        copies = np.concatenate([_deleted(image, each, rng) for each in (heat, *random)])
        area, *chance = scores(copies)[:, label].reshape(1 + _DRAWS, -1).astype(float)
        areas.append(_area(area))
        chances.append(np.mean([_area(each) for each in chance]))
        after()
    found = {
        True: "The score falls sooner when the image is blurred from the map's highest places on than in random order.",
        False: "The score does not surely fall sooner when the image is blurred from the map's highest places on than "
        "in random order: the score may rest on something else.",
    }
    passed = _surely_above(np.subtract(chances, areas))
    return _check("deletion", "area under the score", np.mean(areas), np.mean(chances), passed, len(areas), found)


def pointing(maps: np.ndarray, boxes: Sequence[np.ndarray]) -> ExplanationCheck:
    """How often the highest place of a map is in a true box, against how often a random place is.

    Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", arXiv:1608.00507, without its tolerance.
    `boxes`: of each image float [m, 4] (x, y, width, height) as shares of it.
    """
    inside = [mask(each) for each in boxes]
    hits = [each[place] for each, place in zip(inside, map(_highest, maps), strict=True)]
    chances = [each.mean() for each in inside]
    found = {
        True: "The map's highest place is in a true box more often than a random place is.",
        False: "The map's highest place is not surely in a true box more often than a random place is.",
    }
    passed = _surely_above(np.subtract(hits, chances))
    return _check("pointing game", "share of hits", np.mean(hits), np.mean(chances), passed, len(hits), found)


def overlap(maps: np.ndarray, boxes: Sequence[np.ndarray], seed: int = 0) -> ExplanationCheck:
    """Intersection over union of true boxes and a map's highest places, as many as they cover.

    The reference is that of boxes of their sizes at random places. `boxes` as in `pointing`.
    """
    rng, values, chances = np.random.default_rng(seed), [], []
    for heat, true in zip(maps, boxes, strict=True):
        inside, ranks = mask(true), _order(_resized(heat, (_GRID, _GRID)), rng)
        values.append(_iou(ranks < inside.sum(), inside))
        chances.append(np.mean([_iou(mask(_moved(true, rng)), inside) for _ in range(_PLACES)]))
    found = {
        True: "The map's highest places overlap the true boxes more than boxes of their sizes at random places do.",
        False: "The map's highest places do not surely overlap the true boxes more than boxes at random places do.",
    }
    passed = _surely_above(np.subtract(values, chances))
    return _check("overlap with boxes", "mean IoU", np.mean(values), np.mean(chances), passed, len(values), found)


def mask(boxes: np.ndarray) -> np.ndarray:
    """Which places of a grid over the image are in boxes [m, 4] (shares of it): bool [128, 128]."""
    middle = (np.arange(_GRID) + 0.5) / _GRID
    x, y, w, h = (side[:, None] for side in np.reshape(boxes, (-1, 4)).T)
    rows, columns = (middle >= y) & (middle < y + h), (middle >= x) & (middle < x + w)
    return np.asarray((rows[:, :, None] & columns[:, None]).any(axis=0))


def _check(
    name: str, unit: str, value: Any, reference: Any, passed: bool | None, images: int, found: dict[bool, str]
) -> ExplanationCheck:
    sentence = f"Too few images to tell: {images}." if passed is None else found[passed]
    reference = None if reference is None else float(reference)
    return ExplanationCheck(
        name=name, unit=unit, value=float(value), reference=reference, passed=passed, images=images, sentence=sentence
    )


def _surely_above(differences: np.ndarray) -> bool | None:
    """Whether the mean is above 0 by more than two standard errors; None for too few to say."""
    if len(differences) < _FEW:
        return None
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() > _SURE * error)


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation; 1 for maps that are the same, 0 where only one of them is constant."""
    from scipy.stats import rankdata

    if np.array_equal(one, other) or not (np.ptp(one) or np.ptp(other)):
        return 1.0
    if not (np.ptp(one) and np.ptp(other)):
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _deleted(image: np.ndarray, heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copies of an image [H, W, C], blurred at none of its pixels, at a tenth, ... at all: uint8 [11, H, W, C]."""
    import cv2

    blurred = cv2.GaussianBlur(image, (0, 0), min(image.shape[:2]) / 10).reshape(image.shape)
    ranks = _order(_resized(heat, image.shape[:2]), rng)
    counts = np.linspace(0, ranks.size, _STEPS + 1)
    return np.stack([np.where((ranks < count)[..., None], blurred, image) for count in counts])


def _area(curve: np.ndarray) -> float:
    """The area under values at equal distances from 0 to 1."""
    return float(np.mean((curve[1:] + curve[:-1]) / 2))


def _order(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rank of each place from the highest (0) on, of equal ones at random: int [h, w]."""
    ranks = np.empty(heat.size, np.int64)
    ranks[np.lexsort((rng.random(heat.size), -heat.ravel()))] = np.arange(heat.size)
    return ranks.reshape(heat.shape)


def _highest(heat: np.ndarray) -> tuple[int, ...]:
    """The highest place on the grid of `mask`; of a map without any, the middle."""
    fine = _resized(heat, (_GRID, _GRID))
    middle = _GRID // 2
    return tuple(map(int, np.unravel_index(fine.argmax(), fine.shape))) if np.ptp(fine) else (middle, middle)


def _resized(heat: np.ndarray, size: Sequence[int]) -> np.ndarray:
    import cv2

    return np.asarray(cv2.resize(np.asarray(heat, np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def _moved(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes of the same sizes at random places inside the image."""
    boxes = np.reshape(boxes, (-1, 4))
    corners = rng.random((len(boxes), 2)) * np.clip(1 - boxes[:, 2:], 0, None)
    return np.concatenate([corners, boxes[:, 2:]], axis=1)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0

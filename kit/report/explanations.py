"""The page of explanations: images beside maps of what speaks for a label, and how far the maps can be trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kit.report import pictures
from kit.report.page import Block, Gallery, Page, Picture, Section, Table, Text, number
from kit.schemas import ExplanationScores

_SIDE, _GAP = 256, 4  # pixels of a panel, and white ones between panels
_TITLES = {
    "worst": "The worst predictions",
    "best": "The best predictions",
    "unsure": "Nearest to the cut",
    "random": "At random",
    "false positive": "False positives",
    "false negative": "False negatives",
    "named": "Chosen images",
    "new": "New images",
}
_METHODS = {
    "gradcam": "Grad-CAM: the network's last feature maps, each weighed by how much it raises the label's logit",
    "hirescam": "HiResCAM: each place of the network's last feature maps times how much it raises the label's logit",
    "occlusion": "Occlusion: how far the label's score drops where a patch covers the image",
}
_WHO = {
    "own": "Each image is explained by the model that has not seen it in training.",
    "mean": "Maps are the mean over the models of all folds.",
}


@dataclass(frozen=True)
class Boxes:
    """Boxes over a picture, float [m, 5]: x, y, width, height as shares of it, score; true ones, and those found."""

    true: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Shown:
    """An image uint8 [H, W, C] and maps [h, w] of it, 0 to 1, by the run's name; what is said of it in words."""

    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    boxes: Boxes
    kind: str
    caption: str
    wrong: bool | None  # whether the decision is; None: the truth is not known


def overlay(image: np.ndarray, heat: np.ndarray, boxes: Boxes) -> np.ndarray:
    """The image under a map and boxes, uint8 RGB with a longer side of 256 pixels."""
    return _with_boxes(pictures.with_map(image, heat), boxes)


def page(title: str, scores: ExplanationScores, cases: Sequence[Shown]) -> Page:
    """The page: how to read it, the checks, and the images by kind."""
    kinds = list(dict.fromkeys(case.kind for case in cases))
    galleries = [
        Section(_TITLES.get(kind, kind), kind.replace(" ", "-"), _gallery([c for c in cases if c.kind == kind]))
        for kind in kinds
    ]
    subtitle = f"{_METHODS[scores.method].split(':')[0]}, {len(cases)} pictures"
    sections = [Section("How to read this", "reading", _reading(scores, cases)), *galleries]
    return Page(title, subtitle, [*sections, Section("How far the maps can be trusted", "checks", _checks(scores))])


def _reading(scores: ExplanationScores, cases: Sequence[Shown]) -> list[Block]:
    several = max((len(case.maps) for case in cases), default=1) > 1
    names = list(cases[0].maps) if cases else []
    panels = f"then one for each run ({', '.join(names)})" if several else "then the same image under its map"
    rest = "does not matter or speaks against it" if scores.method == "occlusion" else "is below the median place"
    text = (
        f"{_METHODS[scores.method]}. Each picture shows the image as the network gets it, {panels}: bright yellow is "
        f"what speaks most for the label, uncoloured is what {rest}. Each map is scaled "
        "to its own highest value: compare places within a picture, not brightness between pictures. "
        f"{_WHO[scores.folds]}"
    )
    if scores.method != "occlusion":
        text += " A logit is the score that becomes a label's probability."
    boxes = "True boxes are green; boxes that the model found are orange, with their scores."
    blocks: list[Block] = [Text(text)]
    if any(len(case.boxes.true) or len(case.boxes.found) for case in cases):
        blocks.append(Text(boxes))
    caution = "A map says where a network looked, not why, and not that it was right to."
    failed = [check for check in scores.checks if check.passed is False]
    return [
        *blocks,
        *(Text(f"A check failed ({c.name}). {c.sentence}", "warning") for c in failed),
        Text(caution, "note"),
    ]


def _checks(scores: ExplanationScores) -> list[Block]:
    if not scores.checks:
        return [Text("No check was made.", "note")]
    rows = [
        [c.name, _RESULTS[c.passed], c.unit, number(c.value), number(c.reference), str(c.images)] for c in scores.checks
    ]
    table = Table(["check", "result", "measured", "maps", "by chance", "images"], rows, _CAPTION, numbers=3)
    return [table, *(Text(f"{check.name}: {check.sentence}") for check in scores.checks)]


_RESULTS = {True: "passed", False: "failed", None: "too few images"}
_CAPTION = (
    "Maps against maps that say nothing. A check passes where maps are better by more than two standard errors; the "
    "one of randomised weights, where the rank correlation is below .5."
)


def _gallery(cases: Sequence[Shown]) -> list[Block]:
    panels = max(1 + len(case.maps) for case in cases)
    return [Gallery([_picture(case) for case in cases], width=min(240 * panels, 520))]


def _picture(case: Shown) -> Picture:
    panels = [_with_boxes(pictures.resized(pictures.as_rgb(case.image), _SIDE), case.boxes)]
    panels += [overlay(case.image, heat, case.boxes) for heat in case.maps.values()]
    gap = np.full((panels[0].shape[0], _GAP, 3), 255, np.uint8)
    joined = np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)
    badge = {True: "wrong", False: "right", None: ""}[case.wrong]
    tone = {True: "bad", False: "good", None: ""}[case.wrong]
    image = pictures.jpeg(joined, side=max(joined.shape[:2]))
    return Picture(image, case.caption.replace("\n", ", "), case.caption, badge, tone)


def _with_boxes(canvas: np.ndarray, boxes: Boxes) -> np.ndarray:
    if len(boxes.true):
        canvas = pictures.with_boxes(canvas, boxes.true[:, :4], pictures.TRUE)
    if len(boxes.found):
        canvas = pictures.with_boxes(
            canvas, boxes.found[:, :4], pictures.FOUND, [number(s, 2) for s in boxes.found[:, 4]]
        )
    return canvas

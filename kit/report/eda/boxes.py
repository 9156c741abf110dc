"""Where boxes are, how large, and how many an image has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kit.boxes import Boxes
from kit.errors import counted
from kit.report import page, style
from kit.report.eda.pixels import steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 24  # of a side of the image
_PANELS = 4
_ROUNDING = 0.02  # of a side
_MANY = 8  # boxes in an image, from which they are counted together


@dataclass(frozen=True)
class Part:
    """Boxes that are compared with others, such as those of a view: their images, bool [images], and themselves.

    Their numbers are shares of the images.
    """

    name: str
    images: np.ndarray
    boxes: Boxes


def blocks(parts: Sequence[Part], others: Sequence[Part]) -> list[page.Block]:
    """Figures of `parts` of the boxes, the first of which is all in images of known truth; a table of `others` too."""
    outside = int((~_inside(parts[0].boxes)).sum())
    remarks: list[page.Block] = []
    if outside:
        text = (
            f"{counted(outside, 'box reaches', 'boxes reach')} beyond the image, which seems to have another size than "
        )
        remarks.append(page.Text(f"{text}the table of boxes says: left out here.", "warning"))
    parts, others = (
        [replace(part, boxes=part.boxes.where(_inside(part.boxes))) for part in each] for each in (parts, others)
    )
    if not len(parts[0].boxes):
        return remarks or [page.Text("No image has a box.", "warning")]
    if len(parts) + len(others) == 1:
        return [*remarks, *_figures(parts)]
    table = page.Table(
        ["", "images", "with a box", "boxes", "median width × height"], [_row(part) for part in (*parts, *others)]
    )
    return [*remarks, *_figures([part for part in parts if len(part.boxes)][:_PANELS]), table]


def _inside(boxes: Boxes) -> np.ndarray:
    """Which boxes lie in their images, but for rounding: bool [n]."""
    return ((boxes.xywh[:, :2] > -_ROUNDING) & (boxes.xywh[:, :2] + boxes.xywh[:, 2:] < 1 + _ROUNDING)).all(axis=1)


def _figures(parts: Sequence[Part]) -> list[page.Block]:
    every = parts[0]
    per_image = np.bincount(every.boxes.image, minlength=every.boxes.images)[every.images]
    text = (
        f"{counted(len(every.boxes), 'box', 'boxes')} in {int((per_image > 0).sum()):,} of {len(per_image):,} images."
    )
    caption = f"Boxes per image. The most is {per_image.max()}: input.most_boxes must not be less."
    count = page.Figure("box_counts", style.drawn(_counts, per_image), caption, caption)
    caption = (
        "Width and height of boxes; yellow is where there are most. Boxes of a few per cent are a few pixels at the "
        "size of the network: make image.size larger if there are many."
    )
    sizes = page.Figure("box_sizes", style.drawn(_sides, every.boxes), caption, caption)
    caption = (
        "Centres of boxes; yellow is where there are most. A model finds little where it has never seen a box: "
        "augment.shift moves them."
    )
    panels = len(parts)
    caption += " What is shifted between panels is another position of the patient." if panels > 1 else ""
    drawing = style.drawn(_maps, parts, columns=panels, wide=panels > 1)
    centres = page.Figure("box_centres", drawing, caption, caption, wide=panels > 1)
    if panels == 1:
        return [page.Text(text, "lead"), count, sizes, centres]
    areas = [(part.name, 100 * part.boxes.xywh[:, 2] * part.boxes.xywh[:, 3]) for part in parts[1:]]
    caption = "Area of boxes by part. Where one has larger boxes than another, score them apart."
    drawing = style.drawn(steps, areas, "area (% of the image)", "% of boxes")
    return [page.Text(text, "lead"), count, sizes, page.Figure("box_areas", drawing, caption, caption), centres]


def _row(part: Part) -> list[str]:
    images, with_box = int(part.images.sum()), len(np.unique(part.boxes.image))
    share = f"{with_box:,} ({with_box / images:.0%})" if images else "–"
    sides = np.median(part.boxes.xywh[:, 2:], axis=0) if len(part.boxes) else None
    size = "–" if sides is None else f"{sides[0]:.0%} × {sides[1]:.0%}"
    return [part.name, f"{images:,}", share, f"{len(part.boxes):,}", size]


def _counts(axes: "Axes", per_image: np.ndarray) -> None:
    counts = np.bincount(np.minimum(per_image, _MANY))
    axes.bar(np.arange(len(counts)), counts, color=style.colour(0))
    for n, count in enumerate(counts):
        axes.annotate(f"{count:,}", (n, count), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(range(len(counts)), [str(n) if n < _MANY else f"{_MANY}+" for n in range(len(counts))])
    axes.grid(visible=False, axis="x")
    axes.set(xlabel="boxes", ylabel="images")


def _sides(axes: "Axes", boxes: Boxes) -> None:
    shares = boxes.xywh[:, 2:].clip(0, 1)
    limits = [min(1.0, 1.05 * float(shares[:, n].max())) for n in (0, 1)]
    heat, _, _ = np.histogram2d(shares[:, 1], shares[:, 0], bins=_BINS, range=[[0, limits[1]], [0, limits[0]]])
    extent = (0, 100 * limits[0], 0, 100 * limits[1])
    axes.imshow(heat, cmap=style.SEQUENTIAL, extent=extent, origin="lower", aspect="auto")
    axes.set(xlabel="width (% of the image)", ylabel="height (% of the image)")
    axes.grid(False)


def _maps(axes: "Axes | np.ndarray", parts: Sequence[Part]) -> None:
    for each, part in zip(np.ravel(np.array(axes, object)), parts, strict=True):
        centres = part.boxes.xywh[:, :2] + part.boxes.xywh[:, 2:] / 2
        heat, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=_BINS, range=[[0, 1], [0, 1]])
        each.imshow(heat, cmap=style.SEQUENTIAL, extent=(0, 100, 100, 0), aspect="equal")
        each.set(title=f"{part.name}: {len(part.boxes):,}", xlabel="% of the width", ylabel="% of the height")
        each.grid(False)

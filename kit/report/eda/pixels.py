"""What images look like by class: sizes, grey levels, colours, mean images, edges."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.errors import counted
from kit.report import page, pictures, style
from kit.report.eda.labels import shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 6  # classes that a figure tells apart
_FEW_SIZES = 8
_HISTOGRAMS, _BOXES = 3, 20  # classes in a figure of either kind
_CHANNELS = ("red", "green", "blue")


def sizes(table: pd.DataFrame, names: Sequence[str], members: np.ndarray) -> list[page.Block]:
    """Sizes in pixels of readable images (columns width, height, bytes), by class, and of their files."""
    pairs = (table["width"].astype(int).astype(str) + " × " + table["height"].astype(int).astype(str)).value_counts()
    rows = [[str(pair), f"{count:,}", f"{count / len(table):.1%}"] for pair, count in pairs.head(_FEW_SIZES).items()]
    if len(pairs) > _FEW_SIZES:
        rest = int(pairs.iloc[_FEW_SIZES:].sum())
        rows.append([f"{len(pairs) - _FEW_SIZES:,} others", f"{rest:,}", f"{rest / len(table):.1%}"])
    sides = table[["width", "height"]].to_numpy(float)
    drawn = [
        (
            "sides",
            sides.max(axis=1),
            "longer side (pixels)",
            "The longer side, by class. A network sees all images at one size: where classes differ here, it may tell "
            "them apart by blur alone.",
        ),
        (
            "ratios",
            sides[:, 0] / sides[:, 1],
            "width / height",
            "Width over height, by class; 1 is a square. Images are squeezed into a square, unless image.steps crop.",
        ),
        (
            "files",
            table["bytes"].to_numpy(float) / 1024,
            "size of the file (KiB)",
            "Size of files, by class. At one size in pixels, small files are smooth or empty images; two humps are two "
            "sources or encodings.",
        ),
    ]
    figures = [
        page.Figure(name, style.drawn(by_class, names, members, values, label), caption, caption)
        for name, values, label, caption in drawn
        if len(np.unique(values)) > 1
    ]
    return [page.Table(["width × height", "images", "share"], rows), *figures]


def kinds(table: pd.DataFrame, names: Sequence[str], members: np.ndarray) -> list[page.Block]:
    """Formats and channels (columns format, channels), and the classes of the images that have them."""
    kind = table["format"].astype(str) + ", " + table["channels"].astype(str)
    parts = [(str(value), (kind == value).to_numpy()) for value in kind.value_counts().index]
    note = (
        "Format and channels of files, and of the images of each kind the share of each class. A kind of file that is "
        "of one class mostly gives that class away, and scores do not hold for images from elsewhere."
    )
    return [page.Text(note, "note"), shares("format, channels", parts, names, members)]


def grey_levels(names: Sequence[str], members: np.ndarray, grey: np.ndarray) -> page.Figure:
    """Mean shares of pixels by grey level, `grey` float [n, bins], of each class (`members` bool [n, classes])."""
    caption = (
        "Grey levels: of the pixels of a class, how many have each level (the mean over images; black is 0). Peaks at "
        "the ends are borders and saturation. Classes that differ as a whole can be told apart by exposure."
    )
    return page.Figure("grey", style.drawn(_levels, names, members, grey), caption, caption)


def grey_by_split(train: np.ndarray, test: np.ndarray) -> page.Figure:
    """The same of training and test images, float [n, bins] each."""
    members = np.repeat(np.eye(2, dtype=bool), [len(train), len(test)], axis=0)
    caption = (
        "The same, training against test images: where the curves differ, the test set comes from elsewhere, and "
        "scores on training folds will not hold for it."
    )
    drawing = style.drawn(_levels, ["train", "test"], members, np.concatenate([train, test]))
    return page.Figure("splits", drawing, caption, caption)


def colours(names: Sequence[str], members: np.ndarray, colour: np.ndarray) -> list[page.Block]:
    """Shares of pixels by level of red, green and blue, `colour` float [n, 3, bins], NaN of grey images."""
    coloured = ~np.isnan(colour[:, 0, 0])
    if not coloured.any():
        return [page.Text("All images of the sample are grey, also those stored with three channels.", "note")]
    share = f"{coloured.mean():.0%} of the images of the sample have colours"
    caption = (
        f"Levels of red, green and blue in colour images ({share}), by class. Stains and cameras differ in hue: "
        "augment.stain and augment.channel_shift make a network less sensitive to it."
    )
    drawing = style.drawn(_three, names, members[coloured], colour[coloured], columns=3, wide=True)
    return [page.Figure("colours", drawing, caption, caption, wide=True)]


def mean_images(names: Sequence[str], means: np.ndarray, edges: np.ndarray | None) -> list[page.Block]:
    """The mean image of each class, float [classes, H, W, 3]; with `edges` float [classes, H, W] those of its edges."""
    shown = [n for n in range(len(names)) if np.isfinite(means[n]).all()]
    images = [
        page.Picture(pictures.jpeg(means[n].clip(0, 255).astype(np.uint8), 192), f"mean image of {names[n]}", names[n])
        for n in shown
    ]
    caption = (
        "The mean image of each class, squeezed into a square. Sharp outlines mean that images are aligned; marks and "
        "borders that show in one class alone give it away."
    )
    blocks: list[page.Block] = [page.Gallery(images, caption)]
    if edges is not None and shown:
        brightest = max(1e-6, float(np.nanmax(edges)))
        levels = (255 * np.nan_to_num(edges) / brightest).clip(0, 255).astype(np.uint8)
        images = [page.Picture(pictures.jpeg(levels[n], 192), f"mean edges of {names[n]}", names[n]) for n in shown]
        caption = (
            "Edges (Sobel), the mean over the images of each class; white is where edges are strongest. Rectangles and "
            "letters here are borders and labels burnt into the images."
        )
        blocks.append(page.Gallery(images, caption))
    return blocks


def _levels(axes: "Axes", names: Sequence[str], members: np.ndarray, shares: np.ndarray) -> None:
    """A line for each class: the mean of the shares [n, bins] of its images."""
    levels = (np.arange(shares.shape[1]) + 0.5) * 256 / shares.shape[1]
    for n, name in enumerate(names):
        if members[:, n].any():
            axes.plot(levels, 100 * shares[members[:, n]].mean(axis=0), color=style.colour(n), label=name)
    axes.set(xlim=(0, 255), xlabel="grey level", ylabel="% of pixels")
    axes.set_ylim(bottom=0)
    axes.legend()


def _three(axes: np.ndarray, names: Sequence[str], members: np.ndarray, colour: np.ndarray) -> None:
    for channel, (each, title) in enumerate(zip(axes, _CHANNELS, strict=True)):
        _levels(each, names, members, colour[:, channel])
        each.set(title=title, xlabel="level")
        if channel:
            each.set_ylabel("")
            each.get_legend().remove()


def by_class(axes: "Axes", names: Sequence[str], members: np.ndarray, values: np.ndarray, label: str) -> None:
    """The values [n] by class: histograms of up to three, else a box for each (quartiles; whiskers hold 98 %)."""
    parts = [(name, values[members[:, n]]) for n, name in enumerate(names)]
    if len(names) <= _HISTOGRAMS:
        steps(axes, parts, label)
        return
    parts = [(name, own[np.isfinite(own)]) for name, own in parts][:_BOXES]
    parts = [(name, own) for name, own in parts if len(own)]
    for place, (_, own) in enumerate(parts):
        least, low, middle, high, most = np.quantile(own, [0.01, 0.25, 0.5, 0.75, 0.99])
        axes.hlines(place, least, most, color=style.colour(0), lw=1)
        axes.barh(place, high - low, left=low, height=0.6, facecolor="white", edgecolor=style.colour(0))
        axes.vlines(middle, place - 0.3, place + 0.3, color=style.colour(1), lw=2)
    style.ticks(axes, [name for name, _ in parts], "y")
    axes.invert_yaxis()
    axes.set_xlabel(label)


def steps(
    axes: "Axes", parts: Sequence[tuple[str, np.ndarray]], label: str, unit: str = "% of the class's images"
) -> None:
    """Histograms of several parts (name, values [n]), each as shares of its own; NaN and the farthest 1 % left out."""
    parts = [(name, values[np.isfinite(values)]) for name, values in parts]
    every = np.concatenate([values for _, values in parts]) if parts else np.empty(0)
    if not len(every):
        return
    edges = _edges(every).tolist()
    for n, (name, values) in enumerate(parts):
        if len(values):
            weights = np.full(len(values), 100 / len(values))
            axes.hist(values, edges, weights=weights, histtype="step", color=style.colour(n), label=name, lw=1.6)
    axes.set(xlabel=label, ylabel=unit)
    axes.legend()


def _edges(values: np.ndarray) -> np.ndarray:
    """Where the bars of a histogram begin and end: 8 to 30 bars over the middle 99 %, of whole numbers if these are."""
    bars = min(30, max(8, int(len(values) ** 0.5)))
    low, high = np.quantile(values, [0.005, 0.995])
    if np.all(values == np.round(values)):
        width = max(1, int(np.ceil((high - low + 1) / bars)))
        return np.arange(np.floor(low) - 0.5, high + width, width)
    return np.linspace(low, high if high > low else low + 1, bars + 1)


def remark_on_classes(names: Sequence[str], of: int) -> page.Text | None:
    """That figures show the largest classes alone, where they do."""
    if len(names) == of:
        return None
    return page.Text(f"Curves show the {counted(len(names), 'largest class', 'largest classes')} of {of}.", "note")

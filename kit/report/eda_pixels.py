"""What images look like by class: sizes, grey levels, colours, mean images, edges."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kit.errors import counted
from kit.report import page, pictures, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 6  # classes that a figure tells apart
_FEW_SIZES = 8
_CHANNELS = ("red", "green", "blue")


def sizes(table: pd.DataFrame, names: Sequence[str], members: np.ndarray) -> list[page.Block]:
    """Sizes in pixels of readable images (columns width, height, bytes), by class, and of their files."""
    pairs = (table["width"].astype(int).astype(str) + " × " + table["height"].astype(int).astype(str)).value_counts()
    total = len(table)
    rows = [[str(pair), f"{count:,}", f"{count / total:.1%}"] for pair, count in pairs.head(_FEW_SIZES).items()]
    if len(pairs) > _FEW_SIZES:
        rest = int(pairs.iloc[_FEW_SIZES:].sum())
        rows.append([f"{len(pairs) - _FEW_SIZES:,} others", f"{rest:,}", f"{rest / total:.1%}"])
    blocks: list[page.Block] = [page.Table(["width × height", "images", "share"], rows, "Sizes in pixels.")]
    if len(pairs) > 1:
        longest = table[["width", "height"]].max(axis=1).to_numpy(float)
        ratio = (table["width"] / table["height"]).to_numpy(float)
        caption = (
            "The longer side by class. A network sees all images at one size, so where classes differ here, it may "
            "tell them apart by blur alone."
        )
        blocks.append(
            page.Figure("sides", style.drawn(_steps, names, members, longest, "longer side (pixels)"), caption, caption)
        )
        caption = (
            "Width over height by class: 1 is a square. Images are squeezed into a square, unless image.steps crop."
        )
        drawing = style.drawn(_steps, names, members, ratio, "width / height")
        blocks.append(page.Figure("ratios", drawing, caption, caption))
    if table["bytes"].nunique() > 1:
        caption = (
            "Size of files by class. At one size in pixels, small files are smooth or empty images; two humps are two "
            "sources or encodings."
        )
        drawing = style.drawn(_steps, names, members, table["bytes"].to_numpy(float) / 1024, "size of the file (KiB)")
        blocks.append(page.Figure("files", drawing, caption, caption))
    return blocks


def kinds(table: pd.DataFrame, names: Sequence[str], members: np.ndarray) -> page.Table:
    """Formats and channels (columns format, channels), and how they share out over the classes."""
    kind = table["format"].astype(str) + ", " + table["channels"].astype(str)
    rows = []
    for value, count in kind.value_counts().items():
        inside = (kind == value).to_numpy()
        shares = [f"{inside[members[:, n]].mean():.1%}" if members[:, n].any() else "–" for n in range(len(names))]
        rows.append([str(value), f"{count:,}", f"{count / len(table):.1%}", *shares])
    caption = (
        "Format and channels of files, and of the images of each class the share that has them. Where a kind of file "
        "is more frequent in one class, it gives the class away, and scores would not hold for images from elsewhere."
    )
    return page.Table(["format, channels", "images", "all", *names], rows, caption)


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
        "augment.hue and stain augmentation make a network indifferent to it."
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
            axes.plot(levels, 100 * shares[members[:, n]].mean(axis=0), color=style.colour(n), label=_short(name))
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


def _steps(axes: "Axes", names: Sequence[str], members: np.ndarray, values: np.ndarray, label: str) -> None:
    """A histogram of the values [n] of each class, as shares of it, over the middle 99 % of all."""
    steps(axes, [(name, values[members[:, n]]) for n, name in enumerate(names)], label)


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
            axes.hist(
                values, edges, weights=weights, histtype="step", color=style.colour(n), label=_short(name), lw=1.6
            )
    axes.set(xlabel=label, ylabel=unit)
    axes.legend()


def _edges(values: np.ndarray) -> np.ndarray:
    """Where the bars of a histogram begin and end: one for each of a few whole numbers, else 30."""
    least, most = values.min(), values.max()
    if most - least <= 60 and np.all(values == np.round(values)):
        return np.arange(least - 0.5, most + 1)
    low, high = np.quantile(values, [0.005, 0.995])
    return np.linspace(low, high if high > low else low + 1, 31)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def remark_on_classes(names: Sequence[str], of: int) -> page.Text | None:
    """That figures show the largest classes alone, where they do."""
    if len(names) == of:
        return None
    return page.Text(f"Curves show the {counted(len(names), 'largest class', 'largest classes')} of {of}.", "note")

"""One look for all figures: colours that colour-blind readers can tell apart, and how a figure becomes a file."""

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008, "Color Universal Design"), the darker ones first: thin yellow lines are hard to see.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MUTED, GRID, CHANCE = "#6b7280", "#e5e7eb", "#9ca3af"  # text beside the point, lines of the grid, the line of chance
SEQUENTIAL = "cividis"  # the colour map of matrices and maps, even in lightness
PNG_DPI = 150
_HALF, _FULL = (4.8, 3.5), (9.6, 3.6)  # inches: half the width of a page's column, and all of it
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": GRID,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",  # text stays text: small, and it can be searched
    "text.parse_math": False,  # a label with two dollars is a label
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


def drawn(
    draw: Callable[..., None], *arguments: Any, rows: int = 1, columns: int = 1, wide: bool = False, tall: float = 1.0
) -> "Figure":
    """A figure that `draw(axes, *arguments)` has drawn into; `axes` is one, or an array of several [rows, columns].

    `tall` is its height as a multiple of the usual one. It belongs to no window and to no global state of matplotlib.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    width, height = _FULL if wide else _HALF
    with mpl.rc_context({**_SETTINGS, "axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(figsize=(width, height * tall))
        axes = figure.subplots(rows, columns)
        draw(axes, *arguments)
        for legend in figure.findobj(Legend):
            for entry in legend.get_texts():
                entry.set_text(short(entry.get_text()))
        figure.draw_without_rendering()  # within these settings: texts are laid out when they are drawn
        figure.set_layout_engine("none")  # once is enough, and takes as long as all else
    return figure


def svg(figure: "Figure", name: str) -> str:
    """The figure as an `<svg>` element; `name` keeps its ids apart from those of other figures of a page."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": "kit"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text[text.index("<svg") :])
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)


def png(figure: "Figure") -> bytes:
    """The figure as a PNG."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(stream, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return stream.getvalue()


def colour(n: int) -> str:
    """The colour of the n-th of several things."""
    return COLOURS[n % len(COLOURS)]


def short(name: str, longest: int = 40) -> str:
    """A name of at most so many characters: names come from data, and a long one would leave a figure no room."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def ticks(axes: "Axes", names: Sequence[str], axis: str = "x", longest: int = 24) -> None:
    """Name the places 0, 1, ... of an axis; long names are cut, and turned where there are many."""
    shown = [short(name, longest) for name in names]
    turned = axis == "x" and (len(shown) > 4 or max(map(len, shown), default=0) > 10)
    which = axes.xaxis if axis == "x" else axes.yaxis
    which.set_ticks(range(len(shown)), labels=shown)
    if turned:
        for label in which.get_ticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    which.grid(False)

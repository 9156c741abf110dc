"""How training went: losses, the score and the learning rate by epoch, a line for each fold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kit.report import panels, style
from kit.report.page import Block, Figure, Section, Table, Text, number
from kit.report.result import name_of


def section(histories: Mapping[int, pd.DataFrame], more: list[Block]) -> Section:
    """Training from a row per epoch of each fold: `epoch`, and whichever there are of `loss`, `val_*`, `learning_rate`,
    `phase` and `seconds`. `more` comes after it: what training has added."""
    trained = {k: table for k, table in histories.items() if len(table) > 1}
    blocks: list[Block] = []
    if trained:
        blocks = [_curves(trained), _table(trained)]
    elif histories:
        blocks = [
            Text(
                "The network is used as it is; the head on its features is fitted in one step, so there are no epochs."
            )
        ]
    return Section("Training", "training", [*blocks, *more])


def seconds(histories: Mapping[int, pd.DataFrame]) -> float | None:
    """How long all epochs took; None where that was not noted."""
    noted = [table["seconds"].sum() for table in histories.values() if "seconds" in table]
    return float(sum(noted)) if noted and len(noted) == len(histories) else None


def _curves(histories: Mapping[int, pd.DataFrame]) -> Figure:
    columns = next(iter(histories.values())).columns
    metric = _metric_of(columns)
    drawn = [panels.Panel("loss", ("loss", "val_loss"))]
    if metric:
        drawn.append(panels.Panel(f"{name_of(metric.removeprefix('val_'))}, the fold's own images", (metric,)))
    if "learning_rate" in columns:
        drawn.append(panels.Panel("learning rate", ("learning_rate",)))

    def draw(axes: Any, wanted: tuple[str, ...]) -> None:
        for n, (k, table) in enumerate(sorted(histories.items())):
            epochs = table["epoch"] + 1
            for column in wanted:
                if column not in table:
                    continue
                own = column.startswith("val_") or len(wanted) == 1
                marker = "o" if own and len(table) < 30 else ""
                label = f"fold {k + 1}" if column == wanted[-1 if wanted[-1] in table else 0] else None
                axes.plot(
                    epochs, table[column], "-" if own else "--", marker=marker, markersize=3, color=style.colour(n),
                    linewidth=1.4 if own else 1.0, label=label,
                )  # fmt: skip
        _draw_phases(axes, next(iter(histories.values())))
        axes.xaxis.get_major_locator().set_params(integer=True)
        if wanted == ("learning_rate",) and all((table["learning_rate"] > 0).all() for table in histories.values()):
            axes.set_yscale("log")

    return panels.of_panels(
        "training",
        draw,
        drawn,
        panels.Names("epoch", ""),
        f"training curves of {len(histories)} folds over {max(len(table) for table in histories.values())} epochs",
        "One epoch is one pass over the training images. The loss is what training makes smaller (dashed: on the "
        "images it learns from, solid: on the fold's own images, which it does not learn from); where the solid line "
        "rises while the dashed falls, the model learns by heart (overfitting). The learning rate is the size of "
        "its steps; dotted lines part phases of training.",
    )


def _draw_phases(axes: Any, table: pd.DataFrame) -> None:
    if "phase" not in table:
        return
    for n in np.flatnonzero(np.diff(table["phase"])):
        axes.axvline(float(table["epoch"].iloc[n + 1]) + 0.5, color=style.CHANCE, linestyle=":", linewidth=1)


def _table(histories: Mapping[int, pd.DataFrame]) -> Table:
    metric = _metric_of(next(iter(histories.values())).columns)
    names = ["fold", "epochs", "last training loss"]
    if metric:
        names += [f"best {name_of(metric.removeprefix('val_'))}", "in epoch"]
    timed = seconds(histories) is not None
    rows = []
    for k, table in sorted(histories.items()):
        row = [str(k + 1), number(len(table)), number(float(table["loss"].iloc[-1])) if "loss" in table else "–"]
        if metric:
            values = table[metric].to_numpy(float)
            smaller = metric.endswith(("loss", "brier"))
            place = int(np.nanargmin(values) if smaller else np.nanargmax(values)) if (values == values).any() else None
            row += (
                ["–", "–"]
                if place is None
                else [number(float(values[place])), str(int(table["epoch"].iloc[place]) + 1)]
            )
        rows.append([*row, duration(float(table["seconds"].sum()))] if timed else row)
    return Table(
        [*names, "time"] if timed else names,
        rows,
        "Folds, each trained from the start on the others; scores are those of single images, without test-time views.",
    )


def duration(taken: float) -> str:
    """Seconds as people say them: `45 s`, `12 min`, `1.5 h`."""
    if taken < 100:
        return f"{taken:.0f} s"
    return f"{taken / 60:.0f} min" if taken < 6000 else f"{taken / 3600:.1f} h"


def _metric_of(columns: Any) -> str | None:
    return next((name for name in columns if name.startswith("val_") and name != "val_loss"), None)

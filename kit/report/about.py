"""What a run was made of: its images, its settings, the machine, and the command that makes it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kit.report.page import Block, Section, Table, Text, number, percent
from kit.tables import truth

_MOST = 20  # columns of labels of a table; of more, labels are rows


def data(examples: pd.DataFrame, labels: Sequence[str], folds: Sequence[Sequence[int]]) -> Section:
    """How many images, patients and images of each label there are, by split and fold."""
    train, test = (examples[examples["split"] == split] for split in ("train", "test"))
    parts = {"training": train, "test": test} if len(test) else {"training": train}
    if "cell" in train.columns:
        parts |= {f"fold {k + 1}": train[train["cell"].isin(cells)] for k, cells in enumerate(folds)}
    sizes = {name: (number(len(rows)), number(int(rows["group"].nunique()))) for name, rows in parts.items()}
    positives = {name: _positives(rows, labels) for name, rows in parts.items()}
    caption = (
        "Images by split and fold. A fold is a part of the training images that the model trained on the others is "
        "tested on; patients are in one fold as a whole."
    )
    if len(labels) <= 6:
        rows = [[name, *sizes[name], *positives[name]] for name in parts]
        return Section("The data", "data", [Table(["", "images", "patients (groups)", *labels], rows, caption)])
    rows = [["images", *(size[0] for size in sizes.values())], ["patients (groups)", *(s[1] for s in sizes.values())]]
    rows += [[label, *(positives[name][n] for name in parts)] for n, label in enumerate(labels)]
    return Section("The data", "data", [Table(["", *parts], rows, caption)])


def _positives(rows: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """Of each label how many images have it, and their share of those whose label is known."""
    y = truth(rows, labels).astype(float)
    known = (~np.isnan(y)).sum(axis=0)
    count = np.nansum(y > 0.5, axis=0)
    return [
        f"{number(int(n))} ({percent(n / total)})" if total else "not known"
        for n, total in zip(count, known, strict=True)
    ]


def setting(config: str, environment: Mapping[str, Any], command: str, version: str) -> Section:
    """The command, the settings as they are written, and the machine (environment.json)."""
    blocks: list[Block] = [Text("Made by"), Text(command, "code")]
    rows = [[name, value] for name, value in _flat(environment)]
    if rows:
        blocks.append(Table(["", "value"], rows, "The machine and the packages of the training.", numbers=2))
    return Section("How it was made", "setting", [*blocks, Text("Settings"), Text(config, "code")])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as rows, their names joined by a space."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name} ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else "–" if value is None else str(value)
            rows.append((f"{prefix}{name}", text))
    return rows

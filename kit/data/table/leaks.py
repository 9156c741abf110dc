"""A leak: a patient (group) or an image on both sides of a split."""

import pandas as pd

from kit.errors import LeakError, counted


def assert_no_leak(train: pd.DataFrame, valid: pd.DataFrame) -> None:
    """Raise LeakError when a group or an id of `train` is in `valid` too."""
    for column in ("group", "id"):
        shared = set(train[column]) & set(valid[column])
        if shared:
            names = counted(len(shared), f"{column} is", f"{column}s are")
            raise LeakError(f"{names} in both training and validation, such as {min(shared)!r}")


def assert_unseen(examples: pd.DataFrame, held_out: list[int], valid: pd.DataFrame, source: str) -> None:
    """Raise LeakError when the model of another run was fitted on images or patients of `valid`.

    `examples` is that run's table with cells, `held_out` are the cells that its model did not see; `source` names it.
    """
    seen = examples[(examples["split"] == "train") & ~examples["cell"].isin(held_out)]
    shared = set(valid["id"]) & set(seen["id"]) or set(valid["group"]) & set(seen["group"])
    if shared:
        raise LeakError(
            f"{source} was fitted on {len(shared)} of the images or patients that this fold is validated on, such as "
            f"{min(shared)}: its score would mean nothing"
        )

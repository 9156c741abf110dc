"""`target`, `table` and `columns`: how a competition's raw folder is read."""

from typing import Any

from pydantic import field_validator

from kit.config.base import Settings


class ColumnSettings(Settings):
    """`columns`: the columns of your own table (competition `csv`). For `folders` only `group` applies."""

    # Names the image: its path below the data folder, its file name, or its file name without the extension.
    id: str = "id"
    # One column: 0 and 1, or class names. Several (a list, or "a,b,c"): one label each, 0 or 1, empty where unknown.
    label: tuple[str, ...] = ("label",)
    # The patient or slide, which never spans two folds; null: every image is a group of its own.
    # For `folders`, a regular expression: its match in the image's path below the class folder is the group.
    group: str | None = None
    # train, val (dealt into folds like train) or test; null: rows without a label are the test set.
    split: str | None = None

    @field_validator("label", mode="before")
    @classmethod
    def _split_at_commas(cls, label: Any) -> Any:
        return [name.strip() for name in label.split(",")] if isinstance(label, str) else label


class Source(Settings):
    """What a competition needs to know to read its raw folder. A competition refuses those it has no use for."""

    # Which of a competition's targets to predict, such as two_class or three_class for rsna; null: its first.
    # For your own images with two named classes: the positive one; null: the last by name.
    target: str | None = None
    # A file below the data folder. csv: the table of labels; medmnist: the .npz, where there are several.
    table: str | None = None
    columns: ColumnSettings = ColumnSettings()

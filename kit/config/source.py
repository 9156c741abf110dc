"""`target`, `metric`, `table` and `columns`: what is learnt, and how a competition's raw folder is read."""

from typing import Any

from pydantic import Field, field_validator

from kit.config.base import Settings


class ColumnSettings(Settings):
    """`columns`: the columns of your own table (competition `csv`). For `folders`, those of groups apply."""

    # Names the image: its path below the data folder, its file name, or its file name without the extension. In a table
    # of boxes also `image`, where there is no `id`.
    id: str = "id"
    # Whether ids may differ from names of images in case, ending, folders, leading zeros and ".0" (7.0 for 007.png).
    loose_ids: bool = False
    # One column: 0 and 1, or class names. Several (a list, or "a,b,c"): one label each, 0 or 1, empty where unknown. In
    # a table of boxes: the column of their labels, which it need not have.
    label: tuple[str, ...] = Field(("label",), min_length=1)
    # What stands between the classes in a cell that names several, such as "|"; each is then a label. null: a cell
    # names one class, and cells that look otherwise are an error; "none": a cell names one class, however it looks.
    separator: str | None = None
    # Whether labels are probabilities (0 to 1), such as the share of the readers who saw a finding.
    soft: bool = False
    # Further texts that mean "unknown", such as [-1], besides an empty cell, NA, N/A, NaN, null and None.
    unknown: tuple[str, ...] = ()
    # The patient or slide, which never spans two folds; null: every image is a group of its own. A column; or a regular
    # expression, whose first capture group (or whole match) in the id (`folders`: in the path below the class) it is.
    group: str | None = None
    # What is predicted, scored and submitted as one where several images show it, such as the sides of a patient: a
    # column, or several (a list, or "a,b"), whose values are joined by "_". A case is of one group. `csv` alone.
    case: tuple[str, ...] = ()
    # Share of the images that may have no group; each of them is then a group of its own. More is an error.
    ungrouped: float = Field(0.0, ge=0, le=1)
    # For `folders`, how deep the class folders are: 1 is the top (below train and test), 2 is below hospitals or
    # patients; null: seen from the names.
    class_folder: int | None = Field(None, ge=1)
    # Your own folds: a column whose values (0, 1, 2 ...) are the folds of training images; `folds` is their number.
    # null: kit deals them. `csv` alone.
    fold: str | None = None
    # Further columns that go into the example table as metadata (a list, or "a,b,c"), for models that take such: see
    # model.arguments.metadata. `csv` alone.
    metadata: tuple[str, ...] = ()
    # train, val (dealt into folds like train) or test; null: rows without a label are the test set.
    split: str | None = None

    @field_validator("label", "unknown", "metadata", "case", mode="before")
    @classmethod
    def _split_at_commas(cls, texts: Any) -> Any:
        """A text is split at commas; numbers, as YAML reads 1 and -1, are texts."""
        if isinstance(texts, str):
            return [text.strip() for text in texts.split(",")]
        texts = texts if isinstance(texts, list | tuple) else [texts]
        return [str(text) if isinstance(text, int | float) and not isinstance(text, bool) else text for text in texts]


class Source(Settings):
    """What a competition needs to know to read its raw folder. A competition refuses those it has no use for."""

    # Which of a competition's targets to predict, such as two_class or three_class for rsna; null: its first.
    # For your own images: boxes (where something is, by a file of boxes), or of two named classes the positive one;
    # null: the one whose name says so (yes, malignant).
    target: str | None = None
    # What predictions are scored by, and epochs chosen by, instead of the target's own: a metric of kit
    # (docs/scores.md), one of a package (docs/extending.md), or FILE.py:NAME; null: the target's own. Every
    # competition takes it.
    metric: str | None = None
    # Options of the metric: {above: .8} of partial_auc, {beta: 1} of pfbeta, {weights: {LABEL: 2}} of weighted ones.
    metric_options: dict[str, Any] = {}
    # A file below the data folder. csv: the table of labels; medmnist: the .npz, where there are several. For boxes:
    # the CSV or COCO JSON that has them; null: the one in the folder itself.
    table: str | None = None
    columns: ColumnSettings = ColumnSettings()

"""PCam on Kaggle: is there tumour in the centre 32x32 pixels of a 96x96 histopathology patch? Scored by ROC AUC.

The patches were cut from whole slides, but the competition does not say from which. So every patch is its own group,
and patches of one slide can be on both sides of a fold: on slides that the model has never seen, expect a lower score
than the out-of-fold one.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.listing import require_images, require_layout, stems
from kit.data.table.raw import match, read_table, refuse_rows

_LAYOUT = "train/*.tif, test/*.tif, train_labels.csv, sample_submission.csv"


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder; raises DataError for another layout, duplicate ids and labels that are not 0 or 1."""
    require_layout(root, ["train", "test", "train_labels.csv", "sample_submission.csv"], _LAYOUT)
    path = root / "train_labels.csv"
    labels = read_table(path, ["id", "label"], unique="id")
    refuse_rows(path, labels, ~labels["label"].isin(["0", "1"]), "label", "0 or 1")
    sample = read_table(root / "sample_submission.csv", ["id"], unique="id", may_be_empty=True)
    rows = pd.DataFrame(
        {
            "id": [*labels["id"], *sample["id"]],
            "split": ["train"] * len(labels) + ["test"] * len(sample),
            "y_tumour": np.array([*labels["label"].astype(float), *[np.nan] * len(sample)], np.float32),
        }
    )
    images = pd.concat([require_images(root, split, (".tif",)).assign(split=split) for split in ("train", "test")])
    table, missing, surplus = match(rows, images.assign(id=stems(images)), on=("id", "split"))
    return Examples(table.assign(group=table["id"]), ("tumour",), "binary", missing, surplus)


COMPETITION = Competition(
    name="pcam",
    title="Histopathologic Cancer Detection",
    slug="histopathologic-cancer-detection",
    targets={"tumour": Target("binary", ("tumour",), "roc_auc", columns={"label": "tumour"})},
    domain="tissue",
    sample="sample_submission.csv",
    read=read,
)

"""Moles: images with a table of labels."""

import pandas as pd

from kit.competition import Competition, Target
from kit.data.table.examples import Examples
from kit.data.table.listing import list_images, require_layout, stems
from kit.data.table.raw import match, read_table, refuse_rows

FILES = "images/*, train.csv (id, patient, label), sample_submission.csv (id, label)"


def read(root, source):
    """The raw folder as examples: one row per image with id, group, split and a column y_<label>."""
    require_layout(root, ["images", "train.csv", "sample_submission.csv"], FILES)
    train = read_table(root / "train.csv", ["id", "patient", "label"], unique="id")
    refuse_rows(root / "train.csv", train, ~train["label"].isin(["0", "1"]), "label", "0 or 1")
    test = read_table(root / "sample_submission.csv", ["id"], unique="id")
    rows = pd.concat(
        [
            pd.DataFrame({"id": train["id"], "group": train["patient"], "split": "train"}).assign(
                y_label=train["label"].astype("float32")
            ),
            pd.DataFrame({"id": test["id"], "group": test["id"], "split": "test"}),
        ]
    )
    images = list_images(root, "images")
    table, missing, surplus = match(rows, images.assign(id=stems(images)))
    return Examples(table, ("label",), "binary", missing, surplus)


COMPETITION = Competition(
    name="moles",
    title="Moles",
    slug=None,  # of a competition on Kaggle what follows kaggle.com/competitions/, of a dataset OWNER/NAME
    targets={"label": Target("binary", ("label",), "roc_auc", columns={"label": "label"})},
    id_column="id",
    sample="sample_submission.csv",
    read=read,
)

"""A small synthetic competition of boxes: bright ellipses on pictures like chest X-rays.

The folder has `train/*.png`, `test/*.png`, `boxes.csv` (a row without numbers for an image without a box) and a sample
submission in the format of RSNA's, in pixels of the images.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit.boxes import BOXES
from kit.competition import Competition, Target
from kit.config import Source
from kit.data.pixels.images import encode
from kit.data.pixels.synthetic import chest_picture
from kit.data.table.box_examples import TASK, read_box_examples
from kit.data.table.boxes import CORNER
from kit.data.table.examples import Examples
from kit.data.table.listing import require_layout
from kit.data.table.raw import read_table

ANSWERS = "_answers.csv"  # the boxes of the test set, which a real competition would keep to itself
_TABLE, _SAMPLE = "boxes.csv", "sample_submission.csv"
_LAYOUT = f"train/*.png, test/*.png, {_TABLE}, {_SAMPLE}"
_COLUMN, LABEL = "PredictionString", "ellipse"


def make(root: Path, train: int = 600, test: int = 100, size: int = 128, seed: int = 0) -> None:
    """Write `train` and `test` pictures, their tables and the answers below `root`; a seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        (root / split).mkdir(parents=True, exist_ok=True)
        rows: list[list[object]] = []
        names = sorted(hashlib.sha1(f"{seed}/{split}/{n}".encode()).hexdigest()[:12] + ".png" for n in range(count))
        for name in names:
            picture, boxes = chest_picture(rng, size)
            (root / split / name).write_bytes(encode(picture[..., None], "png"))
            rows += [[name, *box, LABEL] for box in boxes.round(2).tolist()] or [[name, *[None] * 5]]
        table = pd.DataFrame(rows, columns=["image", *CORNER, "label"])
        if split == "train":
            table.to_csv(root / _TABLE, index=False)
        else:
            table.to_csv(root / ANSWERS, index=False)
            sample = pd.DataFrame({"image": names, _COLUMN: f"0.5 0 0 {size // 2} {size // 2}"})
            sample.to_csv(root / _SAMPLE, index=False)


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder; raises DataError for another layout and boxes that are wrong."""
    require_layout(root, ["train", "test", _TABLE, _SAMPLE], _LAYOUT)
    expected = {*read_table(root / _SAMPLE, ["image", _COLUMN], "image", may_be_empty=True)["image"]}
    examples = read_box_examples(root, Source(table=_TABLE), every_image=True)
    table = examples.table[(examples.table["split"] == "train") | examples.table["id"].isin(expected)]
    surplus = examples.table["path"].drop(index=table.index)
    missing = (*examples.missing, *sorted(expected - {*table["id"]}))
    return replace(examples, table=table, missing=missing, surplus=tuple(surplus))


COMPETITION = Competition(
    name="toy_boxes",
    title="Synthetic chests with ellipses",
    slug=None,
    targets={BOXES: Target(TASK, (LABEL,), "rsna_mean_average_precision", columns={_COLUMN: LABEL})},
    read=read,
    id_column="image",
    sample=_SAMPLE,
    make=make,
)

"""A small synthetic competition in the layout of PCam, for `kit demo` and the tests."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kit.competitions import pcam
from kit.data.pixels.images import write_tif
from kit.data.pixels.synthetic import tissue_patch

ANSWERS = "_answers.csv"  # the test labels, which a real competition would keep to itself


def make(root: Path, train: int = 900, test: int = 240, seed: int = 0) -> None:
    """Write `train` and `test` patches, their tables and the answers below `root`; a seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        (root / split).mkdir(parents=True, exist_ok=True)
        ids = [hashlib.sha1(f"{seed}/{split}/{n}".encode()).hexdigest() for n in range(count)]
        labels = rng.random(count) < 0.4
        for name, label in zip(ids, labels, strict=True):
            write_tif(root / split / f"{name}.tif", tissue_patch(rng, bool(label)))
        table = pd.DataFrame({"id": ids, "label": labels.astype(int)}).sort_values("id")
        if split == "train":
            table.to_csv(root / "train_labels.csv", index=False)
        else:
            table.to_csv(root / ANSWERS, index=False)
            table.assign(label=0).to_csv(root / "sample_submission.csv", index=False)


COMPETITION = replace(pcam.COMPETITION, name="toy", title="Synthetic tissue patches", slug=None, make=make)

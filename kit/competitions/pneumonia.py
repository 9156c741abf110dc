"""Pediatric chest X-rays (Kermany et al. 2018) on Kaggle, in class folders: pneumonia or not?

File names hold the patient: `personNNN_...`, `IM-NNNN-...`, `NORMAL2-IM-NNNN-...`. The 16 images of `val` join the
training images; the official `test` is the test split. It shares patient numbers with them, and scores report that.
"""

import re
from pathlib import Path

from kit.competition import Competition, Target
from kit.competitions import folders
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.listing import folder_with, found_in, require_folder
from kit.errors import DataError

_PATIENT = re.compile(r"person\d+|(NORMAL2-)?IM-\d+")


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder; raises DataError for another layout and other classes."""
    require_folder(root)
    top = folder_with(root, ["train", "test"])
    if top is None:
        raise DataError(
            f"{root} has no chest_xray/ with train/ and test/ in it: expected "
            f"chest_xray/train|val|test/NORMAL|PNEUMONIA/*.jpeg; found {found_in(root)}"
        )
    rows, remarks = folders.list_classes(root)
    rows = rows.replace({"class": {"PNEUMONIA": "pneumonia"}})
    return folders.examples(rows, ("NORMAL", "pneumonia"), ("pneumonia",), rows["name"].map(patient), remarks)


def patient(path: str) -> str | None:
    """The patient in a file name, such as person12 or IM-0115; None for other names."""
    match = _PATIENT.match(Path(path).name)
    return match[0] if match else None


COMPETITION = Competition(
    name="pneumonia",
    title="Chest X-Ray Images (Pneumonia)",
    slug="paultimothymooney/chest-xray-pneumonia",
    targets={"pneumonia": Target("binary", ("pneumonia",), "roc_auc")},
    domain="chest",
    read=read,
)

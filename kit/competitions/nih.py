"""ChestX-ray14 (Wang et al. 2017) on Kaggle: fourteen findings in chest X-rays, mined from reports, or none.

Patients are known, and the official lists keep them apart. The target `findings` (the default) is the fourteen labels
that published tables average over; `fifteen` has "No Finding" as a fifteenth.
Most people download only a part: listed images without a file are left out and counted, up to `data.max_missing`.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.table.examples import Examples
from kit.data.table.listing import found_in, list_images, require_layout, subfolders
from kit.data.table.raw import match, read_table, refuse_rows
from kit.errors import DataError, counted, some
from kit.tables import truth_columns

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NONE = "No Finding"
_TABLE, _BOXES = "Data_Entry_2017.csv", "BBox_List_2017.csv"
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}
_LAYOUT = f"images_001/images/*.png and so on, {_TABLE}, {', '.join(_LISTS.values())}"
_AGE = re.compile(r"(\d+)([YMD]?)")  # "058Y" and "011M" in the table of 2017, years in that of 2020
_AGE_UNITS = {"": 1, "Y": 1, "M": 12, "D": 365.25}
_OLDEST = 120  # years


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder; `boxes` and their `box_findings` where radiologists drew some.

    Raises DataError for another layout, unknown findings, and lists that disagree with the table.
    """
    require_layout(root, [_TABLE, *_LISTS.values()], _LAYOUT)
    rows, remarks = entries(root / _TABLE)
    rows["split"] = _splits(root, rows["id"])
    if (root / _BOXES).exists():
        rows = rows.merge(_boxes(root / _BOXES), on="id", how="left")
        for column in ("boxes", "box_findings"):
            rows[column] = [value if isinstance(value, list) else [] for value in rows[column]]
    folders = [folder.name for folder in subfolders(root) if folder.name.lower().startswith("images")]
    images = pd.concat([list_images(root, folder, (".png",)) for folder in folders]) if folders else pd.DataFrame()
    if images.empty:
        raise DataError(f"{root} holds no image: expected {_LAYOUT}; found {found_in(root)}")
    table, missing, surplus = match(rows, images.assign(id=images["path"].str.split("/").str[-1]))
    labels = TARGETS[source.target or "findings"].labels
    table = table.drop(columns=truth_columns({*FINDINGS, NONE} - {*labels}))
    return Examples(table, labels, "multilabel", missing, surplus, remarks)


def entries(path: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """The table as id, group, labels, age (years), sex, view_position, follow_up; and the number of impossible ages.

    Raises DataError for other columns, duplicate images and unknown findings.
    """
    image, patient, labels, every = "Image Index", "Patient ID", "Finding Labels", (*FINDINGS, NONE)
    raw = read_table(path, [image, patient, labels], unique=image)
    refuse_rows(path, raw, raw[patient] == "", patient, "the number of a patient")
    findings = raw[labels].str.split("|")
    refuse_rows(path, raw, ~findings.map({*every}.issuperset), labels, "findings of ChestX-ray14, or No Finding")
    refuse_rows(path, raw, findings.map(lambda names: NONE in names and len(names) > 1), labels, "No Finding alone")
    age = _column(raw, "Patient Age").map(_years)
    rows = pd.DataFrame(
        {
            "id": raw[image],
            "group": raw[patient],
            **{
                column: findings.map(lambda names: label in names).astype(np.float32)  # noqa: B023 (used at once)
                for label, column in zip(every, truth_columns(every), strict=True)
            },
            "age": age.where(age <= _OLDEST),
            "sex": _column(raw, "Patient Gender", "Patient Sex"),  # the header of 2017, and a newer one
            "view_position": _column(raw, "View Position"),
            "follow_up": pd.to_numeric(_column(raw, "Follow-up #"), errors="coerce"),
        }
    )
    above = age[age > _OLDEST]
    remark = f"ages above {_OLDEST}, taken as missing (the highest {above.max():g})"
    return rows.reset_index(drop=True), {remark: len(above)} if len(above) else {}


def _column(raw: pd.DataFrame, *names: str) -> pd.Series:
    return next((raw[name] for name in names if name in raw.columns), pd.Series("", raw.index)).replace("", None)


def _years(text: str | None) -> float:
    age = _AGE.fullmatch(text or "")
    return int(age[1]) / _AGE_UNITS[age[2]] if age else float("nan")


def _splits(root: Path, ids: pd.Series) -> pd.Series:
    """The split of every image in the table; raises DataError unless exactly one of the two lists names it."""
    listed = {split: {*_words(root / name)} for split, name in _LISTS.items()}
    both = listed["train"] & listed["test"]
    if both:
        raise DataError(
            f"{counted(len(both), 'image is', 'images are')} in both {' and '.join(_LISTS.values())}: {some(both)}"
        )
    split = ids.map({name: split for split, names in listed.items() for name in names})
    if split.isna().any():
        lists = " nor ".join(_LISTS.values())
        raise DataError(f"{split.isna().sum()} images of {_TABLE} are neither in {lists}: {some(ids[split.isna()])}")
    return split


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as a list of images: {error}") from error


def _boxes(path: Path) -> pd.DataFrame:
    """Columns id, boxes ([[x, y, width, height]] in pixels of the 1024-pixel image) and box_findings, by image."""
    try:
        raw = pd.read_csv(path, usecols=range(6), index_col=False)  # the header's "Bbox [x,y,w,h]" is four of them
        raw.columns = ["id", "finding", "x", "y", "w", "h"]
        raw["box"] = raw[["x", "y", "w", "h"]].astype(float).to_numpy().tolist()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return raw.groupby("id").agg(boxes=("box", list), box_findings=("finding", list)).reset_index()


TARGETS = {
    "findings": Target("multilabel", FINDINGS, "roc_auc"),
    "fifteen": Target("multilabel", (*FINDINGS, NONE), "roc_auc", means={"14 findings": FINDINGS}),
}
COMPETITION = Competition(
    name="nih",
    title="NIH Chest X-rays (ChestX-ray14)",
    images="NIH ChestX-ray14",
    slug="nih-chest-xrays/data",
    targets=TARGETS,
    domain="chest",
    read=read,
)

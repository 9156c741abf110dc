"""RSNA pneumonia detection on Kaggle (stage 2): chest X-rays as DICOM, lung opacities as boxes.

The leaderboard scores boxes (target `boxes`); pneumonia or not (`two_class`, the default) and the three classes of the
detailed table (`three_class`) are scored here, by ROC AUC. There is one image per patient. Headers give metadata; the
ages in them have no unit ("62") and are read as years, which a remark counts.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.pixels import dicom_header
from kit.data.table.boxes import CORNER, inside, listed
from kit.data.table.examples import Examples
from kit.data.table.listing import require_images, require_layout, stems
from kit.data.table.raw import match, read_table, refuse_rows
from kit.errors import DataError, UnreadableImage, counted, some
from kit.parallel import count_workers, in_processes
from kit.tables import one_hot

_IMAGES = {"train": "stage_2_train_images", "test": "stage_2_test_images"}
_BOXES, _CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
_SAMPLE = "stage_2_sample_submission.csv"
_LAYOUT = f"{_IMAGES['train']}/*.dcm, {_IMAGES['test']}/*.dcm, {_BOXES}, {_CLASSES}, {_SAMPLE}"
_NAMES = {  # as the table writes them -> labels
    "Normal": "normal",
    "No Lung Opacity / Not Normal": "no_lung_opacity_not_normal",
    "Lung Opacity": "lung_opacity",
}
_OLDEST = 120  # years
_FRAME = 1024  # pixels: the side of all images as they were annotated
BOXES = "PredictionString"  # the submission's column


def read(root: Path, source: Source) -> Examples:
    """Examples of the raw folder, with `boxes` and the columns of the DICOM headers.

    Raises DataError for another layout, tables that contradict each other, and boxes outside their image.
    """
    require_layout(root, [*_IMAGES.values(), _BOXES, _CLASSES, _SAMPLE], _LAYOUT)
    (train, boxes), test = labels(root), read_table(root / _SAMPLE, ["patientId"], "patientId", may_be_empty=True)
    rows = pd.concat([train.assign(split="train"), pd.DataFrame({"id": test["patientId"], "split": "test"})])
    images = pd.concat(
        [require_images(root, folder, (".dcm",)).assign(split=split) for split, folder in _IMAGES.items()]
    )
    table, missing, surplus = match(rows, images.assign(id=stems(images)), on=("id", "split"))
    header, remarks = headers([root / path for path in table["path"]])
    chosen = TARGETS[source.target or "two_class"]
    of_images, odd = _boxes(root / _BOXES, boxes, table.assign(**header), chosen.frame)
    table = pd.concat([table.assign(boxes=of_images.pop("boxes")), header], axis=1)
    y = one_hot(table["class"], chosen.labels) if source.target == "three_class" else of_images
    examples = pd.concat([table, y], axis=1).rename(columns={"class": "detailed_class"}).assign(group=table["id"])
    return Examples(examples, chosen.labels, chosen.task, missing, surplus, {**remarks, **odd})


def labels(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per patient from the two tables, with id and class (a label); and the boxes: id, x, y, width, height.

    The index of boxes is the line. Raises DataError, naming a line or patient, when a table breaks its rules or the two
    contradict each other.
    """
    path = root / _BOXES
    boxes = read_table(path, ["patientId", *CORNER, "Target"])
    refuse_rows(path, boxes, ~boxes["Target"].isin(["0", "1"]), "Target", "0 or 1")
    numbers = boxes[CORNER].apply(pd.to_numeric, errors="coerce")
    positive = boxes["Target"] == "1"
    for column in CORNER:
        refuse_rows(path, boxes, positive & numbers[column].isna(), column, "a number, although Target is 1")
        refuse_rows(path, boxes, ~positive & (boxes[column] != ""), column, "empty, although Target is 0")
    of_patient = positive.groupby(boxes["patientId"])
    mixed = of_patient.any() & ~of_patient.all()
    if mixed.any():
        raise DataError(f"{path}: Target is both 0 and 1 for {some(mixed.index[mixed])}")

    path = root / _CLASSES
    classes = read_table(path, ["patientId", "class"])
    refuse_rows(path, classes, ~classes["class"].isin([*_NAMES]), "class", f"one of {', '.join(_NAMES)}")
    classes = classes.drop_duplicates()
    several = classes["patientId"][classes["patientId"].duplicated()]
    if len(several):
        raise DataError(f"{path}: several classes for {some(set(several))}")

    class_of, target = classes.set_index("patientId")["class"], of_patient.any()
    alone = set(class_of.index) ^ set(target.index)
    if alone:
        raise DataError(
            f"{counted(len(alone), 'patient is', 'patients are')} in only one of {_BOXES} and {_CLASSES}: {some(alone)}"
        )
    class_of = class_of[target.index]
    contrary = target.index[target != (class_of == "Lung Opacity")]
    if len(contrary):
        raise DataError(
            f"{_BOXES} and {_CLASSES} contradict each other for {counted(len(contrary), 'patient')}: {some(contrary)} "
            "(Target must be 1 exactly where the class is Lung Opacity)"
        )
    patients = pd.DataFrame({"id": target.index, "class": class_of.map(_NAMES).to_numpy()})
    return patients, numbers[positive].assign(id=boxes["patientId"][positive])


def headers(paths: list[Path]) -> tuple[pd.DataFrame, dict[str, int]]:
    """The allowed header columns of DICOM files, in order; and remarks that count odd ages."""
    chunks = [paths[start : start + 500] for start in range(0, len(paths), 500)]
    calls = [(n, chunk) for n, chunk in enumerate(chunks)]
    read = dict(in_processes(_headers, calls, count_workers(len(paths) // 10)))
    rows = [row for n in sorted(read) for row in read[n]]
    present = np.array([row["age"] is not None for row in rows])
    table = pd.DataFrame(rows)
    age, bare = table["age"].to_numpy(float), table.pop("age_unit").eq("").to_numpy()
    remarks = {
        "ages without a unit, read as years": bare & (age <= _OLDEST),
        "ages that are not DICOM ages, taken as missing": present & np.isnan(age),
        f"ages above {_OLDEST}, taken as missing (the highest {np.nanmax(age, initial=0):g})": age > _OLDEST,
    }
    table["age"] = np.where(age <= _OLDEST, age, np.nan)
    return table, {remark: int(odd.sum()) for remark, odd in remarks.items() if odd.any()}


def _headers(number: int, paths: list[Path]) -> tuple[int, list[dict[str, object]]]:
    return number, [_header(path) for path in paths]


def _header(path: Path) -> dict[str, object]:
    try:
        return dicom_header.header(path)
    except UnreadableImage:  # reported when records are built
        return dict.fromkeys([*dicom_header.HEADER.values(), "age_unit", "compression"])


def _boxes(
    path: Path, boxes: pd.DataFrame, table: pd.DataFrame, frame: int | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The columns boxes and y_pneumonia of the images of a table with their `width` and `height`, and remarks.

    The file's boxes are in pixels of a square image with this side (`frame`), or (None) of the image itself; those that
    are returned are in pixels of the image. Raises DataError, with the line, for boxes that are not inside.
    """
    sizes = table.set_index("id")[["width", "height"]].astype(np.float64)
    of_box = sizes.reindex(boxes["id"]).set_axis(boxes.index)
    remarks: dict[str, int] = {}
    if frame is not None:
        boxes, remarks = inside(path, boxes, pd.DataFrame(float(frame), boxes.index, ["width", "height"]))
        scale = of_box.loc[boxes.index].fillna(frame) / frame  # an image that cannot be read is left out later
        boxes[CORNER] = boxes[CORNER] * scale[["width", "height", "width", "height"]].to_numpy()
        other = sizes.notna().all(axis=1) & (sizes != frame).any(axis=1)
        if other.any():
            names = some(other.index[other], 1)
            what = f"images of other than {frame} x {frame} pixels, to which boxes are scaled ({names})"
            remarks[what] = int(other.sum())
    else:
        boxes, remarks = inside(path, boxes, of_box)
    return listed(boxes, table["id"], ("pneumonia",), table["split"] == "train"), remarks


TARGETS = {
    "two_class": Target("binary", ("pneumonia",), "roc_auc"),
    "three_class": Target("multiclass", tuple(_NAMES.values()), "roc_auc"),
    "boxes": Target(
        "detection", ("pneumonia",), "rsna_mean_average_precision", columns={BOXES: "pneumonia"}, frame=_FRAME
    ),
}
COMPETITION = Competition(
    name="rsna",
    title="RSNA Pneumonia Detection Challenge",
    images="NIH ChestX-ray14",  # as AJR 2019, doi 10.2214/AJR.19.21512, says
    slug="rsna-pneumonia-detection-challenge",
    targets=TARGETS,
    id_column="patientId",
    sample=_SAMPLE,
    domain="chest",
    read=read,
)

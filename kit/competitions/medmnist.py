"""MedMNIST v2 and MedMNIST+ (Yang et al. 2023), the 2-D sets: `breastmnist.npz`, `pathmnist_64.npz` and so on.

Training and validation images are folded; the official test images, where the file has them, are the test split. The
score is that of the benchmark: AUC (mean over classes, one against the rest, or over labels) and ACC (of the likeliest
class; of labels at .5). Patients are unknown: every image is its own group.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.pixels.arrays import Header, headers, read_small
from kit.data.table.examples import Examples
from kit.data.table.labels import MOST_CLASSES
from kit.data.table.listing import found_in, require_folder
from kit.errors import DataError, some
from kit.tables import truth_columns

_PARTS = {"train": "train", "val": "train", "test": "test"}
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
CLASSES = {  # the meaning of 0, 1, 2, ... (for chestmnist, of the columns), from the benchmark's own package
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax",
        "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments",
        "thick ascending limb",
    ),
    "organamnist": _ORGANS, "organcmnist": _ORGANS, "organsmnist": _ORGANS,
}  # fmt: skip


def read(root: Path, source: Source) -> Examples:
    """Examples from one `.npz`: that named by `table`, or the only one in the folder.

    Raises DataError for files that are not MedMNIST's, and for pickled objects, which are never unpacked.
    """
    path = _file(root, source.table)
    arrays = headers(path)
    parts = [part for part in _PARTS if f"{part}_images" in arrays]
    for part in parts or ["train"]:
        _require_part(path, part, arrays)
    labels = [read_small(path, f"{part}_labels") for part in parts]
    if len({values.shape[1:] for values in labels}) > 1:
        raise DataError(f"{path}: labels have several shapes: {', '.join(str(values.shape) for values in labels)}")
    names, task, y = _targets(path, np.concatenate([values.reshape(len(values), -1) for values in labels]))
    tables = []
    for part in parts:
        count, image = arrays[f"{part}_images"].shape[0], arrays[f"{part}_images"]
        rows = [f"{part}_images/{row}" for row in range(count)]
        tables.append(
            pd.DataFrame(
                {
                    "id": [f"{part}{row:06d}" for row in range(count)],
                    "path": [f"{path.name}/{row}" for row in rows],
                    "bytes": int(np.prod(image.shape[1:])),
                    "split": _PARTS[part],
                    "part": part,
                    "crc32": f"{image.crc:08x}",  # tells files of the same shape apart
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    y_table = pd.DataFrame(y, columns=truth_columns(names))
    return Examples(pd.concat([table.assign(group=table["id"]), y_table], axis=1), names, task)


def _file(root: Path, table: str | None) -> Path:
    require_folder(root)
    files = sorted(root.glob("*.npz"))
    if table is not None and not (root / table).is_file():
        raise DataError(f"{root} has no {table}; found {found_in(root)}")
    if not files:
        raise DataError(
            f"{root} holds no .npz: expected one of MedMNIST's, such as breastmnist.npz; found {found_in(root)}"
        )
    if table is None and len(files) > 1:
        names = some([path.name for path in files], 12)
        raise DataError(f"{root} holds {len(files)} .npz files: choose one of {names} with --set table=...")
    return root / table if table is not None else files[0]


def _require_part(path: Path, part: str, arrays: dict[str, Header]) -> None:
    """Raise DataError unless `part` has uint8 images (n, h, w[, 3]) and as many integer labels, (n) or (n, L)."""
    images, labels = arrays.get(f"{part}_images"), arrays.get(f"{part}_labels")
    if images is None or labels is None:
        raise DataError(
            f"{path} is not MedMNIST's: expected {part}_images and {part}_labels; it has {some(arrays, 6) or 'nothing'}"
        )
    flat = len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[3] == 3)
    if not flat or images.dtype != np.uint8:
        raise DataError(
            f"{path}: {part}_images is {images.dtype} of shape {images.shape}, not 2-D images in 8 bit: "
            "(n, height, width) or (n, height, width, 3)"
        )
    one_row_each = len(labels.shape) in (1, 2) and labels.shape[0] == images.shape[0]
    if not one_row_each or labels.dtype.kind not in "iub" or not 1 <= np.prod(labels.shape[1:]) <= MOST_CLASSES:
        raise DataError(
            f"{path}: {part}_labels is {labels.dtype} of shape {labels.shape}, not {images.shape[0]} rows of integers"
        )


def _targets(path: Path, values: np.ndarray) -> tuple[tuple[str, ...], str, np.ndarray]:
    """Label names, task and float32 [n, labels] from the integer labels [n, 1] (classes) or [n, L] (each 0 or 1)."""
    match = re.match(r"[a-z]+mnist", path.name.lower())
    names = CLASSES.get(match[0], ()) if match else ()
    columns = values.shape[1]
    if not values.size:
        raise DataError(f"{path} holds no labels")
    if values.min() < 0 or values.max() >= MOST_CLASSES:  # before a column is made for each
        raise DataError(
            f"{path}: labels are {values.min()} to {values.max()}, not the numbers of at most {MOST_CLASSES} classes, "
            "0, 1, 2 and so on"
        )
    values = values.astype(np.int64)
    count = columns if columns > 1 else max(len(names), int(values.max()) + 1)
    most = 1 if columns > 1 else count - 1
    if values.max() > most or (names and count != len(names)):
        expected = f"{len(names)} classes or labels" if names else "0 and 1"
        raise DataError(
            f"{path}: labels are {values.min()} to {values.max()} in {columns} column{'s' * (columns > 1)}; "
            f"expected {expected}"
        )
    names = names or tuple(f"class_{n}" for n in range(count))
    if columns > 1:
        return names, "multilabel", values.astype(np.float32)
    if count == 2:
        return (names[1],), "binary", values.astype(np.float32)
    return names, "multiclass", np.eye(count, dtype=np.float32)[values[:, 0]]


COMPETITION = Competition(
    name="medmnist",
    title="MedMNIST, the 2-D sets",
    slug=None,
    targets={"classes": Target("", (), "roc_auc")},
    read=read,
    settings=("table",),
)

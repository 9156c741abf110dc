"""MedMNIST v2 and MedMNIST+ (Yang et al. 2023), the 2-D sets: `breastmnist.npz`, `pathmnist_64.npz` and so on.

Training and validation images are folded; the official test images, where the file has them, are the test split. The
score is the benchmark's: AUC (mean over classes, one against the rest; over labels for several) and ACC (the likeliest
class; for one or several labels at .5). Patients are not known: every image is a group of its own.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition, Target
from kit.config import Source
from kit.data.pixels.arrays import Header, headers, read_small
from kit.data.table.examples import Examples
from kit.data.table.raw import found_in, require_folder
from kit.errors import DataError, some
from kit.tables import truth_columns

_PARTS = {"train": "train", "val": "train", "test": "test"}
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
CLASSES = {  # what 0, 1, 2, ... mean, as the benchmark's own package says; of chestmnist, what the columns are
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
    """Examples of one `.npz`: that named by `table`, or the only one in the folder.

    Raises DataError for files that are not MedMNIST's, or of pickled objects, which are never unpacked.
    """
    path = _file(root, source.table)
    found = headers(path)
    parts = [part for part in _PARTS if f"{part}_images" in found]
    for part in parts or ["train"]:
        _require_part(path, part, found)
    labels = {part: read_small(path, f"{part}_labels").astype(np.int64) for part in parts}
    names, task, y = _targets(path, np.concatenate([*labels.values()]))
    tables = []
    for part in parts:
        count, image = found[f"{part}_images"].shape[0], found[f"{part}_images"]
        rows = [f"{part}_images/{row}" for row in range(count)]
        tables.append(
            pd.DataFrame(
                {
                    "id": [f"{part}{row:06d}" for row in range(count)],
                    "path": [f"{path.name}/{row}" for row in rows],
                    "bytes": int(np.prod(image.shape[1:])),
                    "split": _PARTS[part],
                    "part": part,
                    "crc32": f"{image.crc:08x}",  # so that another file of the same shape is seen to be another
                }
            )
        )
    table = pd.concat(tables, ignore_index=True)
    y_table = pd.DataFrame(y, columns=truth_columns(names))
    return Examples(pd.concat([table.assign(group=table["id"]), y_table], axis=1), names, task)


def _file(root: Path, table: str | None) -> Path:
    require_folder(root)
    known = sorted(root.glob("*.npz"))
    if table is not None and not (root / table).is_file():
        raise DataError(f"{root} has no {table}; found {found_in(root)}")
    if not known:
        raise DataError(
            f"{root} holds no .npz: expected one of MedMNIST's, such as breastmnist.npz; found {found_in(root)}"
        )
    if table is None and len(known) > 1:
        names = some([path.name for path in known], 12)
        raise DataError(f"{root} holds {len(known)} .npz files: choose one of {names} with --set table=...")
    return root / table if table is not None else known[0]


def _require_part(path: Path, part: str, found: dict[str, Header]) -> None:
    """Raise DataError unless `part` has uint8 images (n, h, w) or (n, h, w, 3) and as many integer labels (n, L)."""
    images, labels = found.get(f"{part}_images"), found.get(f"{part}_labels")
    if images is None or labels is None:
        raise DataError(
            f"{path} is not MedMNIST's: expected {part}_images and {part}_labels; it has {some(found, 6) or 'nothing'}"
        )
    flat = len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[3] == 3)
    if not flat or images.dtype != np.uint8:
        raise DataError(
            f"{path}: {part}_images is {images.dtype} of shape {images.shape}, not 2-D images in 8 bit: "
            "(n, height, width) or (n, height, width, 3)"
        )
    if len(labels.shape) != 2 or labels.shape[0] != images.shape[0] or labels.dtype.kind not in "iub":
        raise DataError(
            f"{path}: {part}_labels is {labels.dtype} of shape {labels.shape}, not {images.shape[0]} rows of integers"
        )


def _targets(path: Path, values: np.ndarray) -> tuple[tuple[str, ...], str, np.ndarray]:
    """Label names, task and float32 [n, labels] from the integer labels [n, 1] (classes) or [n, L] (each 0 or 1)."""
    found = re.match(r"[a-z]+mnist", path.name.lower())
    names = CLASSES.get(found[0], ()) if found else ()
    columns = values.shape[1]
    count = columns if columns > 1 else max(len(names), int(values.max()) + 1)
    most = 1 if columns > 1 else count - 1
    if values.min() < 0 or values.max() > most or (names and count != len(names)):
        expected = f"{len(names)} are known" if names else "0 and 1 were expected"
        raise DataError(f"{path}: labels reach from {values.min()} to {values.max()} in {columns} columns; {expected}")
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

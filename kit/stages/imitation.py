"""The files of a code competition imitated: a test set with new ids in another order, some of them unreadable.

There are no answers and no training images in it.
"""

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kit.competition import Competition
from kit.config import Source
from kit.errors import DataError
from kit.run import Run
from kit.stages.hidden import GATEWAY, hidden_cases
from kit.submit.submission import constants

SIDE = 512  # pixels of made-up images
_SOURCES = 200  # images that are copied from, at most
_PILLOW = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}


@dataclass(frozen=True)
class Pictures:
    """What imitated test images are made of: files to copy, or (none) an ending of made-up ones; their folder."""

    paths: tuple[Path, ...]
    ending: str
    folder: str
    gateway: Path | None = None


def pictures_of(run: Run | None, competition: Competition, data: Path | None) -> Pictures:
    """The pictures of a competition's raw files, or made-up ones of the kind that the run was trained on.

    Raises DataError for a folder without images.
    """
    table = run.examples() if run else pd.DataFrame({"path": ["image.png"]})
    ending = str(table["path"].map(lambda path: Path(path).suffix.lower()).mode().iloc[0])
    if data is None:
        return Pictures((), ending if ending in _PILLOW else ".png", "test")
    _, cases = hidden_cases(competition, data, run.config if run else Source())
    test = [paths[0] for paths in cases.values()]
    train = [data / path for path in table["path"]]
    paths = [path for path in (*test, *train) if path.is_file()][:_SOURCES]
    if not paths:
        raise DataError(f"{data} holds no test image, and none that the run was trained on: give the raw files")
    folder = test[0].relative_to(data).parent.as_posix() if test else "test"
    gateway = data / GATEWAY if (data / GATEWAY).is_dir() else None
    return Pictures(tuple(paths), paths[0].suffix, folder, gateway)


def imitate(
    competition: Competition, pictures: Pictures, folder: Path, count: int, seed: int, unreadable: int = 0
) -> list[str]:
    """Write `count` cases and their sample submission into `folder`; returns their ids in the sample's order.

    The last `unreadable` of them (as files are listed) cannot be read.
    """
    rng = np.random.default_rng(seed)
    ids = [rng.bytes(10).hex() for _ in range(count)]
    images = folder / pictures.folder
    images.mkdir(parents=True)
    for n, name in enumerate(sorted(ids)):
        path = images / f"{name}{pictures.ending}"
        if n >= count - unreadable:
            path.write_bytes(b"\0" * 64)
        elif pictures.paths:
            source = pictures.paths[n % len(pictures.paths)]
            shutil.copy(source, path.with_suffix(source.suffix))
        else:
            path.write_bytes(_picture(rng, pictures.ending))
    cells = constants(competition)
    sample = pd.DataFrame({competition.id_column: ids}, dtype=object).assign(**cells)
    path = folder / (competition.sample or "sample_submission.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.to_csv(path, index=False)
    if pictures.gateway:
        shutil.copytree(pictures.gateway, folder / GATEWAY)
    return ids


def faults_of(submission: bytes, ids: Sequence[str], known: Sequence[str], key: str) -> str:
    """What is wrong with a submission's ids (column `key`), compared with those it should have; empty if nothing is.

    `known` are ids of an earlier test set.
    """
    try:
        table = pd.read_csv(io.BytesIO(submission), dtype={key: str})
    except ValueError as error:
        return f"submission.csv cannot be read ({str(error).splitlines()[0]})"
    if key not in table:
        return f"submission.csv has no column {key}"
    present = {*table[key]}
    if present & {*known} - {*ids}:
        return "a list of ids is baked in: the submission has ids of the earlier test set, not those that are mounted"
    if absent := {*ids} - present:
        return f"{len(absent)} of {len(ids)} ids are not in the submission: were they listed before the rerun?"
    if len(table) != len(ids):
        return f"the submission has {len(table)} rows, and the test set {len(ids)} cases"
    return ""


def _picture(rng: np.random.Generator, ending: str) -> bytes:
    """A made-up picture as a file."""
    from PIL import Image

    small = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((SIDE, SIDE)).save(buffer, _PILLOW[ending])
    return buffer.getvalue()

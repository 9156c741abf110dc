"""A run that predicts new images, as one file: a zip of its settings, its decision, its folds' models, and its code.

It holds no image, no id and no prediction. It may come from someone else: only files of the names that a run has are
unpacked, hardly more than the archive is large, and they are read with a run's own checks (kit.run). Code in it is
executed only where it was made, or is trusted (kit.extensions).
"""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit import extensions, files
from kit.errors import ConfigError, DataError
from kit.run import Run

ENDING = ".kit.zip"
_FOLD, _CODE = r"fold\d{1,4}/[a-z]+(?:\.weights)?\.(?:json|csv|h5)", r"code/[A-Za-z_][\w-]*\.py"
_NAME = re.compile(rf"(?:[a-z]+\.(?:json|yaml)|{_FOLD}|{_CODE})")  # of what is packed
_GROWTH = 64 * 2**20  # bytes that unpacking may add: weights are stored as they are, and the rest is small
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: the same content gives the same bytes


def pack(run: Run, path: Path) -> None:
    """Write what predicts new images of a run that is trained and scored to `path`, which ends in `.kit.zip`.

    Raises ConfigError for another ending and for an ensemble, DataError for a run that is not trained or not scored.
    """
    if not path.name.endswith(ENDING):
        raise ConfigError(f"{path}: an exported run is a file that ends in {ENDING}")
    if run.is_ensemble:
        raise ConfigError(f"{run} is an ensemble and has no models of its own: export each of its runs")
    with files.replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for file in run.files_of_predictor():
            info = zipfile.ZipInfo(file.relative_to(run.directory).as_posix(), _EPOCH)
            info.compress_type = zipfile.ZIP_STORED if file.suffix == ".h5" else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                while block := source.read(2**20):
                    target.write(block)


@contextmanager
def opened(path: Path | str) -> Iterator[Run]:
    """The run in a folder, or in a file that `pack` wrote: unpacked for as long as the block lasts.

    Raises DataError for a file that is none, or damaged.
    """
    path = files.expanded(path)
    if not path.is_file():
        yield Run(path)
        return
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        _unpack(path, Path(folder))
        run = Run(folder)
        extensions.add(run.code_path, shown=path / extensions.CODE)
        yield run


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            every = archive.infolist()
            if odd := next((info.filename for info in every if not _NAME.fullmatch(info.filename)), None):
                raise DataError(f"{path} is no exported run: it holds {files.escaped(odd)}")
            if sum(info.file_size for info in every) > path.stat().st_size + _GROWTH:
                raise DataError(f"{path} is no exported run: it would unpack to far more than it is")
            for info in every:
                target = folder / info.filename
                target.parent.mkdir(exist_ok=True)
                with archive.open(info) as source, target.open("wb") as file:
                    while block := source.read(2**20):  # zipfile reads no more than the size that it is declared with
                        file.write(block)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{path} is no exported run, or damaged ({error}): write it again with `kit export`") from error

"""A competition's files from Kaggle: downloaded (resuming an interrupted download), checked, and unpacked safely."""

import logging
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from kit import files
from kit.competition import Competition
from kit.errors import ConfigError, KitError
from kit.kaggle.client import Kaggle, KaggleError, inside

log = logging.getLogger(__name__)
MAX_GIB = 100.0  # unpacked


def fetch_data(
    competition: Competition, out: Path, login: Callable[[], Kaggle] = Kaggle, max_gib: float = MAX_GIB
) -> None:
    """Download the files of a competition, or of the dataset it is, into `out`, unless that has files already.

    `login` returns a client, and is called only where one is needed.

    Raises ConfigError for a competition that Kaggle does not have, and KitError for an archive that is broken, larger
    than `max_gib`, or that would write outside `out`.
    """
    if not competition.slug:
        raise ConfigError(f"{competition.name} is not on Kaggle: kit cannot download its files")
    if out.exists() and any(out.iterdir()):
        log.info(f"{out} is there already")
        return
    if not out.name:
        raise ConfigError(f"--out {out} has no name: give the folder to create")
    slug = competition.slug.replace("/", "-")
    archive = out.with_name(f".kit-{out.name}-{slug}.zip")
    if not archive.exists():
        kaggle = login()
        url, size = kaggle.competition_archive(competition.slug)
        log.info(f"downloading {competition.slug}{f' ({size / 1e9:.2f} GB)' if size else ''} to {archive}")
        kaggle.fetch(url, archive, size)
    part = out.with_name(f"{files.PART}{out.name}-{slug}")
    unpack(archive, part, max_gib)
    if out.exists():
        out.rmdir()
    part.rename(out)
    archive.unlink()
    log.info(f"unpacked into {out}")


def unpack(archive: Path, out: Path, max_gib: float = MAX_GIB) -> None:
    """Unpack a zip archive into `out`, continuing where an earlier call was interrupted.

    Raises KitError, before anything is written, for a name outside `out`, a link, and more than `max_gib` or the free
    space of the disk; and for a broken archive, which it deletes.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if not entry.is_dir()]
            paths = [inside(out, entry.filename) for entry in entries]
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise KaggleError(f"refused {archive}: {entry.filename!r} in it is a link")
            size = sum(entry.file_size for entry in entries)
            if size > max_gib * 2**30:
                raise KitError(f"{archive} would become {size / 2**30:.1f} GiB: allow it with --max-gib")
            out.mkdir(parents=True, exist_ok=True)
            remaining = [
                (entry, path)
                for entry, path in zip(entries, paths, strict=True)
                if not path.exists() or path.stat().st_size != entry.file_size
            ]
            left, free = sum(entry.file_size for entry, _ in remaining), shutil.disk_usage(out).free
            if left > free:
                raise KitError(f"{out} needs {left / 2**30:.1f} GiB more, but the disk has {free / 2**30:.1f} GiB left")
            for entry, path in remaining:
                with files.replacing(path) as part, source.open(entry) as packed, part.open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        message = f"{archive} was broken ({error}) and has been deleted: run the same command to download it again"
        raise KitError(message) from error

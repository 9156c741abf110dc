"""A competition's files from Kaggle: downloaded (going on where it was cut off), checked, and unpacked with care."""

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

MAX_GIB = 100.0  # unpacked


def fetch_data(
    competition: Competition,
    out: Path,
    login: Callable[[], Kaggle],
    max_gib: float = MAX_GIB,
    say: Callable[[str], None] = print,
) -> None:
    """Leave the files of a competition, or of the dataset it is, in `out`; nothing to do where that is there already.

    `login` gives a client, where one is needed.

    Raises ConfigError for a competition that Kaggle does not have, and KitError for an archive that is broken, larger
    than `max_gib`, or that would write outside `out`.
    """
    if not competition.slug:
        raise ConfigError(f"{competition.name} is not on Kaggle: kit cannot fetch its files")
    if out.exists() and any(out.iterdir()):
        say(f"{out} is there already")
        return
    if not out.name:
        raise ConfigError(f"--out {out} has no name: give the folder that is to be made")
    slug = competition.slug.replace("/", "-")
    archive = out.with_name(f".kit-{out.name}-{slug}.zip")
    if not archive.exists():
        kaggle = login()
        url, size = kaggle.competition_archive(competition.slug)
        say(f"downloads {competition.slug}{f' ({size / 1e9:.2f} GB)' if size else ''} to {archive}")
        kaggle.fetch(url, archive, size)
    part = out.with_name(f"{files.PART}{out.name}-{slug}")
    unpack(archive, part, max_gib)
    if out.exists():
        out.rmdir()
    part.rename(out)
    archive.unlink()
    say(f"unpacked into {out}")


def unpack(archive: Path, out: Path, max_gib: float = MAX_GIB) -> None:
    """Unpack a zip archive into `out`, going on where an earlier call was cut off.

    Raises KitError, before anything is written, for a name outside `out`, a link, and more than `max_gib` or than the
    disk has left; and for a broken archive, which it deletes.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            paths = [inside(out, entry.filename) for entry in entries]
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise KaggleError(f"refused {archive}: {entry.filename!r} in it is a link")
            wanted = sum(entry.file_size for entry in entries)
            if wanted > max_gib * 2**30:
                raise KitError(f"{archive} would become {wanted / 2**30:.1f} GiB: allow it with --max-gib")
            out.mkdir(parents=True, exist_ok=True)
            pairs = [
                (entry, path)
                for entry, path in zip(entries, paths, strict=True)
                if not path.exists() or path.stat().st_size != entry.file_size
            ]
            left, free = sum(entry.file_size for entry, _ in pairs), shutil.disk_usage(out).free
            if left > free:
                raise KitError(f"{out} needs {left / 2**30:.1f} GiB more, and the disk has {free / 2**30:.1f} GiB left")
            for entry, path in pairs:
                with files.replacing(path) as piece, packed.open(entry) as source, piece.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        raise KitError(f"{archive} was broken ({error}) and is deleted: the same command downloads it again") from error

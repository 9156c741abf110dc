"""Zip archives from elsewhere, unpacked safely: nothing outside the folder, no links, no more than is allowed.

An archive is the work of hours: only one whose download is proven broken is deleted.
"""

import errno
import logging
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NoReturn

from kit import files
from kit.errors import KitError, counted, some
from kit.kaggle.client import inside
from kit.kaggle.http import KaggleError

log = logging.getLogger(__name__)
MAX_GIB = 100.0  # unpacked
_DEEP = 3  # zips in zips in zips
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHOD_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_ENCRYPTED = 0x1  # in a member's flags
_OTHER_KINDS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"PK\7\x08": "one part of a split zip",
}


class StaysPacked(KitError):
    """Why an archive that may be whole cannot be unpacked here."""


def unpack(archive: Path, out: Path, max_gib: float = MAX_GIB, name: Path | None = None) -> None:
    """Unpack a zip archive into `out`, and the zips in it, continuing where an earlier call was interrupted.

    A zip in it becomes a folder of its name. Raises KitError, before anything is written, for a name outside `out`,
    a link, a password, a method of compression that Python does not have, and more than `max_gib` or the free space of
    the disk; and for a broken archive, which it deletes. `name` is what `out` will be called at last, for messages.
    """
    try:
        _unpack(archive, out, int(max_gib * 2**30), _DEEP)
    except _Broken as error:
        archive.unlink()
        message = f"{archive} was broken ({error}) and has been deleted: run the same command to download it again"
        raise KitError(message) from error
    except StaysPacked as error:
        raise KitError(
            f"{archive} {error}. It is kept: unpack it yourself, such as with `7z x {archive} -o{name or out}`, or "
            "delete it to download it again"
        ) from error


class _Broken(Exception):
    """What proves that an archive is not as it was packed."""


def _unpack(archive: Path, out: Path, limit: int, deep: int) -> int:
    """Unpack into `out` at most `limit` bytes, zips in zips included, `deep` levels of them; returns how many."""
    _require_zip(archive)
    try:
        with zipfile.ZipFile(archive) as source:
            members = _members(source, archive, out)
            size = sum(entry.file_size for entry in members.values())
            if size > limit:
                raise KitError(f"{archive} would become {size / 2**30:.1f} GiB: allow it with --max-gib")
            out.mkdir(parents=True, exist_ok=True)
            _refuse_collisions(archive, out, members)
            _extract(source, out, members)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        _raise(error, is_broken=not isinstance(error, zipfile.BadZipFile) or "CRC" in str(error))
    except (NotImplementedError, RuntimeError, ValueError, struct.error, OverflowError) as error:
        _raise(error, is_broken=False)
    except OSError as error:
        if error.errno is None:  # not the disk: the bytes, to bzip2
            _raise(error, is_broken=True)
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise StaysPacked(f"holds a name that this disk cannot have ({error.strerror})") from error
        raise
    for path in members:
        if path.suffix.lower() == ".zip" and deep:
            size += _unpack_inner(path, out, limit - size, deep - 1)
    return size


def _raise(error: Exception, is_broken: bool) -> NoReturn:
    raise (_Broken(str(error)) if is_broken else StaysPacked(f"cannot be read ({error})")) from error


def _unpack_inner(archive: Path, out: Path, limit: int, deep: int) -> int:
    """Unpack a zip that came in another into a folder of its name, and delete it; one that cannot be stays."""
    try:
        with zipfile.ZipFile(archive) as source:
            tops = {PurePosixPath(name.replace("\\", "/")).parts[:1] for name in source.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        tops = set()  # it will be said below
    stem = archive.name[: -len(".zip")]
    folder = archive.parent if tops - {("__MACOSX",)} == {(stem,)} else archive.parent / stem
    try:
        if not stem.strip(". "):  # "...zip" would become the folder above
            raise StaysPacked("has no name")
        size = _unpack(archive, folder, limit, deep)
    except (StaysPacked, _Broken, NotADirectoryError, FileExistsError) as error:
        log.info(f"noticed: {archive.relative_to(out)}, a zip in the archive, stays packed: {error}")
        return 0
    archive.unlink()
    return size


def _require_zip(archive: Path) -> None:
    """Raise what is the matter with a file that has no directory of a zip."""
    if zipfile.is_zipfile(archive):
        return
    with archive.open("rb") as file:
        head = file.read(512)
    kind = next((kind for magic, kind in _OTHER_KINDS.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        kind = "a tar archive"
    if kind:
        raise StaysPacked(f"is {kind}, not a zip")
    raise _Broken("it is cut off" if head.startswith(b"PK\3\4") else "it is not a zip file")


def _members(source: zipfile.ZipFile, archive: Path, out: Path) -> dict[Path, zipfile.ZipInfo]:
    """The files in an archive by the path that they are written to; refuses what must not, or cannot, be unpacked."""
    members: dict[Path, zipfile.ZipInfo] = {}
    backslashes = twice = 0
    for entry in source.infolist():
        name = entry.filename.replace("\\", "/")  # as Windows wrote it, against the standard
        backslashes += name != entry.filename
        if name.endswith("/"):
            continue
        path = inside(out, name)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise KaggleError(f"refused {archive}: {entry.filename!r} in it is a link")
        twice += path in members and members[path].CRC != entry.CRC
        members[path] = entry
    if locked := [entry.filename for entry in members.values() if entry.flag_bits & _ENCRYPTED]:
        raise StaysPacked(
            f"needs a password ({counted(len(locked), 'file')}, such as {locked[0]!r}), which kit does not ask for"
        )
    methods = {entry.compress_type for entry in members.values()} - _METHODS
    if methods:
        names = some(_METHOD_NAMES.get(method, f"method {method}") for method in methods)
        raise StaysPacked(f"is packed with {names}, which Python cannot unpack")
    if blocked := [path for path in members if not members.keys().isdisjoint(path.parents)]:
        raise StaysPacked(f"holds a file and a folder of one name (see {str(blocked[0].relative_to(out.resolve()))!r})")
    if backslashes:
        log.info(f"noticed: {backslashes} names in {archive.name} have backslashes, taken as folders")
    if twice:
        log.info(f"noticed: {twice} names are in {archive.name} more than once: the last one is taken")
    return members


def _refuse_collisions(archive: Path, out: Path, members: dict[Path, zipfile.ZipInfo]) -> None:
    """Raise StaysPacked for names that differ in case alone where the disk does not tell them apart."""
    if not out.with_name(out.name.swapcase()).exists() or out.name == out.name.swapcase():
        return
    names: dict[str, Path] = {}
    for path in members:
        other = names.setdefault(str(path).casefold(), path)
        if other != path:
            raise StaysPacked(f"holds {other.name!r} and {path.name!r}, which are one file on this disk")


def _extract(source: zipfile.ZipFile, out: Path, members: dict[Path, zipfile.ZipInfo]) -> None:
    """Write the files that are not there yet."""
    remaining = {
        path: entry for path, entry in members.items() if not path.is_file() or path.stat().st_size != entry.file_size
    }
    left, free = sum(entry.file_size for entry in remaining.values()), shutil.disk_usage(out).free
    if left > free:
        raise KitError(f"{out} needs {left / 2**30:.1f} GiB more, but the disk has {free / 2**30:.1f} GiB left")
    for path, entry in remaining.items():
        with files.replacing(path) as part, source.open(entry) as packed, part.open("wb") as file:
            shutil.copyfileobj(packed, file)

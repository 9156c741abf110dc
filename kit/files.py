"""Files that exist are whole: write under a temporary name, rename when complete; know when a stage is done.

A stage leaves a *stamp*: a JSON file with the inputs it was run on and the SHA-256 of every file it wrote. The stage is
done while the inputs are the same and the files are still what it wrote.
"""

import datetime
import errno
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from unicodedata import category

from kit.errors import DataError, FullDisk, some

if TYPE_CHECKING:
    import pandas as pd

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")  # endings, lower case
PART = ".part-"  # a prefix, because the ending (".weights.h5", ".parquet") says what the file is
_LOCK, _HOLDER = f"{PART}lock", f"{PART}lock.json"  # the second says who holds the first
_HELD: set[tuple[Path, int]] = set()  # folders that threads of this process have locked
_AGAIN = "delete it and run the stage again"
_CONTROL = ("Cc", "Zl", "Zp")  # categories of characters


def expanded(path: Path | str) -> Path:
    """The path with `~` as the home directory; as it is where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not.

    Raises FullDisk, with the path, when the disk is full, and DataError when `path` is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, where a file is to be written: remove it, or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{os.getpid()}-{path.name}")  # two processes never write into one part
    try:
        yield part
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if is_full_disk(error):
            kept = "what was finished before is kept: free some space and run the same command again"
            raise FullDisk(f"the disk is full, {path} could not be written; {kept}") from error
        raise


def require_space(path: Path, size: int) -> None:
    """Raise OSError when the disk, or the user's quota, has no room for a file of `size` bytes at `path`.

    For libraries that crash there; the file is left empty, for them to write.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):  # not on Windows and macOS
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(0)


def is_full_disk(error: BaseException) -> bool:
    """Whether an error says that the disk, or the user's quota, is full; libraries may do so in their text alone."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in full or os.strerror(errno.ENOSPC).lower() in str(error).lower()


def described(error: OSError) -> str:
    """The system's message, with the files that it concerns."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([error.strerror or str(error) or type(error).__name__, *names])


@contextmanager
def locked(folder: Path, again: bool = False) -> Iterator[None]:
    """Lock `folder` for this thread in the block; the lock ends with the process, even when that is killed.

    With `again` this thread may have locked it already. A folder that does not exist is made, and removed if it stays
    empty. Raises DataError, with the process that holds it, when another one does. Where the file system has no locks,
    or cannot be written to, nothing is locked.
    """
    from filelock import FileLock, Timeout  # here: workers, which import this module, lock nothing

    key = (folder.resolve(), threading.get_ident())
    if again and key in _HELD:
        yield
        return
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock, held = FileLock(folder / _LOCK), True
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        wait = f"wait for {_holder(folder)}, or give another folder"
        raise DataError(f"another process is writing into {folder}: {wait}") from error
    except (OSError, NotImplementedError):
        held = False
    try:
        _HELD.add(key)
        if held:
            with suppress(OSError):
                since = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
                write_json(folder / _HOLDER, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        _HELD.discard(key)
        if held:
            (folder / _HOLDER).unlink(missing_ok=True)
            with suppress(OSError):  # Windows keeps open files; its lock removes the file on release
                (folder / _LOCK).unlink()  # before the release: a process that has just opened it sees that it is gone
            lock.release()
        with suppress(OSError):
            for path in absent:
                path.rmdir()


def _holder(folder: Path) -> str:
    """Who has locked a folder, as far as that can be known."""
    try:
        holder = read_json(folder / _HOLDER)
        return f"process {holder['pid']} on {holder['host']}, which began at {holder['since']}"
    except (DataError, TypeError, KeyError):  # it is just taking or leaving the lock
        return "it"


def leftovers(folder: Path) -> list[Path]:
    """The unfinished files that killed writers left in `folder`."""
    return [path for path in folder.glob(f"{PART}*") if path.name not in (_LOCK, _HOLDER)]


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write `text` as UTF-8, whole or not at all; `durable`: on return it is on the disk, even if the power fails."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        with suppress(OSError):  # the new name, too; Windows opens no folder, and some file systems sync none
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def json_text(value: Any) -> str:
    """Indented JSON with a newline at the end."""
    return json.dumps(value, indent=1) + "\n"


def write_json(path: Path, value: Any, durable: bool = False) -> None:
    """Write `value` as `json_text`; see `write_text`."""
    write_text(path, json_text(value), durable)


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` as parquet without its index, whole or not at all."""
    with replacing(path) as part:
        table.to_parquet(part, index=False)


def read_json(path: Path, remedy: str = _AGAIN) -> Any:
    """Parse a JSON file; raises DataError, with the file and `remedy`, when it is absent, unreadable or broken."""
    _require_file(path, remedy)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error, remedy) from error


class _Model(Protocol):
    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...


_M = TypeVar("_M", bound=_Model)


def read_model(path: Path, model: type[_M], remedy: str = _AGAIN) -> _M:
    """A JSON file as one of pydantic's models; raises what `read_json` does, also for other content."""
    content = read_json(path, remedy)
    try:
        return model.model_validate(content)
    except ValueError as error:  # pydantic's
        raise damaged(path, error, remedy) from error


def read_parquet(path: Path, remedy: str = _AGAIN) -> "pd.DataFrame":
    """A parquet file; raises DataError, with the file and `remedy`, when it is absent, unreadable or broken."""
    import pandas as pd  # here: `import kit` loads no pandas

    _require_file(path, remedy)
    try:
        return pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise nearly everything over damaged files
        raise damaged(path, error, remedy) from error


def damaged(path: Path, error: Exception | str, remedy: str) -> DataError:
    """The error, to be raised, that a file is not as it was written: what is wrong in it, and what to do."""
    details = getattr(error, "errors", None)  # pydantic's
    if callable(details):
        first = details()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
    else:
        reason = (str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} is damaged ({reason[:150]}): {remedy}")


def _require_file(path: Path, remedy: str) -> None:
    """Raise DataError for what cannot be read as a file: nothing, a folder, a pipe."""
    if not path.exists():
        raise DataError(f"{path} does not exist" + ("" if remedy is _AGAIN else f": {remedy}"))
    if not path.is_file():
        raise damaged(path, "not a file", remedy)


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder; raises DataError for one that lies elsewhere, such as `../x` or a link out of it."""
    pure = PurePosixPath(name)
    safe = pure.parts and not pure.is_absolute() and ".." not in pure.parts and not {*name} & {"\\", "\0", ":"}
    if not (safe and (folder / name).resolve().is_relative_to(folder.resolve())):
        raise DataError(f"{folder} names a file that does not lie in it, {name!r}: it is refused")
    return folder / name


def escaped(name: str) -> str:
    """A file's name or path as a line of text that tables, JSON and terminals can hold.

    Bytes that are not UTF-8 become `\\x81`, as do those of line ends and other control characters.
    """
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(_hexed(c) if category(c) in _CONTROL else c for c in text)


def _hexed(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def below(root: Path, path: str) -> Path:
    """The file below `root` that a path in a table names, also where `escaped` wrote some of its bytes."""
    if path.isascii() and "\\x" not in path:
        return root / path
    for part in path.split("/"):
        file = root / os.fsdecode(part.encode())  # not the same as `part` on a system whose names are not UTF-8
        if "\\x" in part and not os.path.lexists(file):
            name = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), part.encode())
            file = root / os.fsdecode(name)
        root = file
    return root


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256, as hex, of anything JSON can hold; independent of the order of dictionary keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What a stage left: the fingerprint of its inputs, the SHA-256 of its files by name, and the inputs, if kept."""

    inputs: str
    outputs: dict[str, str]
    settings: dict[str, Any]


def read_stamp(path: Path, remedy: str = _AGAIN) -> Stamp:
    """The stamp in a file; raises DataError when it is absent or damaged, or names files outside its folder."""
    content = read_json(path, remedy)
    mark = content if isinstance(content, dict) else {}
    inputs: Any = mark.get("inputs")
    outputs: Any = mark.get("outputs")
    settings: Any = mark.get("settings", {})
    texts = [inputs, *(outputs.values() if isinstance(outputs, dict) else [None])]
    if not all(isinstance(text, str) for text in texts) or not isinstance(settings, dict):
        raise damaged(path, "it is no stamp of a stage", remedy)
    if settings and fingerprint(settings) != inputs:
        raise damaged(path, "it is not as it was written", remedy)
    for name in outputs:
        inside(path.parent, name)
    return Stamp(inputs, outputs, settings)


def changed(path: Path, remedy: str = _AGAIN) -> list[Path]:
    """The files that are absent, or not as the stage that left the stamp wrote them."""
    outputs = read_stamp(path, remedy).outputs
    return [path.parent / name for name, sha in outputs.items() if not _is_intact(path.parent / name, sha)]


def require_unchanged(path: Path, remedy: str) -> None:
    """Raise DataError, naming the files, where they are not as the stage that left the stamp wrote them."""
    if differing := changed(path, remedy):
        verb = "differ" if len(differing) > 1 else "differs"
        raise DataError(f"{some(map(str, differing))} {verb} from what kit wrote (damaged or changed): {remedy}")


def is_done(stamp: Path, inputs: dict[str, Any]) -> bool:
    """Whether the stage that left `stamp` ran on just these inputs and its files are still as it wrote them."""
    try:
        return read_stamp(stamp).inputs == fingerprint(inputs) and not changed(stamp)
    except DataError:
        return False


def mark_done(stamp: Path, inputs: dict[str, Any], outputs: Iterable[Path], keep_inputs: bool = False) -> None:
    """Leave the stamp of a finished stage; `outputs` are kept relative to it, so a run directory can be moved."""
    files = {os.path.relpath(path, stamp.parent): sha256_of(path) for path in outputs}
    kept = {"settings": inputs} if keep_inputs else {}
    write_json(stamp, {"inputs": fingerprint(inputs), "outputs": files, **kept})


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        return path.is_file() and sha256_of(path) == sha256
    except OSError:
        return False

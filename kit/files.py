"""Files that exist are whole: write under a temporary name, rename when complete; know when a stage is done.

A stage leaves a *stamp*: a JSON file with the inputs it was run on and the SHA-256 of every file it wrote. The stage is
done while the inputs are the same and the files are still what it wrote.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from kit.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PART = ".part-"  # a prefix, because the ending (".weights.h5", ".parquet") says what the file is
_LOCK = f"{PART}lock"
_CONTROL = ("Cc", "Zl", "Zp")  # categories of characters


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{PART}{os.getpid()}-{path.name}")  # two processes never write into one part
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process in the block; the lock ends with the process, even when that is killed.

    Raises DataError when another process holds it. Where the file system has no locks, or cannot be written to, nothing
    is locked.
    """
    from filelock import FileLock, Timeout  # here: workers, which import this module, lock nothing

    lock, held = FileLock(folder / _LOCK), True
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another process is writing into {folder}: wait for it, or give another folder") from error
    except (OSError, NotImplementedError):
        held = False
    try:
        yield
    finally:
        if held:
            with suppress(OSError):  # Windows keeps open files; its lock removes the file on release
                (folder / _LOCK).unlink()  # before the release: a process that has just opened it sees that it is gone
            lock.release()


def leftovers(folder: Path) -> list[Path]:
    """The unfinished files that killed writers left in `folder`."""
    return [path for path in folder.glob(f"{PART}*") if path.name != _LOCK]


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Indented JSON with a newline at the end."""
    return json.dumps(value, indent=1) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as `json_text`, whole or not at all."""
    write_text(path, json_text(value))


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write `table` as parquet without its index, whole or not at all."""
    with replacing(path) as part:
        table.to_parquet(part, index=False)


def read_json(path: Path) -> Any:
    """Parse a JSON file; raises DataError naming the file when it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}): delete it and run the stage again") from error


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


def is_done(stamp: Path, inputs: dict[str, Any]) -> bool:
    """Whether the stage that left `stamp` ran on just these inputs and its files are still as it wrote them."""
    if not stamp.exists():
        return False
    mark = read_json(stamp)
    return mark["inputs"] == fingerprint(inputs) and all(
        (file := stamp.parent / name).exists() and sha256_of(file) == sha for name, sha in mark["outputs"].items()
    )


def mark_done(stamp: Path, inputs: dict[str, Any], outputs: Iterable[Path]) -> None:
    """Leave the stamp of a finished stage; `outputs` are kept relative to it, so a run directory can be moved."""
    files = {os.path.relpath(path, stamp.parent): sha256_of(path) for path in outputs}
    write_json(stamp, {"inputs": fingerprint(inputs), "outputs": files})

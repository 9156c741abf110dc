"""Code from outside kit: the one place that finds, names, trusts and executes it.

A file is named as FILE.py:NAME (a competition as FILE.py alone), wherever a setting takes the name of a competition, a
metric, a model, a loss or a layer. `named` turns that into FILE.py@DIGEST:NAME, whose digest is the beginning of the
SHA-256 of its content: so an edit is another name, wherever names decide what is done again. Runs hold copies of their
files, from which `load` takes them. Only two kinds of files are executed: those that the user has named, now or when
the run was made on this machine, and those that `trust` allows. Packages register theirs as entry points.
"""

import functools
import hashlib
import importlib.abc
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

from kit import files
from kit.errors import ConfigError, KitError, nearest, some

CODE = "code"  # the folder of such files in a run, in a packed one, and beside the configs of a kernel's wheel
TRUST = "read what is in there, and give --trust (in Python, trust=True) if you trust where it comes from"
COMPETITION = "COMPETITION"  # what a competition is called in its file
GROUPS = {"competition": "kit.competitions", "model": "kit.models", "metric": "kit.metrics"}  # of entry points
# Where settings name code.
PLACES = {("competition",), ("metric",), ("model", "name"), ("train", "loss", "name"), ("augment", "layers")}
_LISTS = {("augment", "layers")}  # of several, which may be one text with commas between
_REFERENCE = re.compile(r"(?P<path>[^:].*\.py)(?:@(?P<digest>[0-9a-f]{12}))?(?::(?P<name>[A-Za-z_]\w*))?", re.DOTALL)
_FILE = re.compile(r"[A-Za-z_][\w-]*\.py")
_LARGEST = 2**20  # bytes of a file


class Reference(NamedTuple):
    """FILE.py@DIGEST:NAME in its parts; the digest is empty where the file has not been looked for."""

    path: str
    digest: str
    name: str

    @property
    def file(self) -> str:
        """The name of the file, without folders."""
        return re.split(r"[/\\]", self.path)[-1]


class Source(NamedTuple):
    """A file of code: its name, its content, and where it lies."""

    file: str
    content: bytes
    place: str

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, as hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def digest(self) -> str:
        """The part of it that names contain."""
        return self.sha256[:12]


_SOURCES: dict[tuple[str, str], Source] = {}  # by digest and file name: one content may have two names
_TRUSTED: set[str] = set()  # SHA-256 of what may be executed by this process
_MODULES: dict[str, ModuleType] = {}  # by SHA-256


# ---- names


def parse(text: Any) -> Reference | None:
    """The parts of a name that is of a file of code; None for every other."""
    match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return Reference(match["path"], match["digest"] or "", match["name"] or "") if match else None


def is_code(text: Any) -> bool:
    """Whether a name is that of something in a file of code."""
    return parse(text) is not None


def plain(text: str) -> str:
    """A competition's name: of one in a file, the file's without its ending."""
    reference = parse(text)
    return reference.file.removesuffix(".py") if reference else text


def named(text: str, folder: Traversable, own: Traversable) -> str:
    """A name that the user wrote, with the digest of its file, which is below `folder`; it may be executed from now on.

    A name that has a digest already is one that kit wrote: its file is in `folder`/code, or in `own`/code, which is
    kit's and may be executed. Every other text is returned as it is. Raises ConfigError for a file that cannot be read.
    """
    reference = parse(text)
    if reference is None:
        return text
    if reference.digest:
        for place, trusted in ((own, True), (folder, False)):
            copy = place / CODE / reference.file
            if copy.is_file():
                _add(_read(copy, reference.file), trusted)
        return text
    if not _FILE.fullmatch(reference.file):
        raise ConfigError(f"{text}: rename {reference.file}: letters, digits, _ and - before .py, the first a letter")
    path = files.expanded(reference.path)
    source = _add(_read(path if path.is_absolute() else folder / reference.path, reference.file), True)
    return f"{source.file}@{source.digest}" + (f":{reference.name}" if reference.name else "")


def edited(before: Any, after: Any) -> str:
    """`FILE.py has been edited` where two names differ in digests alone, also of lists of names; else empty."""
    old, new = (value if isinstance(value, list | tuple) else [value] for value in (before, after))
    pairs = [(parse(a), parse(b)) for a, b in zip(old, new, strict=False)]
    same = len(old) == len(new) and all(a and b and a[::2] == b[::2] for a, b in pairs)
    changed = dict.fromkeys(a.file for a, b in pairs if a and b and a.digest != b.digest)
    return f"{' and '.join(changed)} {'have' if len(changed) > 1 else 'has'} been edited" if same and changed else ""


def names_in(values: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of code among settings, as nested dictionaries."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from names_in(value, (*path, key))
    elif path in PLACES:
        yield from filter(is_code, values if isinstance(values, list | tuple) else [values])


def with_digests(values: Any, folder: Traversable, own: Traversable, path: tuple[str, ...] = ()) -> Any:
    """Settings, or the value of the one at `path`, in which the names of code are as `named` has them."""
    if isinstance(values, Mapping):
        return {key: with_digests(value, folder, own, (*path, str(key))) for key, value in values.items()}
    if path not in PLACES:
        return values
    if path in _LISTS and isinstance(values, str):
        values = [text.strip() for text in values.split(",") if text.strip()]
    if isinstance(values, list | tuple):
        return [named(each, folder, own) if isinstance(each, str) else each for each in values]
    return named(values, folder, own) if isinstance(values, str) else values


# ---- files


def add(folder: Path, trusted: bool = False, shown: Path | None = None) -> None:
    """Make the files of a run's folder of code known, `shown` in messages; `trusted`: they may be executed, too."""
    if folder.is_dir():
        for path in sorted(path for path in folder.glob("*.py") if path.is_file() and _FILE.fullmatch(path.name)):
            source = _read(path, path.name)
            _add(source._replace(place=str(shown / path.name)) if shown else source, trusted)


def sources(names: Iterable[str]) -> list[Source]:
    """The files of code that these names need, each once; those that are not known are left out.

    Raises ConfigError for two files of the same name.
    """
    found: dict[str, Source] = {}
    for source in filter(None, map(_source, map(parse, names))):
        if found.setdefault(source.file, source).digest != source.digest:
            raise ConfigError(f"two files of code are called {source.file}: rename one of them")
    return list(found.values())


def copy(names: Iterable[str], folder: Path) -> None:
    """Leave the files that these names need in `folder`, and no others.

    Raises ConfigError for a folder that is a link, which may lead to files of other runs, or of none.
    """
    names = list(names)
    kept = {source.file: source for source in sources(names)}
    needed = {reference.file for reference in map(parse, names) if reference}
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link: put the folder that it leads to in its place")
    for path in folder.glob("*.py") if folder.is_dir() else ():
        if path.name not in needed:
            path.unlink()
    for name, source in kept.items():
        path = folder / name
        if not (path.is_file() and path.read_bytes() == source.content):
            with files.replacing(path) as part:
                part.write_bytes(source.content)


def remember(names: Iterable[str]) -> None:
    """Keep in mind, for later commands of this user, which of these files the user has named: runs hold them.

    Where the user's folder cannot be written, they will have to be trusted again.
    """
    known = _remembered()
    new = [source for source in sources(names) if source.sha256 in _TRUSTED and source.sha256 not in known]
    if not new:
        return
    try:
        _memory().parent.mkdir(parents=True, exist_ok=True)
        with _memory().open("a", encoding="utf-8") as file:
            file.write("".join(f"{source.sha256}  {source.file}\n" for source in new))
    except OSError:
        return


def _memory() -> Path:
    """The file of the user's that lists the SHA-256 of code that was named on this machine."""
    return Path(os.environ.get("KIT_HOME") or files.expanded("~/.kit")) / "trusted.txt"


def _remembered() -> set[str]:
    try:
        return {line.split(" ")[0] for line in _memory().read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError):
        return set()


def _add(source: Source, trusted: bool) -> Source:
    """Make a file known. Of equal ones messages show the one that the user named last, not a run's copy."""
    key = (source.digest, source.file)
    if trusted or key not in _SOURCES or _SOURCES[key].content != source.content:
        _SOURCES[key] = source
    if trusted:
        _TRUSTED.add(source.sha256)
    return source


def _source(reference: Reference | None) -> Source | None:
    return _SOURCES.get((reference.digest, reference.file)) if reference else None


def _read(path: Traversable, name: str) -> Source:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise ConfigError(f"{path} is larger than {_LARGEST >> 20} MiB: this is no file of code")
    return Source(name, content, str(path))


# ---- execution


def load(text: str) -> Any:
    """What a name with a digest stands for; executes its file, once.

    Raises ConfigError where the file is not there, may not be executed, or fails (with its line), and for a name that
    it does not have (with the nearest).
    """
    source = _source(reference := parse(text))
    if reference is None or source is None:
        missing = f"{CODE}/{reference.file} of the run is not there, or not as it was" if reference else "no file"
        raise ConfigError(f"{text}: {missing}: restore it, or name the file by --set")
    module = _module(source)
    name = reference.name or COMPETITION
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        raise ConfigError(f"{source.place} has no {name}{nearest(name, public) if public else ''}")
    return getattr(module, name)


def _module(source: Source) -> ModuleType:
    if source.sha256 not in _MODULES:
        _require_trusted(source)
        name = f"kit_{CODE}_{source.digest}_{source.file.removesuffix('.py').replace('-', '_')}"
        module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, _Loader(source)))
        module.__file__ = source.place
        sys.modules[name] = module  # where dataclasses, pickle and Keras look for what is defined in it
        try:
            guarded(module.__loader__.exec_module, source)(module)  # type: ignore[union-attr]
        except BaseException:
            del sys.modules[name]
            raise
        _MODULES[source.sha256] = module
    return _MODULES[source.sha256]


def require_trusted(names: Iterable[str]) -> None:
    """Raise ConfigError for names of code that may not be executed, before others execute it (a kernel)."""
    for source in sources(names):
        _require_trusted(source)


def _require_trusted(source: Source) -> None:
    known = _TRUSTED | _remembered()
    if source.sha256 not in known:
        new = [Path(each.place) for each in _SOURCES.values() if each.sha256 not in known]
        places = [files.escaped(str(path)) for path in new if path.parent == Path(source.place).parent]
        was = "holds code that was" if len(places) == 1 else "hold code that was"
        raise ConfigError(f"{some(places, 10)} {was} not made on this machine, and would be executed: {TRUST}")


class _Loader(importlib.abc.ExecutionLoader):
    """Executes just the content that was hashed; leaves no bytecode beside it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def is_package(self, fullname: str) -> bool:
        return False

    def get_filename(self, fullname: str) -> str:
        return self._source.place

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source.content)


def guarded(function: Callable[..., Any], source: Source | str) -> Callable[..., Any]:
    """The function of a file (or of that name), whose exceptions become a ConfigError with file, line and reason."""
    place = source if isinstance(source, Source) else cast(Source, _source(parse(source)))

    @functools.wraps(function, assigned=("__name__", "__doc__"), updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except KitError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(_explained(error, place)) from error

    return call


def _explained(error: BaseException, source: Source) -> str:
    """`FILE, line N: NameError: ...`, with the last line of the file that the error came through."""
    executed = getattr(_MODULES.get(source.sha256), "__file__", source.place)  # perhaps an equal file elsewhere
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == executed]
    if isinstance(error, SyntaxError) and error.filename == source.place:
        lines, reason = [error.lineno], error.msg
    else:
        of_keras = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)  # it wraps what its layers raise
        reason = ((of_keras[1] if of_keras else str(error)).strip().splitlines() or [""])[0]
    where = f"{source.place}, line {lines[-1]}" if lines else source.place
    text = f"{where}: {type(error).__name__}{f': {reason[:300]}' if reason else ''}"
    if isinstance(error, ModuleNotFoundError) and (Path(source.place).parent / f"{error.name}.py").is_file():
        text += f". A file is taken alone: put what it needs of {error.name}.py into it, or make both a package"
    return text


def require_call(function: Any, text: str, usage: str, *args: Any, **kwargs: Any) -> None:
    """Raise ConfigError, with how to write it, unless a function can be called with such arguments."""
    what = f"{text.rpartition(':')[2]} in {place_of(text)}" if is_code(text) else text
    if not callable(function):
        raise ConfigError(f"{what} is no function: write it as `{usage}`")
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{what}: {error}: write it as `{usage}`") from error
    except ValueError:  # a function of C, which tells no signature
        return


def place_of(text: str) -> str:
    """Where the file of a name lies; the name itself where that is not known."""
    return source.place if (source := _source(parse(text))) else text


def call_of(text: str) -> Callable[..., Any]:
    """The function of that name, guarded."""
    return guarded(load(text), text)


# ---- packages


def installed(kind: str) -> list[str]:
    """Names that installed packages register as entry points, sorted; `kind` is a key of GROUPS."""
    return sorted({entry.name for entry in _entries(kind)})


def from_package(kind: str, name: str, taken: Iterable[str]) -> Any:
    """What an installed package registers under that name; None where none does.

    Raises ConfigError for a name that is among those `taken` by kit itself, or that two packages register, and for a
    package that cannot be imported.
    """
    entries = [entry for entry in _entries(kind) if entry.name == name]
    if not entries:
        return None
    packages = some({entry.dist.name if entry.dist else entry.value for entry in entries})
    if name in taken:
        raise ConfigError(f"the {kind} {name!r} is kit's own, and {packages} registers one of that name: uninstall it")
    if len({entry.value for entry in entries}) > 1:
        raise ConfigError(f"{packages} register a {kind} {name!r} each: uninstall all but one")
    try:
        return entries[0].load()
    except Exception as error:  # whatever a package raises when it is imported
        raise ConfigError(f"the {kind} {name!r} of {packages}: {type(error).__name__}: {error}") from error


@functools.cache
def _entries(kind: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=GROUPS[kind]))

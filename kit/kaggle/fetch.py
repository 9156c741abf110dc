"""A competition's files from Kaggle: downloaded (resuming an interrupted download), checked, and unpacked safely."""

import logging
from collections.abc import Callable
from pathlib import Path

from kit import files
from kit.competition import Competition
from kit.errors import ConfigError
from kit.kaggle.archives import MAX_GIB, unpack
from kit.kaggle.client import Kaggle

log = logging.getLogger(__name__)


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
    unpack(archive, part, max_gib, name=out)
    if out.exists():
        out.rmdir()
    part.rename(out)
    archive.unlink()
    log.info(f"unpacked into {out}")

"""One module per competition, found by its name: raw layout -> examples, metric, submission format.

To add one, write `kit/competitions/NAME.py` with a `COMPETITION = Competition(...)`, and `configs/NAME.yaml`
(README.md shows a whole one).
"""

import importlib
import pkgutil
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from kit.config import Source
from kit.data.table.examples import Examples
from kit.errors import ConfigError, DataError, nearest
from kit.files import PART
from kit.runtime.session import find_mount


@dataclass(frozen=True)
class Target:
    """One of the things to be learnt from a competition's data: its task (`TASKS`) and labels."""

    task: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Competition:
    """What the kit has to know of a competition; a plain value without state.

    `read` turns the raw folder into examples. `task` and `labels` are None where the data says them; where there are
    several `targets`, the setting `target` chooses among them and the first is the default. `settings` names what else
    of `kit.config.Source` it reads. `metric` names one of `kit.evaluate.metrics.METRICS`, the leaderboard's, and
    `direction` says which end of it is better. `id_column` and `columns` (submission column -> label; None: each label
    under its own name) are the submission's; `sample` is the path of the sample submission below the data root (None:
    nobody takes submissions, the test split is what the data itself holds back). `slug` is Kaggle's, of a dataset with
    its owner. `make`, where there is one, writes the raw folder (competitions the kit makes up).
    """

    name: str
    title: str
    slug: str | None
    metric: str
    read: Callable[[Path, Source], Examples]
    task: str | None = None
    labels: tuple[str, ...] | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    direction: Literal["max", "min"] = "max"
    id_column: str = "id"
    columns: Mapping[str, str] | None = None
    sample: str | None = None
    make: Callable[[Path], None] | None = None

    @property
    def leaderboard(self) -> bool:
        """Whether Kaggle scores what the kit predicts: a competition, not a dataset, with columns for its labels."""
        return bool(self.slug and "/" not in self.slug and self.columns)


def competition_names() -> list[str]:
    """Names of the competitions that come with the kit."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_competition(name: str, source: Source | None = None) -> Competition:
    """The competition of that name, with the target that the settings choose.

    Raises ConfigError with the nearest names for an unknown competition or target, and for a setting of `Source` that
    this competition does not read.
    """
    if name not in competition_names():
        raise ConfigError(f"unknown competition {name!r}{nearest(name, competition_names())}")
    competition: Competition = importlib.import_module(f"{__name__}.{name}").COMPETITION
    source = source or Source()
    takes = {*competition.settings, *(["target"] if competition.targets else [])}
    for key, default in Source().model_dump().items():
        if getattr(source, key) != getattr(Source(), key) and key not in takes:
            known = f"it takes {', '.join(sorted(takes))}" if takes else "it takes none of its own"
            raise ConfigError(f"{name} does not take the setting {key!r} ({default!r} by default): {known}")
    if not competition.targets:
        return competition
    chosen = source.target or next(iter(competition.targets))
    if chosen not in competition.targets:
        raise ConfigError(f"{name} has no target {chosen!r}{nearest(chosen, competition.targets)}")
    return replace(competition, task=competition.targets[chosen].task, labels=competition.targets[chosen].labels)


def raw_folder(competition: Competition, data: Path | None, made: Path) -> Path:
    """The folder given, or Kaggle's mount, or `made`: a made-up competition's own data, written now if need be.

    Raises DataError when none of them is to be had.
    """
    mount = find_mount(competition.slug) if competition.slug else None
    if data is None and mount is None and competition.make is None:
        raise DataError(f"where are the raw files of {competition.name}? Give --data DIR")
    folder = data or mount or made
    if competition.make and not folder.exists():
        part = folder.with_name(f"{PART}{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        competition.make(part)
        part.rename(folder)
    return folder

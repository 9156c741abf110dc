"""One module per competition, found by its name: raw layout -> examples, metric, submission format.

To add one, write `kit/competitions/NAME.py` with a `COMPETITION = Competition(...)`, and `configs/NAME.yaml`.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kit.data.examples import Examples
from kit.errors import ConfigError, nearest


@dataclass(frozen=True)
class Competition:
    """What the kit has to know of a competition; a plain value without state.

    `read` turns the raw folder into examples. `metric` names one of `kit.evaluate.metrics.METRICS`; the leaderboard's.
    `id_column` and `columns` (submission column -> label) are the submission's; `sample` is the path of the sample
    submission below the data root. `make`, where there is one, writes the raw folder (competitions the kit makes up).
    """

    name: str
    title: str
    slug: str | None
    task: str
    labels: tuple[str, ...]
    metric: str
    id_column: str
    columns: dict[str, str]
    sample: str
    read: Callable[[Path], Examples]
    make: Callable[[Path], None] | None = None


def competition_names() -> list[str]:
    """Names of the competitions that come with the kit."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_competition(name: str) -> Competition:
    """The competition of that name; raises ConfigError with the nearest names when there is none."""
    if name not in competition_names():
        raise ConfigError(f"unknown competition {name!r}{nearest(name, competition_names())}")
    return importlib.import_module(f"{__name__}.{name}").COMPETITION

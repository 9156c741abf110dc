"""One module per competition, found by name: raw layout -> examples, targets, submission format.

To add one, write `kit/competitions/NAME.py` with a `COMPETITION = Competition(...)`, and `configs/NAME.yaml`
(docs/extending.md shows a whole one).
"""

import importlib
import pkgutil
from dataclasses import replace

from kit.competition import Competition
from kit.config import Source
from kit.errors import ConfigError, nearest

__all__ = ["competition_names", "find_competition"]


def competition_names() -> list[str]:
    """The names of kit's competitions."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_competition(name: str, source: Source | None = None) -> Competition:
    """The competition of that name, with the target that the settings choose.

    Raises ConfigError for an unknown competition or target, with the nearest names, and for a setting of `Source` that
    the competition does not read.
    """
    if name not in competition_names():
        raise ConfigError(f"unknown competition {name!r}{nearest(name, competition_names())}")
    competition: Competition = importlib.import_module(f"{__name__}.{name}").COMPETITION
    source = source or Source()
    has_choice = len(competition.targets) > 1
    accepted = {*competition.settings, *(["target"] if has_choice else [])}
    for key in Source.model_fields:
        if getattr(source, key) != getattr(Source(), key) and key not in accepted:
            what = f"it takes {', '.join(sorted(accepted))}" if accepted else "it takes none of this kind"
            raise ConfigError(f"{name} does not take the setting {key!r}; {what}")
    if not has_choice or source.target is None:
        return competition
    if source.target not in competition.targets:
        raise ConfigError(f"{name} has no target {source.target!r}{nearest(source.target, competition.targets)}")
    return replace(competition, chosen=source.target)

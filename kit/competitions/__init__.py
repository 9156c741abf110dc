"""One module per competition, found by name: raw layout -> examples, targets, submission format.

To add one, write `kit/competitions/NAME.py` with a `COMPETITION = Competition(...)`, and `configs/NAME.yaml`
(docs/extending.md shows a whole one).
"""

import importlib
import pkgutil
from dataclasses import replace

from kit.competition import Competition
from kit.config import Source, configs_of
from kit.errors import ConfigError, nearest

__all__ = ["as_text", "competition_names", "find_competition"]

_OF_ALL = ("metric", "metric_options")  # fields of `Source` that every competition takes


def competition_names() -> list[str]:
    """The names of kit's competitions."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_competition(name: str, source: Source | None = None) -> Competition:
    """The competition of that name, with the target that the settings choose.

    Its metric is that of the settings, where they name one. Raises ConfigError for an unknown competition or target,
    with the nearest names, and for a setting of `Source` that the competition does not read.
    """
    if name not in competition_names():
        raise ConfigError(f"unknown competition {name!r}{nearest(name, competition_names())}")
    competition: Competition = importlib.import_module(f"{__name__}.{name}").COMPETITION
    source = source or Source()
    accepted = _accepted(competition)
    for key in Source.model_fields:
        if getattr(source, key) != getattr(Source(), key) and key not in (*accepted, *_OF_ALL):
            what = f"it takes {', '.join(sorted(accepted))}" if accepted else "it takes none of this kind"
            raise ConfigError(f"{name} does not take the setting {key!r}; {what}")
    if len(competition.targets) == 1 or source.target is None:
        return _measured(competition, source)
    if source.target not in competition.targets and not competition.target.labels:
        return _measured(competition, source)  # one of the labels, which its reader knows
    if source.target not in competition.targets:
        raise ConfigError(f"{name} has no target {source.target!r}{nearest(source.target, competition.targets)}")
    return _measured(replace(competition, chosen=source.target), source)


def _measured(competition: Competition, source: Source) -> Competition:
    """The competition with the metric of the settings, and its options."""
    target, name = competition.target, competition.chosen or next(iter(competition.targets))
    own = {} if source.metric and source.metric != target.metric else target.metric_options
    metric, options = source.metric or target.metric, {**own, **source.metric_options}
    changed = replace(target, metric=metric, metric_options=options)
    return replace(competition, targets={**competition.targets, name: changed})


def as_text(part: str = "") -> str:
    """What `kit competitions PART` prints: of each competition with `part` in its name or title what can be set.

    Raises ConfigError when there is none.
    """
    every = [find_competition(name) for name in competition_names()]
    matches = [each for each in every if part.lower() in f"{each.name} {each.title}".lower()]
    if not matches:
        raise ConfigError(f"no competition has {part!r} in its name or title{nearest(part, competition_names())}")
    return "\n".join(line for competition in matches for line in _lines(competition))


def _lines(competition: Competition) -> list[str]:
    configs = configs_of(competition.name)
    targets = ", ".join(f"{name} ({target.metric})" for name, target in competition.targets.items())
    lines = [
        f"{competition.name}: {competition.title}",
        f"    {'target ' if len(competition.targets) == 1 else 'targets'}  {targets}",
        f"    settings {', '.join(sorted(_accepted(competition))) or 'none of its own'}",
        f"    configs  {', '.join(configs)}",
    ]
    if competition.slug:
        kind = "datasets" if "/" in competition.slug else "competitions"
        lines.insert(1, f"    data     https://www.kaggle.com/{kind}/{competition.slug}")
    return lines


def _accepted(competition: Competition) -> set[str]:
    """The fields of `Source` that it takes."""
    return {*competition.settings, *(["target"] if len(competition.targets) > 1 else [])}

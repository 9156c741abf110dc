"""One module per competition, found by name: raw layout -> examples, targets, submission format.

Others are files of one's own, named by their paths, and those that packages register (kit.extensions):
docs/extending.md shows a whole one.
"""

import importlib
import os
import pkgutil
import sys
from dataclasses import replace
from typing import Any

from kit import extensions
from kit.competition import Competition
from kit.config import Config, RuntimeSettings, Source, configs_of
from kit.errors import ConfigError, nearest
from kit.runtime import devices

__all__ = ["as_text", "competition_names", "find_competition"]

_OF_ALL = ("metric", "metric_options")  # fields of `Source` that every competition takes


def competition_names() -> list[str]:
    """The names of kit's competitions."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_competition(name: str, source: Source | None = None) -> Competition:
    """The competition of that name, with the target, and its metric, that the settings choose.

    Its metric is that of the settings, where they name one. Raises ConfigError for an unknown competition or target,
    with the nearest names, and for a setting of `Source` that the competition does not read; of one that is not kit's,
    also for what is wrong with its code.
    """
    source = source or Source()
    competition = _from_file(name, source) if extensions.is_code(name) else _by_name(name)
    name, accepted = competition.name, _accepted(competition)
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


def _by_name(name: str) -> Competition:
    """One of kit's own, or of a package's."""
    own = competition_names()
    other = extensions.from_package("competition", name, own)
    if other is not None:
        return _checked(other, name, f"the competition {name!r} of a package")
    if name not in own:
        raise ConfigError(f"unknown competition {name!r}{nearest(name, {*own, *extensions.installed('competition')})}")
    competition: Competition = importlib.import_module(f"{__name__}.{name}").COMPETITION
    return competition


def _from_file(name: str, source: Source) -> Competition:
    """One in a file; metrics that its targets name in the same file get its digest."""
    if "keras" not in sys.modules:  # should the file import it
        runtime = source.runtime if isinstance(source, Config) else RuntimeSettings()
        os.environ["KERAS_BACKEND"] = devices.choose_backend(runtime)
    competition = _checked(extensions.load(name), extensions.plain(name), extensions.place_of(name))
    file = name.partition("@")[0]
    targets = {
        key: replace(target, metric=target.metric.replace(f"{file}:", f"{name.partition(':')[0]}:"))
        for key, target in competition.targets.items()
    }
    return replace(competition, read=extensions.guarded(competition.read, name), targets=targets)


def _checked(competition: Any, name: str, where: str) -> Competition:
    """Raise ConfigError for what is no competition, or not of that name, or has the name of one of kit's."""
    if not isinstance(competition, Competition):
        raise ConfigError(f"{where}: expected a kit.competition.Competition, not a {type(competition).__name__}")
    if name in competition_names():
        raise ConfigError(f"{where}: {name!r} is a competition of kit's own: rename it")
    if competition.name != name:
        raise ConfigError(
            f"{where}: name = {competition.name!r}: call it {name!r}, as its file or entry point is called"
        )
    return competition


def as_text(part: str = "") -> str:
    """What `kit competitions PART` prints: of each competition with `part` in its name or title what can be set.

    Raises ConfigError when there is none.
    """
    others = [name for name in extensions.installed("competition") if name not in competition_names()]
    every = [find_competition(name) for name in (*competition_names(), *others)]
    matches = [each for each in every if part.lower() in f"{each.name} {each.title}".lower()]
    if not matches:
        raise ConfigError(f"no competition has {part!r} in its name or title{nearest(part, competition_names())}")
    return "\n".join(line for competition in matches for line in _lines(competition))


def _lines(competition: Competition) -> list[str]:
    configs = configs_of(competition.name) or [competition.name]
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

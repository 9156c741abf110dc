"""YAML to typed settings: defaults, then a file, then `a.b=value` overrides. Search spaces are read the same way.

Whatever is wrong becomes a ConfigError that names the file and the setting, with the nearest names for an unknown one.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from kit import extensions
from kit.config.as_written import kind_at, parse, parse_setting, shortened
from kit.config.model import SHORT, in_full
from kit.config.settings import Config
from kit.errors import ConfigError, close_names, nearest
from kit.files import expanded

CONFIGS = resources.files("kit.configs")
_OVERRULED = {"train.epochs", "train.learning_rate"}  # by train.phases, which have their own
_LARGEST = 2**20  # bytes of a file
Model = TypeVar("Model", bound=BaseModel)
Overrides = Iterable[str] | Mapping[str, Any]


def config_names() -> list[str]:
    """Names of the configs that come with the kit, sorted."""
    return names_in(CONFIGS)


def configs_of(competition: str) -> list[str]:
    """Names of the configs of a competition that come with the kit, its own first."""
    names = [name for name, of_competition in _competitions().items() if of_competition == competition]
    return sorted(names, key=lambda name: (name != competition, name))


@cache  # for the table of all competitions
def _competitions() -> dict[str, str]:
    """The competition of each config."""
    return {name: read_yaml(CONFIGS / f"{name}.yaml", name)["competition"] for name in config_names()}


def load_config(name: str | Path, overrides: Overrides = (), base: Config | None = None) -> Config:
    """The config `name` (one of `config_names()`, or the path of a YAML file) with `a.b=value` overrides applied.

    Of a competition of one's own, FILE.py or the name of a package's, it is FILE.yaml beside, if there is one, or else
    has the settings of `csv`. Names of code get the digests of its files (kit.extensions), which are sought below the
    folder of the YAML file, or of the current folder for overrides.

    `overrides` may also be a dictionary, nested or with keys such as "image.size". With `base`, the settings of a run
    that was started from that config, these come first: one of kit's own configs adds nothing to them, the values in a
    file replace them. Raises ConfigError for an unknown name or key (with the nearest ones) and for a value of the
    wrong kind.
    """
    name, overrides = str(name), as_overrides(overrides)
    values, complete = _written(name)
    if isinstance(values.get("model"), dict):
        values["model"] = in_full(values["model"])  # before anything is laid over it
    if base is not None:
        values = _laid_over(Config, base.model_dump(), values if _is_path(name) or extensions.is_code(name) else {})
    elif not complete:
        values = {**read_yaml(CONFIGS / "csv.yaml", "csv"), **values}
    values["recipe"] = name
    config = validated(Config, _with_overrides(values, overrides), name)
    useless = _OVERRULED & {override.partition("=")[0] for override in overrides}
    if config.train.phases and useless:
        raise ConfigError(
            f"--set {min(useless)} has no effect beside train.phases, which have their own: --set train.phases=[]"
        )
    return config


def _written(name: str) -> tuple[dict[str, Any], bool]:
    """The settings in a config, with the digests of code; and whether they are all there are.

    A competition of one's own that has no config beside it brings nothing but its name.
    """
    reference = extensions.parse(name)
    if reference is None:
        if not _is_path(name) and name not in config_names() and name in extensions.installed("competition"):
            return {"competition": name}, False
        file = find_yaml(name, CONFIGS, "competition")
        folder = file.parent if isinstance(file, Path) and _is_path(name) else CONFIGS
        return dict(extensions.with_digests(read_yaml(file, name), folder, CONFIGS)), True
    path = expanded(Path(reference.path))
    beside = path.with_suffix(".yaml")
    values = read_yaml(beside, str(beside)) if beside.is_file() else {}
    own = {**values, "competition": name.replace(reference.path, path.name)}
    return dict(extensions.with_digests(own, path.parent, CONFIGS)), beside.is_file()


def with_settings(config: Config, overrides: Iterable[str]) -> Config:
    """The config with `a.b=value` overrides applied; raises what `load_config` does."""
    return validated(Config, _with_overrides(config.model_dump(), overrides), "--set")


def read_config(path: Path) -> Config:
    """The resolved config in a file that `dump_config` wrote, such as a run's."""
    return validated(Config, read_yaml(path, str(path)), str(path))


def dump_config(config: Config) -> str:
    """The config as YAML text that `read_config` and `load_config` take."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def override(key: str, value: Any) -> str:
    """`key=value` as `load_config` takes it, the value as YAML in one line."""
    return f"{key}={yaml_line(value)}"


def as_overrides(settings: Overrides) -> list[str]:
    """`a.b=value` texts, as `load_config` takes them, of such texts (or one alone) or of a dictionary of settings.

    Raises ConfigError for a value that YAML cannot hold, such as an array.
    """
    if isinstance(settings, str):
        return [settings]
    if not isinstance(settings, Mapping):
        return list(settings)
    overrides = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            overrides += as_overrides({f"{key}.{inner}": entry for inner, entry in value.items()})
            continue
        try:
            overrides.append(override(key, str(value) if isinstance(value, os.PathLike) else value))
        except yaml.YAMLError as error:
            raise ConfigError(f"{key} = {_shown(value)}: write it as a text, number, list or dictionary") from error
    return overrides


def yaml_line(value: Any) -> str:
    """A value as YAML in one line. (As JSON, 1e-05 would be read back as a text.)"""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=float("inf")))
    return text.removesuffix("...\n").strip()


def names_in(folder: Traversable) -> list[str]:
    """Names of the YAML files in a folder, without their endings, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def find_yaml(name: str, folder: Traversable, kind: str) -> Traversable:
    """The YAML file `name`: a path, or one of `names_in(folder)`; raises ConfigError for an unknown name.

    `kind` says in the message what the files of `folder` are.
    """
    if _is_path(name):
        return expanded(Path(name))
    if name not in names_in(folder):
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, names_in(folder))} (or give the path of a YAML file)")
    return folder / f"{name}.yaml"


def read_yaml(file: Traversable, source: str, model: type[BaseModel] = Config) -> dict[str, Any]:
    """The mapping in a YAML file, empty for an empty file; what is a text in `model` is taken as it is written.

    Raises ConfigError, naming `source`, for a file that cannot be read, invalid YAML, and anything but a mapping.
    """
    try:
        if isinstance(file, Path) and file.exists() and not file.is_file():
            raise ConfigError(f"{source} is not a file")
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{source}, line {line}: not UTF-8: save it as UTF-8") from error
    if len(content) > _LARGEST:
        raise ConfigError(f"{source} is larger than {_LARGEST >> 20} MiB: this is no config")
    values = deepcopy(_parsed(text, model, source))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold `key: value` lines")
    return values


def validated(model: type[Model], values: dict[str, Any], source: str) -> Model:
    """The values as a `model`; raises ConfigError with what is wrong, three things at most, and `source`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(_explained(model, e) for e in error.errors()[:3])) from error


@lru_cache(maxsize=64)  # every stage reads the config of its run, and YAML takes 40 ms
def _parsed(text: str, model: type[BaseModel], source: str) -> Any:
    return parse(text, model, source)


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _laid_over(kind: Any, base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`base` with `values` in its place, section by section; a mapping that is no section is replaced as a whole."""
    result = dict(base)
    for key, value in values.items():
        section = _inside(kind, key)
        inner = isinstance(value, dict) and isinstance(base.get(key), dict) and hasattr(section, "model_fields")
        result[key] = _laid_over(section, base[key], value) if inner else value
    return result


def _with_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    for text in overrides:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set {shortened(text)}: write it as key=value, for example --set image.size=96")
        *parents, last = _in_full(key).split(".")
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {shortened(text)}: {shortened(parent)!r} is a value, not a group of settings")
        parsed = parse_setting(value, kind_at(Config, [*parents, last]), f"--set {shortened(text)}")
        section[last] = extensions.with_digests(parsed, Path(), CONFIGS, (*parents, last))
    return values


def _in_full(key: str) -> str:
    """The key `model.backbone`, and others that are written in short, as it stands among the settings."""
    section, _, name = key.partition(".")
    return f"model.arguments.{name}" if section == "model" and name.partition(".")[0] in SHORT else key


def _explained(model: type[BaseModel], error: Any) -> str:
    """One of pydantic's errors as `key = value: what is wrong`."""
    *parents, name = [shortened(str(part)) for part in error["loc"]] or [""]
    key = ".".join([*parents, name])
    if error["type"] == "extra_forbidden":
        siblings = [".".join([*parents, sibling]) for sibling in _keys_at(model, error["loc"][:-1])]
        elsewhere = _of_that_name(name) if model is Config else []
        if elsewhere:
            return f"unknown setting {key!r}; did you mean {' or '.join(map(repr, elsewhere))}?"
        close = [each for each in siblings if close_names(name, [each.split(".")[-1]])]
        return f"unknown setting {key!r}{nearest(key, close or siblings)}"
    if error["type"] == "missing":
        return f"the setting {key!r} is missing"
    if error["type"] in ("model_type", "model_attributes_type") and (within := list(_keys_at(model, error["loc"]))):
        first = "name" if "name" in within else within[0]
        return f"{key} = {_shown(error['input'])}: is a group of settings: set {key}.{first} and so on"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        words = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        message += nearest(error["input"], words) if close_names(error["input"], words) else ""
    return f"{key} = {_shown(error['input'])}: {message[0].lower()}{message[1:]}" if key else message


def _shown(value: Any) -> str:
    try:
        return shortened(repr(value))
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"


def _of_that_name(name: str, kind: Any = Config, prefix: str = "") -> list[str]:
    """Settings in any section whose last part is `name`, as in `learning_rate` for `train.learning_rate`."""
    fields = getattr(kind, "model_fields", {})
    return [
        *(f"{prefix}{name}" for _ in range(name in fields)),
        *(each for key, field in fields.items() for each in _of_that_name(name, field.annotation, f"{prefix}{key}.")),
    ]


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> Iterable[str]:
    """The keys of the section at `location`, which goes through sections, lists (by number) and mappings (by key)."""
    kind: Any = model
    for part in location:
        kind = _inside(kind, part)
    return getattr(kind, "model_fields", ())


def _inside(kind: Any, part: str | int) -> Any:
    """The type of the value at `part` in a value of type `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _inside(inner[0], part)
    if origin in (Union, UnionType):  # discriminated by `name`, which pydantic adds to the location
        return next((m for m in inner if part in get_args(m.model_fields["name"].annotation)), None)
    if origin is not None:  # tuple[X, ...], dict[str, X]
        return inner[1] if origin is dict else inner[0]
    field = getattr(kind, "model_fields", {}).get(part)
    return field.annotation if field else None

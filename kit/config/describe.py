"""The settings as a table: name, default and meaning, which is the comment beside the field in this package's files."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from kit.config.load import yaml_line
from kit.config.settings import Config
from kit.errors import ConfigError, close_names, nearest


class Setting(NamedTuple):
    """A setting: its dotted name (`[]`: of each entry of a list), its default as YAML, and what it means."""

    name: str
    default: str
    meaning: str


def settings(part: str = "") -> list[Setting]:
    """The settings that have `part` in their name or, where there is none, in their meaning.

    Raises ConfigError, with the nearest names, when there is none.
    """
    every = list(_of(Config, ""))
    sought = part.lower()
    matches = [setting for setting in every if sought in setting.name.lower()]
    matches = matches or [setting for setting in every if sought in setting.meaning.lower()]
    if not matches:
        names = [setting.name for setting in every]
        hint = nearest(part, names) if close_names(part, names) else "; `kit settings` lists them all"
        raise ConfigError(f"no setting has {part!r} in its name or meaning{hint}")
    return matches


def as_text(part: str = "", width: int = 100) -> str:
    """What `kit settings PART` prints: a setting with its default, and its meaning below, wrapped to `width`."""
    lines = []
    for name, default, meaning in settings(part):
        lines.append(f"{name} = {default}" if default else name)
        lines += textwrap.wrap(meaning, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _of(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    comments = _comments(model)
    for name, field in model.model_fields.items():
        sections, path = _sections(field.annotation), prefix + name
        is_list = get_origin(field.annotation) is tuple
        if not sections or is_list:
            choices = _choices(field.annotation)
            meaning = [f"One of {', '.join(choices)}."] if choices else []
            default = "" if field.is_required() else yaml_line(field.get_default(call_default_factory=True))
            if len(choices) != 1:  # `name: clahe` says only which step it is
                yield Setting(path, default, " ".join([*meaning, *comments.get(name, ())]))
        for section in sections:
            own = section.model_fields.get("name")
            kind = _choices(own.annotation) if own and len(sections) > 1 else []
            yield from _of(section, f"{path}[{kind[0]}]." if kind else f"{path}[]." if is_list else f"{path}.")


def _sections(kind: Any) -> list[type[BaseModel]]:
    """The groups of settings that a value of this type is, or is a list of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _sections(inner)]


def _choices(kind: Any) -> list[str]:
    """The words that a value of this type can be."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if get_origin(kind) in (Union, UnionType, Annotated, tuple):
        return [word for inner in get_args(kind) for word in _choices(inner)]
    return []


def _comments(model: type[BaseModel]) -> dict[str, list[str]]:
    """The comments above and beside each field, also of the classes that the model extends."""
    comments: dict[str, list[str]] = {}
    for of_model in reversed(model.__mro__):
        if isinstance(of_model, type) and issubclass(of_model, BaseModel) and of_model.model_fields:
            comments |= _comments_in(textwrap.dedent(inspect.getsource(of_model)))
    return comments


def _comments_in(source: str) -> dict[str, list[str]]:
    lines, comments = source.splitlines(), dict[str, list[str]]()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for field in body.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            first = field.lineno - 1
            while lines[first - 1].strip().startswith("#"):
                first -= 1
            above = [line.strip().removeprefix("#").strip() for line in lines[first : field.lineno - 1]]
            beside = lines[(field.end_lineno or field.lineno) - 1].encode()[field.end_col_offset :].decode()
            parts = [" ".join(above), beside.strip().removeprefix("#").strip()]
            comments[field.target.id] = [_sentence(text) for text in parts if text]
    return comments


def _sentence(text: str) -> str:
    """The text with a capital and a stop, unless it begins with a value (`cosine: ...`)."""
    text = text if re.match(r"[\w.]+:", text) else text[0].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."

"""YAML in which texts are as they are written: `target: 1`, `yes` and `0123` are no number and no boolean.

YAML alone cannot know that; the settings' types tell which values are texts. Besides, what YAML's own constructor lets
through is refused here: keys that are set twice, tags, and aliases that unfold to a giant.
"""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from kit.errors import ConfigError

_MOST_NODES, _DEEPEST = 100_000, 50
_LONGEST = 100  # characters of a value in a message
_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value")}


def parse(text: str, kind: Any, source: str) -> Any:
    """The value of a YAML document; `kind` is the type (of a setting, a section, ...) that it is meant for.

    Raises ConfigError, with `source` and the line, for what is not YAML, or not allowed in it.
    """
    try:
        loader = yaml.SafeLoader(text)
        return _Construction(loader, source, "\n" in text).document(kind)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark and "\n" in text else ""
        raise ConfigError(
            f"{source}{line} is not valid YAML: {shortened(str(error.problem or error.context))}"
        ) from error
    except yaml.YAMLError as error:  # a character that no text has
        raise ConfigError(f"{source} is not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{source} is nested too deeply") from error


def parse_setting(text: str, kind: Any, source: str) -> Any:
    """The value of `--set key=text`, where the setting has the type `kind`.

    A text is taken as it is written; quotes around it are removed. `null`, or nothing, is None where the setting can be
    None. Of a list of texts, `[a,b]` is a list, and any other text is one that its section may split at commas.
    What is meant for an unknown setting, None, is not looked at.
    """
    if kind is None:
        return text
    lists = [get_args(member)[0] for member in _members(kind) if get_origin(member) is tuple]
    if not takes_text(kind) and not any(map(takes_text, lists)):
        return parse(text, kind, source)
    if takes_none(kind) and text in ("null", "~", ""):
        return None
    if text[:1] in ("'", '"') or (text[:1] == "[" and lists):
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
            if quoted or isinstance(node, yaml.SequenceNode):
                return parse(text, kind, source)
        except (yaml.YAMLError, RecursionError):
            pass  # such as the pattern [^_]+
    return text


def shortened(text: str) -> str:
    """A value as messages show it: in one line, at most 100 characters."""
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text[: _LONGEST + 1])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def takes_text(kind: Any) -> bool:
    """Whether a setting of this type can be a text, and no number."""
    members = _members(kind)
    texts = [m is str or (get_origin(m) is Literal and all(isinstance(a, str) for a in get_args(m))) for m in members]
    return any(texts) and not {int, float, bool} & {*members}


def takes_none(kind: Any) -> bool:
    """Whether a setting of this type can be None."""
    return NoneType in _members(kind)


def _members(kind: Any) -> tuple[Any, ...]:
    """The types that a union consists of; any other type alone."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _members(get_args(kind)[0])
    if origin in (Union, UnionType):
        return tuple(member for part in get_args(kind) for member in _members(part))
    return (kind,)


class _Construction:
    """The value of a document, built from its nodes; counts them, as aliases make few nodes many."""

    def __init__(self, loader: yaml.SafeLoader, source: str, has_lines: bool) -> None:
        self._loader, self._source, self._nodes = loader, source, 0
        self._has_lines = has_lines

    def document(self, kind: Any) -> Any:
        node = self._loader.get_single_node()
        return None if node is None else self._value(node, kind, 0)

    def _value(self, node: yaml.Node, kind: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise ConfigError(f"{self._source}: its aliases (*) unfold to more than {_MOST_NODES} values")
        if depth > _DEEPEST:
            raise self._refusal(node, "it is nested too deeply")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            inner = next((get_args(m)[0] for m in _members(kind) if get_origin(m) in (tuple, list)), Any)
            return [self._value(item, inner, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, _mapping_kind(kind, node), depth)
        raise self._refusal(node, f"the tag {shortened(node.tag.replace(_TAG, '!!'))} is not allowed")

    def _scalar(self, node: yaml.ScalarNode, kind: Any) -> Any:
        if node.tag not in _SCALARS:
            raise self._refusal(node, f"the tag {shortened(node.tag.replace(_TAG, '!!'))} is not allowed")
        is_null = node.tag == f"{_TAG}null"
        if takes_text(kind) and not (is_null and takes_none(kind)):
            return node.value
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # a number of thousands of digits, the 31st of February
            raise self._refusal(node, f"{shortened(node.value)} is not a value that can be read") from error

    def _mapping(self, node: yaml.MappingNode, kind: Any, depth: int) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":  # <<: the values of other mappings, where this one has none
                others = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for other in others:
                    content = self._value(other, kind, depth + 1)
                    merged = {**(content if isinstance(content, dict) else {}), **merged}
                continue
            if _lacks_space(key_node, value_node):
                raise self._refusal(key_node, f"{shortened(key_node.value)} needs a space behind its colon")
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._refusal(key_node, "a key is a text, not a list or a mapping")
            key = key_node.value if kind is not Any else self._scalar(key_node, Any)
            if key in lines:
                raise self._refusal(key_node, f"{shortened(str(key))!r} is set twice, first in line {lines[key]}")
            lines[key] = key_node.start_mark.line + 1
            values[key] = self._value(value_node, _kind_of(kind, key), depth + 1)
        return {**merged, **values}

    def _refusal(self, node: yaml.Node, reason: str) -> ConfigError:
        line = f", line {node.start_mark.line + 1}" if self._has_lines else ""
        return ConfigError(f"{self._source}{line}: {reason}")


def _lacks_space(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether a key without a value is a pair as in `{units:8}`, which YAML reads as the one text units:8."""
    is_plain = isinstance(key, yaml.ScalarNode) and key.style is None
    return is_plain and ":" in key.value and isinstance(value, yaml.ScalarNode) and value.value == ""


def _mapping_kind(kind: Any, node: yaml.MappingNode) -> Any:
    """Which member of a type a mapping is: the section or dictionary; of several sections, that with its `name`."""
    candidates = _sections(kind)
    if len(candidates) < 2:
        return candidates[0] if candidates else Any
    names = [value.value for key, value in node.value if key.value == "name"]
    return next((member for member in candidates if {*names} & {*_names_of(member)}), Any)


def _sections(kind: Any) -> list[Any]:
    """Of the types that a union consists of, those with keys: sections and dictionaries."""
    return [member for member in _members(kind) if hasattr(member, "model_fields") or get_origin(member) is dict]


def _names_of(section: Any) -> Iterator[str]:
    field = section.model_fields.get("name")
    yield from get_args(field.annotation) if field else ()


def _kind_of(kind: Any, key: Any) -> Any:
    """The type of the value at `key` of a section or dictionary: Any in what has no type, None for an unknown key."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    fields = getattr(kind, "model_fields", None)
    if fields is None:
        return Any
    return fields[key].annotation if key in fields else None


def kind_at(kind: Any, keys: list[str]) -> Any:
    """The type of the setting at a.b.c, below a section: Any where it has none, None for an unknown key."""
    for key in keys:
        sections = _sections(kind)
        kind = _kind_of(sections[0], key) if len(sections) == 1 else Any
    return kind

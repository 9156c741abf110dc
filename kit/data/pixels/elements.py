"""Elements of a DICOM header, each read on its own: whatever one of them holds, it costs no other.

Values that are broken, empty or too many are taken as absent. pydicom converts an element when it is read, and raises
all kinds of errors over what it cannot convert.
"""

import re
from typing import Any

_LARGEST = 1e30  # of a number that makes sense; the arithmetic of larger ones overflows
_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # the value representation CS (PS3.5, 6.2)


def value(dataset: Any, keyword: str) -> Any:
    """The element's value, or None where it is absent, empty or broken."""
    try:
        content = dataset.get(keyword)
    except Exception:
        return None
    return None if content is None or content == "" or content == b"" else content


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """The element's numbers; empty where it is absent, or one of them is none (a text, NaN, beyond 1e30)."""
    try:
        parts = tuple(float(part) for part in texts(dataset, keyword))
    except ValueError:
        return ()
    return parts if all(abs(part) <= _LARGEST for part in parts) else ()


def number(dataset: Any, keyword: str) -> float | None:
    """The element's number; None where it has none, or several that differ."""
    parts = set(numbers(dataset, keyword))
    return parts.pop() if len(parts) == 1 else None


def integer(dataset: Any, keyword: str) -> int | None:
    """The element's whole number; None where it has none, or several that differ."""
    whole = number(dataset, keyword)
    return int(whole) if whole is not None and whole.is_integer() else None


def short(dataset: Any, keyword: str) -> int | None:
    """As `integer`, of an element that is a number of 16 bits; also where its representation is unknown: two bytes."""
    content = value(dataset, keyword)
    if isinstance(content, bytes):
        return int.from_bytes(content, "little") if len(content) == 2 else None
    return integer(dataset, keyword)


def texts(dataset: Any, keyword: str) -> list[str]:
    """The element's values as texts without spaces around them; empty where it is absent or broken."""
    content = value(dataset, keyword)
    if content is None:
        return []
    if isinstance(content, bytes):  # of unknown representation
        content = content.decode("latin-1").split("\\")
    parts = content if isinstance(content, list) or _is_multiple(content) else [content]
    try:
        return [str(part).strip(" \0") for part in parts]
    except Exception:
        return []


def code(dataset: Any, keyword: str) -> str | None:
    """The element's code (such as MONOCHROME2), in capitals; None where it has none that can be one, or several."""
    parts = {part.upper() for part in texts(dataset, keyword)}
    return part if len(parts) == 1 and _CODE.fullmatch(part := parts.pop()) else None


def items(dataset: Any, keyword: str) -> list[Any] | None:
    """The items of a sequence, none where it is absent; None where the element is broken or no sequence."""
    from pydicom import Sequence

    if is_absent(dataset, keyword):
        return []
    content = value(dataset, keyword)
    return list(content) if isinstance(content, Sequence) else None


def is_absent(dataset: Any, keyword: str) -> bool:
    """Whether the header lacks the element, or has it without a value, as some writers do."""
    if keyword not in dataset:
        return True
    try:
        return bool(dataset[keyword].is_empty)
    except Exception:
        return False


def _is_multiple(content: Any) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(content, MultiValue)

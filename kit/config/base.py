"""What all sections of the settings share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

from kit.files import expanded


def _without_tilde(text: str) -> str:
    kind, colon, path = text.rpartition(":")  # such as run:~/runs/first
    return f"{kind}{colon}{expanded(Path(path))}" if path.startswith("~/") else text


PathText = Annotated[str, AfterValidator(_without_tilde)]  # a path, or a name that is none; `~/` is the home directory
_LARGEST = 2**31 - 1  # of a whole number: libraries take no more as seeds, sizes and counts


class Settings(BaseModel):
    """A section of the settings: immutable, and an unknown key is an error."""

    # validate_default: a float's default 0 must become 0.0, or a config that is read back has another fingerprint
    # coerce_numbers_to_str: in a dictionary of settings, a class may be called 1
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    @field_validator("*")
    @classmethod
    def _is_finite(cls, value: Any) -> Any:
        for number in _numbers(value):
            if isinstance(number, int) and abs(number) > _LARGEST:
                raise ValueError(f"a whole number can be {_LARGEST} at most")
            if number != number or abs(number) == float("inf"):  # in the free arguments of a model, an optimiser
                raise ValueError("a number has to be finite")
        return value


def _numbers(value: Any) -> Iterator[int | float]:
    """The numbers in lists and dictionaries."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, dict):
        yield from _numbers(list(value.values()))

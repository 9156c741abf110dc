"""The options of metrics, as settings and competitions give them: names, numbers, labels."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kit.errors import ConfigError, nearest
from kit.evaluate.columns import require_labels


def check_options(metric: str, options: Mapping[str, Any], accepted: Collection[str], labels: Sequence[str]) -> None:
    """Raise ConfigError for an option that the metric does not take, or a value that it cannot have.

    Names of labels are looked up where the `labels` are known.
    """
    for name, value in options.items():
        if name not in accepted:
            what = nearest(name, accepted) if accepted else "; it takes none"
            raise ConfigError(f"metric_options: {metric} takes no option {name!r}{what}")
        is_valid, words = _VALUES[name]
        if not is_valid(value):
            raise ConfigError(f"metric_options.{name} = {value!r}: {words}")
        if labels and isinstance(value, Mapping):
            names = value if name == "weights" else [label for group in value.values() for label in group]
            require_labels(name, names, labels)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high


def _are_groups(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(group, list | tuple) and len(group) > 1 and all(isinstance(name, str) for name in group)
        for group in value.values()
    )


def _are_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_number(each, 0, 1e9) for each in value.values())


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "above": (lambda value: _is_number(value, 0, 1), "a true-positive rate from 0 on and below 1 is needed"),
    "beta": (lambda value: _is_number(value, 1e-6, 1e6), "a number above 0 is needed"),
    "any_weight": (lambda value: _is_number(value, 0, 1e9), "a number of 0 or more is needed"),
    "weights": (_are_weights, "a number for each label is needed, such as {any: 2}"),
    "groups": (_are_groups, "lists of two or more labels by name are needed, such as {bowel: [healthy, injury]}"),
}

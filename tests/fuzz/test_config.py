"""Configs and `--set` of random text: a config, or one line that names the file or the setting."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config import config_names, dump_config, load_config, read_config
from kit.config.load import CONFIGS, as_overrides, override
from kit.errors import ConfigError
from tests.fuzz import examples

pytestmark = pytest.mark.once

PRINTED = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
KEYS = ("target", "columns.group", "columns.id", "columns.label", "evaluate.threshold", "folds", "seed", "image")
KEYS += (
    "image.steps",
    "train.loss.weights",
    "model.arguments",
    "model.arguments.x",
    "runtime.xla",
    "train",
    "nope",
    "",
)
PIECES = ["{", "}", "[", "]", ":", " ", "\n", "- ", "'", '"', "&a ", "*a", "!!int ", "? ", "<<: *a", "|", "#", "1", "%"]
PIECES += [
    "image:\n  size: 96\n",
    "competition: toy\n",
    "\t",
    "\0",
    "\ufeff",
    "folds",
    ".nan",
    "9" * 5000,
    "ä",
    "---\n",
]


def is_one_line(error, start):
    text = str(error)
    return text.startswith(start) and "\n" not in text and len(text) < 1000


@settings(max_examples=examples(300), derandomize=True, deadline=None)
@given(PRINTED)
def test_every_text_is_a_text(text):
    if text not in ("", "~", "null") and text[:1] not in ("'", '"'):
        assert load_config("folders", [f"target={text}"]).target == text
    assert load_config("folders", [override("target", text)]).target == text
    assert load_config("folders", {"target": text}).target == text


@settings(max_examples=examples(300), derandomize=True, deadline=None)
@given(st.sampled_from(KEYS), PRINTED | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_every_setting_is_taken_or_refused(key, value):
    try:
        config = load_config("toy", [f"{key}={value}"])
    except ConfigError as error:
        assert is_one_line(error, "")
    else:
        assert config.competition


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31) + 1, 2**31 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | PRINTED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PRINTED.filter(bool), inner, min_size=1, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(200), derandomize=True, deadline=None)
@given(VALUES)
def test_dictionaries_of_settings_keep_their_values(value):
    assert load_config("toy", [override("model.arguments", {"x": value})]).model.arguments == {"x": value}
    plain = value if not isinstance(value, dict) else [value]  # the keys of dictionaries may be paths
    assert load_config("toy", as_overrides({"model": {"arguments": {"x": plain}}})).model.arguments["x"] == plain


@pytest.mark.parametrize("name", config_names())
def test_damaged_files_are_refused_in_one_line(name, tmp_path):
    rng, path = random.Random(name), tmp_path / "mine.yaml"
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    for _ in range(examples(20)):
        damaged = text
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged) + 1)
            damaged = damaged[:at] + rng.choice(PIECES) + damaged[at + rng.choice([0, 0, 1, 5, 50]) :]
        content = damaged.encode(rng.choice(["utf-8"] * 8 + ["utf-16", "utf-8-sig"]))
        path.write_bytes(content)
        try:
            config = load_config(path)
        except ConfigError as error:
            assert is_one_line(error, (str(path), f"cannot read {path}"))
            continue
        path.write_text(dump_config(config))
        assert read_config(path) == config

"""Texts in settings are as they are written, and files that are no config are refused in one line."""

from pathlib import Path

import pytest

from kit.config import dump_config, load_config, read_config
from kit.config.load import as_overrides, override
from kit.errors import ConfigError
from kit.tune.space import read_space

TEXTS = ["1", "007", "1.0", "1e5", "yes", "no", "on", "true", "1:30", "2020-01-31", "0x1f", "null.", "ä", ".*", "\\"]
TEXTS += ["[^_]+", "[A-Z]+\\d{4}", "[0-9]", "{4}", "a: b", "# 5", "- x", "*", "&a", "!x", "%", "@", "`", ", ", "|", "'"]
TEXTS += ["it's", 'say "x"']


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_is_written(text, tmp_path):
    config = load_config("folders", [f"columns.group={text}", f"target={text}", f"columns.id={text}"])
    assert (config.columns.group, config.target, config.columns.id) == (text, text, text)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert read_config(tmp_path / "config.yaml") == config
    assert load_config("folders", [override("target", text)]).target == text
    assert load_config("folders", {"target": text, "columns": {"group": text}}).columns.group == text


def test_null_and_quotes():
    assert load_config("folders", ["target=x", "target=null"]).target is None
    assert load_config("folders", ["target=x", "target="]).target is None
    assert load_config("folders", ["target='null'"]).target == "null"
    assert load_config("folders", ['target="1"']).target == "1"
    assert load_config("folders", ["target=''"]).target == ""
    assert load_config("csv", ["columns.id=null"]).columns.id == "null"  # which cannot be None


def test_lists_of_texts():
    label = lambda text: load_config("csv", [f"columns.label={text}"]).columns.label  # noqa: E731
    assert label("1") == ("1",)
    assert label("[a,b]") == label("[a, 'b']") == label("a,b") == ("a", "b")
    assert label("[1, yes, 007]") == ("1", "yes", "007")
    assert label("[^_]+") == ("[^_]+",)


def test_what_is_no_text_is_yaml_as_before():
    config = load_config("toy", ["image.dicom.percentiles=[1, 99]", "train.loss.weights=[1, 2]", "folds=0x2"])
    assert (config.image.dicom.percentiles, config.train.loss.weights, config.folds) == ((1.0, 99.0), (1.0, 2.0), 2)
    config = load_config(
        "toy", ["train.loss.weights=none", "runtime.trackers=[wandb]", "model.arguments={a: yes, b: 1}"]
    )
    assert (config.train.loss.weights, config.runtime.trackers) == ("none", ("wandb",))
    assert config.model.arguments == {"a": True, "b": 1}
    assert load_config("toy", ["train.patience=null", "augment.horizontal_flip=yes"]).augment.horizontal_flip is True


def test_texts_in_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "competition: csv\ntarget: 1\ncolumns:\n  label: [1, no, 2020-01-31]\n  group: on\n  split: null\n"
        "image: {steps: [{name: clahe}, {name: super_resolution, model: 1}]}\nruntime: {xla: off}\n"
    )
    config = load_config(path)
    assert (config.target, config.columns.label, config.columns.group) == ("1", ("1", "no", "2020-01-31"), "on")
    assert (config.columns.split, config.image.steps[1].model, config.runtime.xla) == (None, "1", "off")


def test_settings_of_python():
    settings = {
        "folds": 4,
        "image": {"size": 64, "dicom": {"frame": 0}},
        "train": {"epochs": 3, "phases": []},
        "target": 1,
    }
    settings |= {"model": {"weights": Path("w.h5"), "arguments": {}}, "train.loss.weights": (1, 2)}
    config = load_config("folders", settings)
    assert (config.folds, config.image.size, config.image.dicom.frame, config.train.epochs) == (4, 64, 0, 3)
    assert (config.target, config.model.weights, config.train.loss.weights) == ("1", "w.h5", (1.0, 2.0))
    assert load_config("folders", "folds=4").folds == 4
    assert load_config("folders", (text for text in ["folds=4"])).folds == 4
    with pytest.raises(ConfigError, match=r"unknown setting 'image\.sise'; did you mean 'image\.size'"):
        load_config("folders", {"image": {"sise": 64}})
    with pytest.raises(ConfigError, match="folds = <object"):
        as_overrides({"folds": object()})


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("competition: toy\nmodel: {weights: ~/w.h5}\npseudo: {run: ~/runs/a}\n")
    config = load_config("~/mine.yaml")
    assert (config.model.weights, config.pseudo.run) == (f"{tmp_path}/w.h5", f"{tmp_path}/runs/a")
    assert load_config("toy", ["model.weights=run:~/runs/a"]).model.weights == f"run:{tmp_path}/runs/a"
    assert load_config("toy", ["model.weights=~"]).model.weights is None  # YAML's null


def nested(levels):
    return "competition: toy\nmodel: {arguments: " + "{a: " * levels + "1" + "}" * levels + "}\n"


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
BOMB += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)) + "competition: toy\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BOMB, r"its aliases \(\*\) unfold to more than 100000 values"),
        (nested(60), "line 2: it is nested too deeply"),
        (nested(5000), "is nested too deeply"),
        ("competition: toy\nseed: " + "9" * 5000, "line 2: 9{100}... is not a value that can be read"),
        ("competition: toy\nseed: " + "9" * 4000, "seed = 9{100}...: a whole number can be 2147483647 at most"),
        ("competition: toy\nseed: 4294967296", "seed = 4294967296: a whole number can be 2147483647 at most"),
        ("competition: toy\nmodel: {arguments: {units:8}}", "line 2: units:8 needs a space behind its colon"),
        ("competition: toy\nfolds: 3\nfolds: 4", "line 3: 'folds' is set twice, first in line 2"),
        ("competition: toy\ntrain:\n  epochs: 3\n\n  epochs: 4", "line 5: 'epochs' is set twice, first in line 3"),
        ("competition: toy\nseed: !!python/object/apply:os.system [ls]", "line 2: the tag !!python.* is not allowed"),
        ("competition: !!python/name:os.system toy", "the tag !!python/name:os.system is not allowed"),
        ("competition: !mine toy", "the tag !mine is not allowed"),
        (
            "competition: toy\ntrain: {learning_rate: .nan}",
            "train.learning_rate = nan: input should be a finite number",
        ),
        (
            "competition: toy\ntrain: {warmup_epochs: .inf}",
            "train.warmup_epochs = inf: input should be a finite number",
        ),
        ("competition: toy\ndata: {shard_mib: 1e999}", "data.shard_mib = .*: input should be a finite number"),
        ("competition: toy\nmodel: {arguments: {x: [.nan]}}", "model.arguments = .*: a number has to be finite"),
        ("competition: toy\n[1]: 2", "is not valid YAML|a key is a text"),
        ("competition: toy\n? [1]\n: 2", "line 2: a key is a text, not a list or a mapping"),
        ("competition: toy\n\tfolds: 2", "line 2 is not valid YAML"),
        ("competition: toy\nseed: 2020-02-31", "line 2: 2020-02-31 is not a value that can be read"),
        ("competition: *nobody", "is not valid YAML: found undefined alias 'nobody'"),
        ("competition: toy\0", "is not valid YAML: unacceptable character"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML: but found another document"),
        ("- 1", "must hold `key: value` lines"),
        ("toy", "must hold `key: value` lines"),
        ("", "the setting 'competition' is missing"),
    ],
)
def test_files_that_are_no_config(content, says, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as error:
        load_config(str(path))
    text = str(error.value)
    assert text.startswith(str(path))
    assert len(text) < len(str(path)) + 250
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("competition: toy".encode("utf-16"), "line 1: not UTF-8: save it as UTF-8"),
        ("competition: toy\ntarget: Größe".encode("latin-1"), "line 2: not UTF-8: save it as UTF-8"),
        (b"#" * 2**21, "is larger than 1 MiB: this is no config"),
    ],
)
def test_files_of_other_encodings(content, says, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_config(str(path))
    path.write_bytes("competition: toy\ntarget: Größe".encode("utf-8-sig"))
    assert load_config(str(path)).target == "Größe"


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.yaml is not a file"):
        load_config(str(tmp_path / "folder.yaml"))


def test_anchors_and_merges_stay_allowed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("competition: toy\ntrain: &a {epochs: 3}\nmodel: {arguments: {<<: *a, units: 8}}\n")
    assert load_config(str(path)).model.arguments == {"epochs": 3, "units": 8}


def test_a_space_is_read_in_the_same_way(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("space: {train.epochs: [1, 2], train.epochs: [3]}")
    with pytest.raises(ConfigError, match=r"'train\.epochs' is set twice"):
        read_space(str(path))
    path.write_text("pruner: none\nspace: {model.weights: [none, imagenet], train.weight_decay: [0, 1e-4]}")
    assert read_space(str(path)).space["train.weight_decay"].choices == (0, 1e-4)

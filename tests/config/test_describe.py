"""The table of settings, which is read from the fields and their comments."""

import pytest

from kit.cli import main
from kit.config import Config, load_config
from kit.config.describe import as_text, settings
from kit.errors import ConfigError


def test_name_default_and_meaning():
    table = {setting.name: setting for setting in settings()}
    assert table["train.batch_size"][1:] == ("64", "Images per update, over all devices.")
    assert table["fold_seed"].default == "null"
    assert table["columns.label"].default == "[label]"
    assert table["augment.fill_mode"].meaning.startswith("One of constant, reflect, nearest, wrap. How pixels")
    assert table["train.phases[].epochs"].default == ""  # must be given
    assert table["image.steps[clahe].tiles"][1:] == ("8", "Per side.")
    # above the field and beside it
    both = "from `above` on. A probability of at least this becomes the label 1."
    assert table["pseudo.above"].meaning.endswith(both)


def test_every_setting_is_there_and_has_a_meaning():
    table = {setting.name: setting for setting in settings()}
    for section, field in Config.model_fields.items():
        assert any(name.split(".")[0] == section for name in table), field
    assert [name for name, setting in table.items() if not setting.meaning] == []


def test_defaults_are_what_a_config_takes():
    for setting in settings():
        if setting.default and "[" not in setting.name:
            load_config("toy", [f"{setting.name}={setting.default}"])


def test_a_part_of_the_name_or_else_of_the_meaning():
    assert {setting.name for setting in settings("learning_rate")} >= {"train.learning_rate", "train.min_learning_rate"}
    assert [setting.name for setting in settings("GridMask")] == ["augment.grid_mask"]
    with pytest.raises(ConfigError, match=r"did you mean 'train\.batch_size'"):
        settings("train.batchsize")
    with pytest.raises(ConfigError, match="`kit settings` lists them all"):
        settings("zzzz")


def test_lines_are_wrapped():
    assert max(len(line) for line in as_text(width=72).splitlines() if line.startswith(" ")) <= 72
    assert "image.size = 96\n    Pixels" in as_text("image.size")


@pytest.mark.once
def test_commands(capsys):
    assert main(["settings", "seed"]) == 0
    assert "fold_seed = null\n" in capsys.readouterr().out
    assert main(["competitions", "pneumonia"]) == 0
    shown = capsys.readouterr().out
    assert "rsna: RSNA Pneumonia Detection Challenge" in shown and "three_class (roc_auc)" in shown
    assert "pneumonia_mobilenet" in shown and "pcam" not in shown
    assert main(["competitions", "csv"]) == 0
    assert "settings columns, table, target" in capsys.readouterr().out
    assert main(["competitions", "pcan"]) == 2
    assert "did you mean 'pcam'" in capsys.readouterr().err

"""`model.name: auto` becomes a network once, and stays it."""

import pytest

from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError
from kit.models import auto
from kit.models.auto import ALWAYS, Choice
from kit.run import Run
from kit.runtime import devices
from kit.stages.check import check_settings
from kit.stages.network import provisional, with_network
from kit.stages.resume import config_of, refuse_other_settings
from kit.stages.train import start_run
from kit.tune.search import _network
from kit.tune.space import Space

pytestmark = pytest.mark.once
AUTO = ["model.name=auto", "model.arguments={}", "folds=2", "train.batch_size=16"]


@pytest.fixture
def machine(monkeypatch):
    """Make this machine another one."""

    def become(kind, download=lambda name: None):
        monkeypatch.setattr(devices, "kind_of", lambda settings: kind)
        monkeypatch.setattr(auto, "fetch", download)

    return become


def test_a_run_has_the_network_in_its_config(machine, toy_records, tmp_path, capsys):
    machine("CPU")
    run = Run(tmp_path / "run")
    start_run(load_config("toy", AUTO), toy_records, run)
    model = run.config.model
    arguments = {"units": [], "dropout": 0, "pool": "levels"}
    assert (model.name, model.weights, model.arguments) == (ALWAYS, "imagenet", arguments)
    assert capsys.readouterr().out.count("model.name = auto: ") == 1


def test_a_run_that_exists_keeps_it_on_another_machine(machine, toy_records, tmp_path, capsys, monkeypatch):
    machine("CPU")
    run = Run(tmp_path / "run")
    start_run(load_config("toy", AUTO), toy_records, run)
    machine("GPU", lambda name: pytest.fail("downloads"))
    monkeypatch.setattr(Run, "begun_folds", lambda self: [0])  # so that changed settings are refused
    capsys.readouterr()
    for settings in ([], ["model.name=auto"], AUTO, ["model.name=auto", "model.weights=null"]):
        config = config_of(run, "toy", settings)
        assert config.model == run.config.model
        refuse_other_settings(config, run)
    again = start_run(load_config("toy", AUTO), toy_records, run)[0]
    assert again.config.model == run.config.model
    assert capsys.readouterr().out == ""
    changed = config_of(run, "toy", ["model.name=auto", "model.weights=none"])
    assert (changed.model.name, changed.model.weights) == (ALWAYS, "none")
    with pytest.raises(ConfigError, match=r"model\.weights: imagenet → none"):
        refuse_other_settings(changed, run)


def test_a_config_of_ones_own_that_says_auto_continues_its_run(machine, toy_records, tmp_path):
    machine("GPU")
    own = tmp_path / "own.yaml"
    own.write_text(
        "competition: toy\nfolds: 2\nmodel: {name: auto, arguments: {units: [8]}}\ntrain: {batch_size: 16}\n"
    )
    run = Run(tmp_path / "run")
    start_run(config_of(run, str(own), []), toy_records, run)
    assert run.config.model.name == "efficientnetv2b2"
    machine("CPU")
    assert config_of(run, str(own), []).model == run.config.model


def test_what_is_outside_a_run_is_trusted_only_if_auto_would_choose_it(machine, toy_records, tmp_path, monkeypatch):
    machine("GPU")
    preset = Choice("hub//presets/hibou-b", "preset", {}, "so", rate=0.1)
    monkeypatch.setattr(auto, "choose", lambda *_, **__: preset)
    run = Run(tmp_path / "run")
    config = with_network(load_config("toy", [*AUTO, "train.learning_rate=.01"]))
    assert config.train.learning_rate == pytest.approx(0.001)
    run.write_config(config)
    assert config_of(run, "toy", ["model.name=auto"]).model.name == preset.name
    monkeypatch.setattr(auto, "choose", lambda *_, **__: Choice(ALWAYS, "imagenet"))
    with pytest.raises(ConfigError, match=r"names something outside the run, model\.name = hub//presets/hibou-b"):
        config_of(run, "toy", ["model.name=auto"])
    assert config_of(run, "toy", ["model.name=auto"], trust=True).model.name == preset.name


def test_rates_of_the_head_are_not_those_of_the_backbone(machine, monkeypatch):
    machine("GPU")
    monkeypatch.setattr(auto, "choose", lambda *_, **__: Choice("hub/x", "preset", {}, "so", rate=0.1))
    own = "train.phases=[{epochs: 1, learning_rate: 0.003, unfreeze: none}, {epochs: 1, learning_rate: 0.001}]"
    phases = with_network(load_config("pcam", [own])).train.phases
    assert [phase.learning_rate for phase in phases] == [0.003, pytest.approx(0.0001)]


def test_training_with_random_weights_does_not_start_from_what_they_say(machine):
    machine("CPU")
    assert with_network(load_config("pcam")).train.initial_head == "linear"
    train = with_network(load_config("pcam", ["model.weights=none"])).train
    assert (train.initial_head, train.freeze_batch_norm) == ("random", False)


def test_checks_need_no_machine(monkeypatch):
    monkeypatch.setattr(devices, "kind_of", lambda settings: pytest.fail("looks at the machine"))
    monkeypatch.setattr(auto, "fetch", lambda name: pytest.fail("downloads"))
    for name in ("folders", "csv", "medmnist", "pcam", "pneumonia", "nih", "breast", "rsna"):
        config = load_config(name)
        assert config.model.name == "auto"
        check_settings(config)
        assert provisional(config).model.name == ALWAYS
    for name in ("folders_boxes", "csv_boxes"):
        check_settings(load_config(name))
        assert provisional(load_config(name)).model.arguments["backbone"] == ALWAYS
    with pytest.raises(ConfigError, match="are those of one network"):
        check_settings(load_config("folders", ["model.weights=imagenet"]))
    with pytest.raises(ConfigError, match="takes no such argument"):
        check_settings(load_config("folders", ["model.arguments.unitz=3"]))


def test_a_search_keeps_the_network_it_began_with(machine, tmp_path):
    machine("GPU")
    config, space = load_config("pcam"), Space(space={"train.batch_size": [8], "model.arguments": [{}]})
    first = _network(config, space, tmp_path)
    assert first == ["model.name=efficientnetv2b2", "model.weights=imagenet"]
    (tmp_path / "search.json").write_text('{"settings": {"model": {"name": "resnet50", "weights": null}}}')
    assert _network(config, space, tmp_path) == ["model.name=resnet50", "model.weights=null"]
    assert _network(config, Space(space={"model.name": ["vgg16"]}), tmp_path) == []
    assert _network(load_config("toy"), space, tmp_path) == []


def test_without_devices_of_an_accelerator_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(devices, "_ACCELERATORS", ("no-such-device*",))
    monkeypatch.setattr(devices.sys, "platform", "linux")
    monkeypatch.setattr(devices, "set_up", lambda settings: pytest.fail("loads the backend"))
    assert devices.kind_of(load_config("toy").runtime) == "CPU"


def test_other_weights_are_refused_in_one_line(tmp_path, toy_root, capsys):
    words = ["run", "pcam", "--data", str(toy_root), "--run", str(tmp_path / "r"), "--set", "model.weights=imagenet"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "name it with --set model.name=NAME" in error

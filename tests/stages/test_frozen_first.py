"""The run of the frozen network that comes before the one that is trained."""

import pytest

from kit import pipeline
from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError
from kit.headlines import gain
from kit.models import registry
from kit.run import Run
from kit.schemas import Comparison
from kit.stages.network import frozen_first
from tests.backbones import registered
from tests.conftest import TINY

SETTINGS = [*(s for s in TINY if not s.startswith("model")), "model.name=tiny_map", "train.epochs=1"]


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


@pytest.fixture
def weights(tmp_path):
    """A file of weights of the backbone of tiny_map."""
    path = tmp_path / "tiny.weights.h5"
    registry.build("tiny_map", shape=(32, 32, 3), outputs=1).get_layer("backbone").save_weights(path)
    return path


def test_the_frozen_network_comes_first_and_once(weights, _toy_folder, tmp_path, capsys):
    settings = [*SETTINGS, f"model.weights={weights}", "model.units=[]"]
    run, records = tmp_path / "run", tmp_path / "records"
    quick = pipeline.run("toy", _toy_folder, run, records, settings, quick=True)
    assert quick.directory == Run(run).frozen.directory
    assert quick.is_complete and quick.submission_path.exists() and not Run(run).exists()
    assert quick.config.model.name == "features" and quick.config.model.arguments["backbone"] == "tiny_map"
    assert quick.config.model.arguments["backbone_arguments"] == {}
    fitted = [quick.fold(k).done.stat().st_mtime_ns for k in range(2)]
    capsys.readouterr()

    whole = pipeline.run("toy", _toy_folder, run, records, [*settings, "frozen_first=true"])
    assert whole.directory == run and whole.is_complete and whole.config.model.name == "tiny_map"
    assert [quick.fold(k).done.stat().st_mtime_ns for k in range(2)] == fitted
    *_, gain, report, _ = capsys.readouterr().out.splitlines()  # the last: how long the report took
    assert "to the frozen network's" in gain and report == f"report: {whole.report_path}"
    assert quick.report_path.exists()  # of the quick run, which ended with it


def test_there_is_none_of_networks_that_know_nothing_yet():
    settings = ["frozen_first=true", "model.name=mobilenet", "predict.tta=dihedral"]
    first = frozen_first(
        load_config("toy", [*settings, "model.arguments={until: conv_pw_12_relu, units: [], dropout: 0}"])
    )
    assert first.model.arguments == {"backbone": "mobilenet", "backbone_arguments": {"until": "conv_pw_12_relu"}}
    assert first.predict.tta == "none"
    assert frozen_first(load_config("toy", settings[1:])) is None
    for name, weights in (("pcam_cnn", "null"), ("mobilenet", "none"), ("features", "imagenet")):
        config = load_config("toy", ["frozen_first=true", f"model.name={name}", f"model.weights={weights}"])
        assert frozen_first(config) is None
        with pytest.raises(ConfigError, match="--quick fits a head on a frozen network"):
            frozen_first(config, only=True)


def test_quick_says_at_once_what_it_cannot_do(_toy_folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["run", "toy", "--data", str(_toy_folder), "--run", str(run), "--quick"]) == 2
    assert "--quick fits a head on a frozen network" in capsys.readouterr().err
    assert not run.exists() or not [*run.iterdir()]


def test_what_training_adds():
    def line(value, low, high, difference):
        rows = [(0.9, None, None, None), (value, low, high, difference)]
        each = [Comparison(run="a", value=v, low=lo, high=hi, difference=d, better=None) for v, lo, hi, d in rows]
        return gain(*each)

    assert line(0.95, 0.01, 0.09, 0.05) == (
        "training adds 0.0500 to the frozen network's 0.9000 (difference +0.0100 to +0.0900)"
    )
    assert line(0.89, -0.03, 0.01, -0.01).startswith("training loses 0.0100 to the frozen network's 0.9000")
    assert line(0.89, -0.03, 0.01, -0.01).endswith("; not sure, as the interval includes 0)")
    assert line(None, None, None, None).endswith("not defined on these images")

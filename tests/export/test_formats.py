"""Exported models say what the predictor says, without kit."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from kit import pipeline
from kit.cli import main
from kit.errors import ConfigError, DataError
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.stages.export import Wanted, export
from tests.conftest import TINY

pytestmark = pytest.mark.once  # the formats are TensorFlow's to write
SETTINGS = [*TINY, "train.epochs=1", "predict.tta=flips", "evaluate.calibration=beta"]


@pytest.fixture(scope="module")
def run(keras, _toy_folder, tmp_path_factory):
    """A finished run, calibrated, over several views."""
    root = tmp_path_factory.mktemp("export")
    return pipeline.run("toy", _toy_folder, root / "run", root / "records", SETTINGS)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The file of an image of another size and shape than the model's."""
    path = tmp_path_factory.mktemp("image") / "x.png"
    noise = np.random.default_rng(2).integers(0, 256, (9, 7, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (61, 75), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.mark.filterwarnings("ignore")  # the converters' own
@pytest.mark.parametrize("name", ["savedmodel", "onnx", "litert"])
@pytest.mark.parametrize("any_size", [pytest.param(False, marks=pytest.mark.slow), True], ids=["", "any_size"])
def test_the_example_says_what_the_predictor_says(run, image, name, any_size, tmp_path):
    folder = export(run, Wanted(name, any_size=any_size), tmp_path / "out")
    command = [sys.executable, str(folder / "example.py"), str(image)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    expected = Predictor.open(run).predict(image).iloc[0]
    labels = run.decision.labels
    assert [line[0] for line in lines] == list(labels)
    assert np.allclose([float(line[1]) for line in lines], [expected[f"p_{label}"] for label in labels], atol=1e-4)
    cuts = [run.decision.thresholds[label].threshold for label in labels]
    yes = ["yes" if expected[f"p_{label}"] >= cut else "no" for label, cut in zip(labels, cuts, strict=True)]
    assert [line[2] for line in lines] == yes


def test_a_run_as_one_file(run, tmp_path, capsys):
    path = tmp_path / "toy.kit.zip"
    assert main(["export", str(run.directory), "--out", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    assert Predictor.open(path).predict(images).equals(Predictor.open(run).predict(images))


def test_what_a_format_cannot_hold_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match="--format kit holds the whole run"):
        export(run, Wanted("kit", folds=[0]))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(DataError, match="is there already"):
        export(run, Wanted("onnx"), tmp_path / "full")
    with pytest.raises(DataError, match="no fold trained yet"):
        export(Run(tmp_path / "nothing"), Wanted(), tmp_path / "x.kit.zip")


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_says_something_else_is_not_kept(run, tmp_path, monkeypatch):
    from kit.export import formats

    wrong = formats.FORMATS["savedmodel"]._replace(load=lambda path: lambda images: np.ones((len(images), 1)))
    monkeypatch.setitem(formats.FORMATS, "savedmodel", wrong)
    with pytest.raises(ConfigError, match="what was written says something else"):
        export(run, Wanted("savedmodel"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_jax_is_told_where_to_write(run, tmp_path, monkeypatch):
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match="KERAS_BACKEND=tensorflow"):
        export(run, Wanted("onnx"), tmp_path / "out")

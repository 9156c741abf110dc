"""Exported models say what the predictor says, without kit."""

import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from kit import pipeline
from kit.cli import main
from kit.config import BoxSettings, load_config
from kit.data.records.images import images_of
from kit.data.records.manifest import open_records
from kit.decisions import BoxDecision, BoxRule, Calibration, ClassFactors, Decision
from kit.errors import ConfigError, DataError
from kit.evaluate.sent import sent, with_decisions
from kit.export import example, formats
from kit.models import registry
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.stages.export import Wanted, export
from kit.stages.score import mean_test
from tests.conftest import TINY

pytestmark = pytest.mark.once  # the formats are TensorFlow's to write
WORTH = {"on_the_images_that_chose_it": 0.1, "nested": 0.1}
RULE = BoxRule(cut=0.5, on_the_images_that_chose_it=0.1)
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


def without_kit(script, image, folder):
    """Run an example where kit cannot be imported; returns what it did."""
    (folder / "without" / "kit").mkdir(parents=True)
    (folder / "without" / "kit" / "__init__.py").write_text("raise ImportError('no kit here')")
    known = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(folder / "without")}}
    refused = subprocess.run([sys.executable, "-c", "import kit"], **known, capture_output=True, text=True, check=False)
    assert "no kit here" in refused.stderr
    command = [sys.executable, str(script), str(image)]
    return subprocess.run(command, **known, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("name", ["savedmodel", "onnx", "litert"])
@pytest.mark.parametrize("any_size", [pytest.param(False, marks=pytest.mark.slow), True], ids=["", "any_size"])
def test_the_example_says_what_the_predictor_says(run, image, name, any_size, tmp_path):
    folder = export(run, Wanted(name, any_size=any_size), tmp_path / "out")
    done = without_kit(folder / "example.py", image, tmp_path)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    expected = Predictor.open(run).predict(image).iloc[0]
    labels = run.decision.labels
    assert [line[0] for line in lines] == list(labels)
    assert np.allclose([float(line[1]) for line in lines], [expected[f"p_{label}"] for label in labels], atol=1e-4)
    cuts = [run.decision.thresholds[label].threshold for label in labels]
    yes = ["yes" if expected[f"p_{label}"] >= cut else "no" for label, cut in zip(labels, cuts, strict=True)]
    assert [line[2] for line in lines] == yes
    readme = (folder / "README.md").read_text()
    assert ("any height and width" if any_size else "32 × 32 pixels") in readme and "calibration: beta" in readme


def test_a_run_as_one_file(run, tmp_path, capsys):
    path = tmp_path / "toy.kit.zip"
    assert main(["export", str(run.directory), "--out", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(path)
    images = np.zeros((2, 32, 32, 3), np.uint8)
    assert Predictor.open(path).predict(images).equals(Predictor.open(run).predict(images))


def test_what_a_file_does_not_hold_is_said(run, tmp_path, caplog):
    copy = Run(shutil.copytree(run.directory, tmp_path / "run"))
    export(copy, Wanted(), tmp_path / "a.kit.zip")
    assert "does not hold" not in caplog.text
    copy.write_config(load_config("toy", [*SETTINGS, "model.name=tfhub:/there", "model.arguments={}"]))
    export(copy, Wanted(), tmp_path / "b.kit.zip")
    assert "b.kit.zip does not hold tfhub:/there: it has to be where the file is opened, with --trust" in caplog.text


def test_what_a_format_cannot_hold_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match="--format kit holds the whole run"):
        export(run, Wanted("kit", folds=[0]))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(DataError, match="is there already"):
        export(run, Wanted("onnx"), tmp_path / "full")
    with pytest.raises(DataError, match="no fold trained yet"):
        export(Run(tmp_path / "nothing"), Wanted(), tmp_path / "x.kit.zip")


@pytest.mark.parametrize("name", ["savedmodel", "onnx", "litert"])
def test_boxes_trees_and_ensembles_are_refused_before_any_work(run, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kit.stages.export.Predictor.open", lambda *_: pytest.fail("models were loaded"))
    monkeypatch.setattr("kit.stages.export.devices.set_up", lambda *_: pytest.fail("Keras was set up"))

    def refused():
        assert main(["export", str(copy), "--format", name, "--out", str(tmp_path / "out")]) == 2
        assert not (tmp_path / "out").exists()
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    copy = shutil.copytree(run.directory, tmp_path / "run")
    (copy / "fold0" / "boosted.json").write_text("{}")
    assert "cannot hold the trees of the head gbdt: choose --format kit" in refused()
    boxes = BoxDecision(task="detection", labels=("x",), views="none", merge=BoxSettings(), rules={"x": RULE}, **WORTH)
    monkeypatch.setattr(Run, "decision", boxes)
    assert "cannot hold how boxes are merged and cut: choose --format kit" in refused()
    monkeypatch.setattr(Run, "is_ensemble", True)
    assert "is an ensemble and has no models of its own" in refused()


def test_half_precision_does_not_leave_with_a_model(run, tmp_path, keras):
    copy = Run(shutil.copytree(run.directory, tmp_path / "run"))
    copy.write_config(load_config("toy", [*SETTINGS, "runtime.precision=mixed_float16"]))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "write", lambda model, *_: seen.append(model) or 0.0)
        export(copy, Wanted("onnx"), tmp_path / "out")
    (model,) = seen
    assert {layer.compute_dtype for layer in model._flatten_layers()} <= {"float32", "uint8"}
    assert keras.config.dtype_policy().name == "float32"


def test_constants_of_layers_are_no_inputs_of_onnx(keras, tmp_path):
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6])(keras.ops.cast(image, "float32"))
    model = keras.Model(image, keras.ops.sigmoid(keras.ops.mean(x, axis=(1, 2)) / 50))
    assert formats.write(model, "onnx", tmp_path / "model.onnx") < 1e-5


def test_a_saved_model_holds_its_weights_once(keras, tmp_path):
    model = registry.build("pcam_cnn", shape=(32, 32, 3), outputs=1)
    assert formats.write(model, "savedmodel", tmp_path / "model") < 1e-6
    (values,) = (tmp_path / "model" / "variables").glob("variables.data-*")
    assert 0 <= values.stat().st_size - 4 * model.count_params() < 50_000


@pytest.mark.parametrize("factors", [None, {"a": 1.0, "b": 2.5}])
def test_the_example_decides_on_classes_as_kit_does(factors):
    classes = ClassFactors(factors=factors, balanced_accuracy_of_argmax=0.5, applied=factors is not None)
    decision = Decision(
        task="multiclass", labels=("a", "b"), views="none", calibration=Calibration(), thresholds={}, classes=classes
    )
    (lines,) = re.findall(r"weighed = .*\ndecided = [^#]*", example.source("onnx", decision, (8, 8, 3)))
    known = {"p": np.array([[0.6, 0.4]])}
    exec(lines, known)
    table = pd.DataFrame({"id": ["x"], "p_a": [0.6], "p_b": [0.4]})
    assert [label for label, yes in zip("ab", known["decided"], strict=True) if yes] == [
        with_decisions(decision, table)["decision"][0]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["savedmodel", "onnx", "litert"])
def test_a_run_trained_on_jax_is_written_by_tensorflow(_toy_folder, name, tmp_path):
    code = "import sys; from kit import pipeline; pipeline.run('toy', *sys.argv[1:4], sys.argv[4:], report=False)"
    paths = [str(path) for path in (_toy_folder, tmp_path / "run", tmp_path / "records")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", code, *paths, *SETTINGS], env=environment, check=True, capture_output=True)
    run = Run(tmp_path / "run")
    folder = export(run, Wanted(name), tmp_path / "out")
    load = formats.FORMATS[name].load
    records = open_records(tmp_path / "records")
    images = images_of(records, list(run.test()["id"].unique()))
    found = load(folder / f"model{formats.FORMATS[name].ending}")(np.stack(list(images.values())))[:, 0]
    on_jax = sent(run.decision, mean_test(run)).set_index("id").loc[list(images), "p_tumour"]
    assert np.abs(found - on_jax.to_numpy()).max() < 1e-4


def test_a_file_that_says_something_else_is_not_kept(run, tmp_path, monkeypatch):
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

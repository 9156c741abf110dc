"""A run with a metric, a model, a loss and a layer of one's own: from training to a file that someone else opens."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from kit import extensions, files, pipeline
from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.stages.publish import publish_files
from kit.stages.resume import config_of, refuse_other_settings
from tests.conftest import TINY
from tests.own import CODE

METRIC = '''
def share_right(y, p):
    """The share of labels that a cut at .5 gets right."""
    return float(((p > .5) == (y > .5)).mean())
'''
NAMES = {"metric": "share_right", "model.name": "small_cnn", "train.loss.name": "squares", "augment.layers": "Grain"}
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the file of code."""
    path = tmp_path_factory.mktemp("own")
    (path / "mine.py").write_text(CODE + METRIC)
    return path


@pytest.fixture(scope="module")
def settings(folder):
    return [
        *TINY,
        "train.epochs=1",
        "model.arguments={filters: [4]}",
        *(f"{key}={folder}/mine.py:{name}" for key, name in NAMES.items()),
    ]


@pytest.fixture(scope="module")
def run(keras, _toy_folder, folder, settings):
    """The finished run."""
    return pipeline.run("toy", _toy_folder, folder / "run", folder / "records", settings, report=False)


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """This process as one of somebody who has made none of it."""
    monkeypatch.setenv("KIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(extensions, "_TRUSTED", set())
    monkeypatch.setattr(extensions, "_MODULES", {})
    monkeypatch.setattr(extensions, "_SOURCES", {})


def test_it_is_scored_by_its_metric_and_holds_its_code(run, folder):
    config, oof = run.config, run.oof()
    assert {f"{name}" for name in config.code} == {f"mine.py@{config.metric[8:20]}:{name}" for name in NAMES.values()}
    truth = oof["id"].map(run.examples().set_index("id")["y_tumour"])
    right = (oof["p_tumour"] > 0.5) == (truth > 0.5)
    assert run.scores.metric == "share_right"
    assert run.scores.value == pytest.approx(np.mean(right))
    assert [path.name for path in run.code_path.iterdir()] == ["mine.py"]
    assert "val_share_right" in pd.read_csv(run.fold(0).history)


def test_it_is_continued_with_its_own_copy_and_an_edit_is_refused(run, folder, settings, tmp_path):
    (tmp_path / "mine.py").write_text(CODE + METRIC + "# edited\n")
    edited = [text.replace(str(folder), str(tmp_path)) for text in settings]
    refuse_other_settings(config_of(run, "toy", []), run)
    with pytest.raises(ConfigError, match=r"2 folds that would be trained again, .*: mine\.py has been edited"):
        refuse_other_settings(config_of(run, "toy", edited), run)
    for key, name in NAMES.items():  # each by itself
        one = [text for text in edited if text.endswith(f":{name}") and text.startswith(key)]
        with pytest.raises(ConfigError, match=r"mine\.py has been edited"):
            refuse_other_settings(config_of(run, "toy", one), run)


def test_someone_else_is_asked_before_it_is_executed(run, tmp_path, stranger, capsys):
    shutil.copytree(run.directory, tmp_path / "theirs")
    theirs, image = str(tmp_path / "theirs"), str(tmp_path / "image.png")
    cv2.imwrite(image, np.zeros((32, 32, 3), np.uint8))
    predict = ["predict", theirs, "--images", image]
    for command in (["score", theirs, "--set", "evaluate.threshold=youden"], predict):
        assert main(command) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"kit: {theirs}/code/mine.py holds code that was not made on this machine")
        assert "--trust" in said
    assert not extensions._MODULES
    assert main([*predict, "--trust"]) == 0
    assert "image.png" in capsys.readouterr().out


def test_someone_else_is_asked_before_a_kernel_has_it(run, tmp_path, stranger):
    """A kernel, here in a rehearsal or at Kaggle, executes it without a question."""
    out = tmp_path / "model"
    out.mkdir()
    with pytest.raises(ConfigError, match=r"code/mine\.py holds code that was not made on this machine"):
        publish_files(run, out)
    assert not [*out.iterdir()] and not extensions._MODULES
    names = [path.name for path in publish_files(Run(run.directory, trust=True), out)]
    assert names == ["run0.kit", "inference.json"]


def test_a_blend_is_trusted_with_its_runs(run, tmp_path, stranger):
    blend = Run(tmp_path / "blend")
    report = {"metric": "roc_auc", "runs": [str(run)], "blends": {}, "correlation": {}, "chosen": "mean"}
    report |= {"reason": "", "weights": {run.name: 1.0}, "metadata": []}
    files.write_json(blend.ensemble_path, report)
    with pytest.raises(ConfigError, match="was not made on this machine"):
        extensions.require_trusted(run.config.code)
    blend.trust_code()
    extensions.require_trusted(run.config.code)


def test_one_file_holds_its_code_too(run, tmp_path, stranger):
    from kit.stages.export import Wanted, export

    path = export(run, Wanted(), tmp_path / "own.kit.zip")
    extensions._SOURCES.clear()  # as a process that has not seen the run
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"own\.kit\.zip/code/mine\.py holds code that was not made on this machine"):
        Predictor.open(path)
    table = Predictor.open(path, trust=True).predict(images)
    pd.testing.assert_frame_equal(table, Predictor.open(run).predict(images))


def test_maps_and_reports_of_it(run, capsys):
    assert main(["explain", str(run), "--worst", "1", "--checks", "0"]) == 0
    assert main(["report", str(run)]) == 0
    assert run.explanations.read() and "share_right" in run.report_path.read_text()


def test_a_metric_that_needs_more_labels_is_refused_before_training(folder, _toy_folder, tmp_path):
    (tmp_path / "m.py").write_text("def second(y, p):\n    return float(y[:, 1].mean())\n")
    own = [*TINY, f"metric={tmp_path}/m.py:second"]
    with pytest.raises(ConfigError, match=r"m\.py, line 2: IndexError: index 1 is out of bounds"):
        pipeline.run("toy", _toy_folder, tmp_path / "run", folder / "records", own)
    assert not Run(tmp_path / "run").exists()
    assert load_config("toy", own).metric.startswith("m.py@")

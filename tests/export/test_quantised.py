"""Models in 8-bit integers: what stays float32, and what they cost, by hand."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kit import pipeline
from kit.errors import ConfigError
from kit.evaluate.sent import sent
from kit.run import Run
from kit.stages.export import Wanted, export
from tests.conftest import TINY

pytestmark = pytest.mark.once


def test_what_follows_the_last_but_one_layer_with_weights():
    from kit.export.quantised import last_operations

    #       0: image -> 1 (CONV) -> 2 (CONV) -> 3 (MEAN) -> 4 (FULLY_CONNECTED) -> 5 (LOGISTIC)
    # of two networks, the other from 10 on, whose mean is 20; 2 also goes to a pooling of its own: 6, beside 3
    one = [("CONV_2D", [0], [1]), ("CONV_2D", [1], [2]), ("MEAN", [2], [3]), ("MEAN", [1], [6])]
    head = [("CONCATENATION", [3, 6], [7]), ("FULLY_CONNECTED", [7], [4]), ("LOGISTIC", [4], [5])]
    other = [("CONV_2D", [0], [11]), ("RELU", [11], [12]), ("FULLY_CONNECTED", [12], [15])]
    operations = [*one, *head, *other, ("ADD", [5, 15], [20])]
    found = {operations[n][2][0] for n in last_operations(operations)}
    assert found == {3, 6, 7, 4, 5, 12, 15, 20}


@pytest.fixture(scope="module")
def run(keras, _toy_folder, tmp_path_factory):
    """A finished run."""
    root = tmp_path_factory.mktemp("int8")
    settings = [*TINY, "train.epochs=1", "predict.tta=mirror", "evaluate.calibration=platt"]
    return pipeline.run("toy", _toy_folder, root / "run", root / "records", settings)


@pytest.mark.slow
def test_its_loss_is_measured_on_images_that_a_fold_has_not_seen(run, tmp_path):
    from kit.data.records.images import images_of
    from kit.data.records.manifest import open_records
    from kit.export.formats import run_litert
    from kit.export.quantised import write
    from kit.export.whole import whole
    from kit.predict.predictor import Predictor
    from kit.stages.quantised import images_of_ranges

    store = run.directory.parent / "records"
    folder = export(run, Wanted("litert", int8=True, records=store), tmp_path / "out")
    cost = json.loads((folder / "int8.json").read_text())
    records, oof, examples = open_records(store), run.oof(), run.examples().set_index("id")
    p = {}
    for k, model in enumerate(Predictor.open(run).models):
        path = tmp_path / f"{k}.tflite"
        write(whole([model], run.decision), images_of_ranges(run, records, without=k), path)
        ids = list(oof["id"][oof["fold"] == k])
        images = images_of(records, ids)
        p |= dict(zip(ids, run_litert(path)(np.stack([images[name] for name in ids]))[:, 0], strict=True))
    truth = examples.loc[list(p), "y_tumour"].to_numpy()
    before = sent(run.decision, oof).set_index("id").loc[list(p), "p_tumour"].to_numpy()
    after = np.array(list(p.values()))
    assert cost["images"] == len(oof) and cost["metric"] == "roc_auc"
    assert cost["float32"] == pytest.approx(roc_auc_score(truth, before))
    assert cost["int8"] == pytest.approx(roc_auc_score(truth, after))
    assert cost["difference"] == pytest.approx(cost["int8"] - cost["float32"])
    assert cost["low"] <= cost["difference"] <= cost["high"]
    assert cost["largest_change"] == pytest.approx(np.abs(after - before).max(), abs=1e-6) and cost["mean_change"] > 0
    assert len(np.unique(after)) > len(after) * 0.9  # the last layers are float32
    readme = (folder / "README.md").read_text()
    assert f"{cost['difference']:+.4f}" in readme and "8-bit integers" in readme


@pytest.mark.slow
def test_the_file_is_smaller_says_nearly_the_same_and_runs_by_its_example(run, tmp_path):
    from kit.export.formats import run_litert

    store = run.directory.parent / "records"
    wanted = Wanted("litert", folds=[0], int8=True, records=store, images=20)
    small, full = export(run, wanted, tmp_path / "a"), export(run, Wanted("litert", folds=[0]), tmp_path / "b")
    assert json.loads((small / "int8.json").read_text())["images"] == 20
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    p, q = (run_litert(folder / "model.tflite")(images) for folder in (full, small))
    assert 0 < np.abs(p - q).max() < 0.1
    cv2.imwrite(str(tmp_path / "x.png"), images[0])
    command = [sys.executable, str(small / "example.py"), str(tmp_path / "x.png")]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    expected = run_litert(small / "model.tflite")(cv2.cvtColor(cv2.imread(command[2]), cv2.COLOR_BGR2RGB)[None])
    assert float(said.split("\t")[1]) == pytest.approx(expected[0, 0], abs=1e-5)


def test_what_int8_cannot_be(run, tmp_path):
    with pytest.raises(ConfigError, match="--int8 is of --format litert"):
        export(run, Wanted("onnx", int8=True), tmp_path / "out")
    with pytest.raises(ConfigError, match="leave it or --int8 out"):
        export(run, Wanted("litert", int8=True, any_size=True), tmp_path / "out")
    assert not (tmp_path / "out").exists() and isinstance(run, Run)

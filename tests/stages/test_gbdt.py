"""A run whose head is corrected by boosted trees: from a table with metadata to predictions."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kit import files, pipeline
from kit.config import load_config
from kit.data.records.manifest import open_records
from kit.errors import ConfigError, DataError
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.stages.fold import folds_of
from kit.tables import with_truth

PATIENTS, EACH = 30, 10
SETTINGS = {
    "table": "table.csv",
    "columns.id": "image",
    "columns.label": "tumour",
    "columns.group": "patient",
    "columns.split": "split",
    "columns.metadata": ["size", "sex"],
    "image.size": 32,
    "folds": 2,
    "model.name": "features",
    "model.weights": "none",
    "model.backbone": "pcam_cnn",
    "model.head": "gbdt",
    "model.metadata": ["size", "sex"],
    "evaluate.resamples": 100,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of noise; the largest of a patient's lesions are the tumours, whatever their size in others."""
    root = tmp_path_factory.mktemp("moles")
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(PATIENTS), EACH)
    size = (rng.permuted(np.tile(np.arange(EACH), (PATIENTS, 1)), axis=1) + 20 * rng.random((PATIENTS, 1))).ravel()
    rank = pd.Series(size).groupby(patient).rank()
    table = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(size))],
            "patient": patient,
            "tumour": ((rank > EACH - 3) ^ (rng.random(len(rank)) < 0.02)).astype(int),
            "size": size.round(3),
            "sex": rng.choice(["f", "m", ""], len(size)),
            "split": np.where(patient < PATIENTS - 6, "train", "test"),
        }
    )
    table.to_csv(root / "table.csv", index=False)
    for name in table["image"]:
        cv2.imwrite(str(root / name), rng.integers(0, 255, (16, 16, 3), np.uint8))
    return root


def settings(**changes):
    return [f"{key}={json.dumps(value)}" for key, value in {**SETTINGS, **changes}.items()]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    return pipeline.run("csv", folder, out / "first", out / "records", settings())


def auc(predictions: pd.DataFrame, run: Run) -> float:
    table = with_truth(predictions, run.examples(), ["tumour"])
    return roc_auc_score(table["y_tumour"].to_numpy(), table["p_tumour"].to_numpy())


def test_what_is_large_for_its_patient_is_found(run, folder):
    examples = run.examples()
    assert {"size", "sex"} <= {*examples.columns}
    assert auc(run.oof(), run) > 0.9
    raw = pd.read_csv(folder / "table.csv").set_index("image")
    test = files.read_parquet(run.test_path)
    assert roc_auc_score(raw["tumour"].loc[test["id"]].to_numpy(), test["p_tumour"].to_numpy()) > 0.9


def test_the_run_says_that_new_images_have_no_metadata(run):
    with pytest.raises(ConfigError, match=r"needs the group, size, sex of each image, which new images do not have"):
        Predictor.open(run)


def test_views_need_images_alone(run):
    records = open_records(next(run.directory.parent.glob("records*")))
    before = run.config
    with pytest.raises(ConfigError, match=r"without views \(predict.tta=none\)"):
        pipeline.predict(run, records, views="flips")
    run.write_config(before)


def test_trees_that_are_lost_or_damaged_are_noticed(run, tmp_path):
    trees = run.fold(0).folder / "boosted.json"
    text = trees.read_text(encoding="utf-8")
    try:
        trees.unlink()
        with pytest.raises(DataError, match=r"boosted\.json"):
            Predictor.open(run)
        trees.write_text(text.replace('"left"', '"lift"'), encoding="utf-8")
        with pytest.raises(DataError, match=r"boosted\.json"):
            Predictor.open(run)
    finally:
        trees.write_text(text, encoding="utf-8")


def test_other_values_of_the_metadata_train_it_again(run):
    records = open_records(next(run.directory.parent.glob("records*")))
    fold = folds_of(run, run.config, records)[0]
    assert fold.is_trained()
    records.table.loc[records.table["split"] == "test", "size"] += 1
    assert fold.is_trained()
    records.table.loc[records.table["split"] == "train", "size"] += 1
    assert not fold.is_trained()


def test_columns_that_cannot_be_taken_are_told_before_images_are_read(folder, tmp_path):
    for changes, message in (
        ({"model.metadata": ["siez"]}, "'siez' is no column of the example table; did you mean 'size'"),
        ({"model.metadata": "tumour"}, "'tumour' is no metadata"),
        ({"columns.metadata": ["tumour"]}, "'tumour' is the id, a label, the split or the group"),
        ({"model.head": "linear"}, "metadata is of the head gbdt"),
    ):
        with pytest.raises(ConfigError, match=message):
            pipeline.run("csv", folder, tmp_path / "run", tmp_path / "records", settings(**changes))
        assert not (tmp_path / "records").exists()


def test_lightgbm_is_asked_for_first(monkeypatch, folder, tmp_path):
    monkeypatch.setattr("kit.stages.check.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install lightgbm"):
        pipeline.run("csv", folder, tmp_path / "run", tmp_path / "records", settings())


def test_short_names_are_settings_of_the_model():
    config = load_config("csv", settings())
    assert config.model.arguments["metadata"] == ["size", "sex"]

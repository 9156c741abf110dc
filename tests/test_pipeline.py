"""The stages together, on the made-up competition: each in this process, then whole runs as a user starts them."""

import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kit import files, pipeline
from kit.cli import main
from kit.competitions import toy
from kit.config import load_config, read_config
from kit.data.records import build
from kit.data.records.manifest import open_records
from kit.data.table.listing import list_images
from kit.errors import ConfigError, DataError, LeakError
from kit.evaluate import metrics
from kit.evaluate.metrics import roc_auc
from kit.run import FoldFiles, Run
from kit.stages import predict as predicting
from kit.stages import score as scoring
from kit.stages import train as training
from kit.stages.fold import Fold, refuse_leaking_weights
from tests.conftest import TINY

SETTINGS = [argument for setting in TINY for argument in ("--set", setting)]
TRAIN, TEST = 360, 60  # images
FIGURES = ("roc", "precision_recall", "confusion", "thresholds", "reliability", "histogram", "training")
RUN_FILES = {
    "config.yaml",
    "environment.json",
    "examples.parquet",
    "folds.json",
    "oof.parquet",
    "test.parquet",
    "scores.json",
    "decision.json",
    "submission.csv",
    "predicted.json",
    "scored.json",
    "report.html",
    "reported.json",
    "labels_to_check.csv",
    *(f"figures/{name}.png" for name in FIGURES),
    *(
        f"fold{k}/{name}"
        for k in range(2)
        for name in (
            "model.json",
            "model.weights.h5",
            "history.csv",
            "oof.parquet",
            "test.parquet",
            "done.json",
            "predicted_oof.json",
            "predicted_test.json",
        )
    ),
}


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(keras, tmp_path_factory):
    """A finished tiny run (its folder), made in this process on the backend of this process."""
    run = tmp_path_factory.mktemp("runs") / "toy"
    toy.make(run.parent / "data", train=TRAIN, test=TEST)  # where a run looks for it; fewer than it would make itself
    pipeline.run("toy", run=run, settings=TINY)
    return run


@pytest.fixture
def beside_data(finished, tmp_path):
    """The folder of a run that has not begun, beside the same raw files."""
    shutil.copytree(finished.parent / "data", tmp_path / "data")
    return tmp_path / "toy"


def test_a_run_leaves_the_files_of_the_contract(finished):
    assert all_files(finished) == RUN_FILES
    records = next((finished.parent / "records").iterdir())
    assert (records / "manifest.json").exists()
    assert list(pd.read_csv(finished / "fold0" / "history.csv").columns) == [
        "epoch",
        "phase",
        "loss",
        "val_loss",
        "val_roc_auc",
        "learning_rate",
        "seconds",
    ]
    assert json.loads((finished / "environment.json").read_text())["device"]["backend"] == os.environ["KERAS_BACKEND"]


def test_every_training_image_is_predicted_by_the_fold_that_did_not_see_it(finished):
    oof = pd.read_parquet(finished / "oof.parquet")
    examples = pd.read_parquet(finished / "examples.parquet")
    train = examples[examples["split"] == "train"].set_index("id")
    assert list(oof) == ["id", "fold", "p_tumour"]
    assert sorted(oof["id"]) == sorted(train.index)
    folds = json.loads((finished / "folds.json").read_text())["folds"]
    assert all(train["cell"][name] in folds[fold] for name, fold in zip(oof["id"], oof["fold"], strict=True))


def test_scores_and_submission_come_from_the_predictions(finished):
    oof, examples = Run(finished).oof(), Run(finished).examples()
    scores = json.loads((finished / "scores.json").read_text())
    y = examples.set_index("id").loc[oof["id"], ["y_tumour"]].to_numpy()
    assert scores["value"] == pytest.approx(roc_auc(y, oof[["p_tumour"]].to_numpy()))
    assert scores["interval"]["low"] <= scores["value"] <= scores["interval"]["high"]
    submission = pd.read_csv(finished / "submission.csv").set_index("id")["label"]
    mean = pd.read_parquet(finished / "test.parquet").groupby("id")["p_tumour"].mean()
    assert np.allclose(submission, mean[submission.index])
    assert submission.nunique() > 2


def test_the_saved_fold_model_gives_the_stored_predictions(finished):
    from kit.data.records.batches import eval_batches
    from kit.models.saved import load_model

    records = open_records(next((finished.parent / "records").iterdir()))
    model = load_model(finished / "fold1")
    p = np.concatenate([model.predict_on_batch(b.images)[b.mask] for b in eval_batches(records, None, 64)])
    stored = pd.read_parquet(finished / "fold1" / "test.parquet")
    assert np.allclose(stored["p_tumour"], p[:, 0], atol=1e-6)


def test_a_second_run_does_no_work(finished, monkeypatch):
    monkeypatch.setitem(training.FITS, "network", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(predicting, "predict_batches", lambda *_, **__: pytest.fail("predicted again"))
    monkeypatch.setattr(scoring.scoring, "score", lambda *_: pytest.fail("scored again"))
    before = {name: (finished / name).read_bytes() for name in all_files(finished)}
    pipeline.run("toy", run=finished, settings=TINY)
    assert {name: (finished / name).read_bytes() for name in all_files(finished)} == before


@pytest.mark.parametrize(
    ("setting", "trains", "predicts", "scores"),
    [
        ("evaluate.resamples=150", 0, 0, 1),
        ("predict.tta=flips", 0, 2, 1),
        pytest.param("train.learning_rate=0.01", 2, 2, 1, marks=pytest.mark.slow),
        pytest.param("seed=1", 2, 2, 1, marks=pytest.mark.slow),
        pytest.param("image.size=24", 2, 2, 1, marks=pytest.mark.slow),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it(
    finished, monkeypatch, tmp_path, setting, trains, predicts, scores
):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run, work = tmp_path / "runs" / "toy", count_work(monkeypatch)
    pipeline.run("toy", run=run, settings=[setting], retrain=bool(trains))
    assert work == {"train": trains, "predict oof": predicts, "predict test": predicts, "score": scores}
    assert all_files(run) == RUN_FILES


def count_work(monkeypatch) -> dict[str, int]:
    """How often folds are trained and predicted, and runs scored, from now on."""
    work = {"train": 0, "predict oof": 0, "predict test": 0, "score": 0}

    def counted(module, name, key):
        real = getattr(module, name)

        def call(*arguments):
            work[key(*arguments)] += 1
            return real(*arguments)

        monkeypatch.setattr(module, name, call)

    counted(training, "_fit", lambda *_: "train")
    monkeypatch.setitem(training.FITS, "network", training._fit)
    counted(predicting, "eval_batches", lambda _records, cells, _size: f"predict {'oof' if cells else 'test'}")
    counted(scoring.scoring, "score", lambda *_: "score")
    return work


@pytest.mark.parametrize("change", [pytest.param("fewer", marks=pytest.mark.slow), "more", "none"])
def test_another_test_set_trains_no_fold_again(finished, monkeypatch, tmp_path, capsys, change):
    shutil.copytree(finished.parent, tmp_path / "runs")
    data, run = tmp_path / "runs" / "data", tmp_path / "runs" / "toy"
    test, sample = sorted((data / "test").iterdir()), pd.read_csv(data / "sample_submission.csv")
    if change == "fewer":
        for path in test[:20]:
            path.unlink()
        sample = sample[~sample["id"].isin([path.stem for path in test[:20]])]
    elif change == "more":
        for n, path in enumerate(test[:5]):
            shutil.copy(path, data / "test" / f"new{n}.tif")
        sample = pd.concat([sample, pd.DataFrame({"id": [f"new{n}" for n in range(5)], "label": 0})])
    else:
        for path in test:
            path.unlink()
        sample = sample[:0]
        monkeypatch.setattr("kit.competitions.pcam.require_images", list_images)  # which insists on one
    sample.to_csv(data / "sample_submission.csv", index=False)
    weights = {path: path.read_bytes() for path in run.rglob("model.weights.h5")}
    oof = (run / "oof.parquet").read_bytes()

    work = count_work(monkeypatch)
    decoded = []
    real = build.build_shard
    monkeypatch.setattr(build, "build_shard", lambda shard, *more: decoded.append(shard.file) or real(shard, *more))
    pipeline.run("toy", run=run, settings=TINY)
    assert work == {"train": 0, "predict oof": 0, "predict test": 2, "score": 1}
    assert all(name.startswith("test-") for name in decoded)  # nor is a training image decoded again
    assert "training it again" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("model.weights.h5")} == weights
    assert (run / "oof.parquet").read_bytes() == oof
    assert set(pd.read_parquet(run / "test.parquet")["id"]) == set(sample["id"])
    if change != "none":
        assert list(pd.read_csv(run / "submission.csv")["id"]) == list(sample["id"])
    # The commands one by one see it the same way.
    records = open_records(
        next(p for p in (run.parent / "records").iterdir() if p.stat().st_mtime > 0 and has(p, sample))
    )
    pipeline.predict(Run(run), records)
    assert work["train"] == 0


def has(records: Path, sample: pd.DataFrame) -> bool:
    """Whether a records directory holds just these test images."""
    table = pd.read_parquet(records / "examples.parquet")
    return set(table["id"][table["split"] == "test"]) == set(sample["id"])


def test_a_run_of_another_version_is_refused_and_left_alone(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "toy"
    folds = json.loads((run / "folds.json").read_text())
    for content in ({**folds, "format_version": 2}, {key: folds[key] for key in ("task", "cells", "folds")}):
        (run / "folds.json").write_text(json.dumps(content))
        before = {name: (run / name).read_bytes() for name in all_files(run)}
        with pytest.raises(DataError, match="was made by another version of kit: train it again in another --run"):
            pipeline.run("toy", run=run, settings=TINY)
        with pytest.raises(DataError, match="was made by another version of kit"):
            scoring.score(Run(run))
        assert {name: (run / name).read_bytes() for name in all_files(run)} == before


@pytest.mark.slow
def test_a_second_round_learns_pseudo_labels_fold_by_fold(finished, tmp_path, capsys):
    records = open_records(next((finished.parent / "records").iterdir()))
    run = tmp_path / "second"
    asked = [*TINY, f"pseudo.run={finished}", "pseudo.above=0.51", "pseudo.below=0.49"]
    pipeline.train(load_config("toy", asked), records, Run(run))
    said = capsys.readouterr().out
    for k in range(2):
        p = pd.read_parquet(finished / f"fold{k}" / "test.parquet")["p_tumour"]
        sure = int(((p >= 0.51) | (p <= 0.49)).sum())
        assert sure and f"fold {k + 1}/2  {sure} of {TEST} test images join with pseudo-labels" in said
    pipeline.predict(Run(run), records)
    assert sorted(pd.read_parquet(run / "oof.parquet")["id"]) == sorted(records.rows(list(range(records.cells)))["id"])
    weights = [(folder / "fold0" / "model.weights.h5").read_bytes() for folder in (run, finished)]
    assert weights[0] != weights[1]
    asked[-3] = f"pseudo.run={tmp_path / 'moved'}"  # a trained fold does not need the first run any more
    (tmp_path / "moved").symlink_to(finished)
    pipeline.train(load_config("toy", asked), records, Run(run))
    (tmp_path / "moved").unlink()
    capsys.readouterr()
    pipeline.train(load_config("toy", asked), records, Run(run))
    assert "epoch" not in capsys.readouterr().out
    pipeline.predict(Run(run), records)
    asked[-3] = f"pseudo.run={finished}"
    with pytest.raises(ConfigError, match="has other folds or records"):
        pipeline.train(load_config("toy", [*asked, "fold_seed=7"]), records, Run(tmp_path / "third"))
    with pytest.raises(ConfigError, match="`kit run` or `kit predict` writes it"):
        pipeline.train(load_config("toy", [*TINY, f"pseudo.run={tmp_path}"]), records, Run(tmp_path / "fourth"))


def test_runs_of_another_seed_can_keep_the_folds(finished, tmp_path):
    records = open_records(next((finished.parent / "records").iterdir()))
    folds = [
        [fold.valid for fold in pipeline.start_run(load_config("toy", [*TINY, *more]), records, Run(tmp_path / f"{n}"))]
        for n, more in enumerate(([], ["seed=3", "fold_seed=0"], ["seed=3"]))
    ]
    assert folds[0] == folds[1] != folds[2]


@pytest.mark.slow
def test_a_fold_in_which_a_class_does_not_occur_comes_to_its_end(finished, tmp_path, monkeypatch, capsys):
    records = open_records(next((finished.parent / "records").iterdir()))
    monkeypatch.setitem(metrics.METRICS, "roc_auc", metrics.Metric("roc_auc", lambda y, p: float("nan")))
    run = tmp_path / "run"
    assert pipeline.train(load_config("toy", TINY), records, Run(run), only=[0])
    said = capsys.readouterr().out
    assert "fold 1/2  roc_auc is not defined on this fold (a class does not occur in it): epoch 1 is kept" in said
    pipeline.predict(Run(run), records)
    assert pd.read_csv(run / "fold0" / "history.csv")["val_roc_auc"].isna().all()


def test_a_forgotten_setting_changes_nothing(finished, monkeypatch, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run, work = tmp_path / "runs" / "toy", count_work(monkeypatch)
    before = {name: (run / name).read_bytes() for name in all_files(run)}
    assert pipeline.run("toy", run=run).is_complete  # though kit's own config says otherwise
    assert {name: (run / name).read_bytes() for name in all_files(run)} == before
    assert main(["run", "toy", "--run", str(run), "--set", "evaluate.threshold=youden"]) == 0
    assert Run(run).decision.thresholds["tumour"].rule == "youden"
    assert work == {"train": 0, "predict oof": 0, "predict test": 0, "score": 1}
    assert Run(run).config == read_config(finished / "config.yaml").model_copy(
        update={"evaluate": Run(run).config.evaluate}
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["train.epochs=3"], r"2 folds .* train.epochs: 2 → 3\. To keep"),
        (["model.arguments.units=4", "seed=7"], "seed: 0 → 7; fold_seed: 0 → 7; model.arguments.units: 8 → 4"),
        (["image.size=24"], "image.size: 32 → 24"),
        (["folds=3"], "folds: 2 → 3"),
    ],
)
def test_what_would_train_a_finished_run_again_is_refused(finished, tmp_path, capsys, settings, says):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "toy"
    before = {name: (run / name).read_bytes() for name in all_files(run)}
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    records = next((tmp_path / "runs" / "records").iterdir())
    commands = [["run", "toy"], ["train", "toy", "--records", str(records)]]
    for command in commands[: 1 if "image" in settings[0] else 2]:  # records that are there decide on the images
        assert main([*command, "--run", str(run), *arguments]) == 2
        assert re.search(says, capsys.readouterr().err)
    assert {name: (run / name).read_bytes() for name in all_files(run)} == before


def test_the_values_in_a_file_are_laid_over_the_settings_of_the_run(finished, tmp_path, capsys):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run, recipe = tmp_path / "runs" / "toy", tmp_path / "toy.yaml"
    recipe.write_text("competition: toy\nevaluate: {threshold: mcc}\n")
    assert main(["run", str(recipe), "--run", str(run)]) == 0
    config = Run(run).config
    assert (config.evaluate.threshold, config.evaluate.resamples, config.train.epochs) == ("mcc", 100, 2)
    assert config.recipe == str(recipe)
    other = tmp_path / "other.yaml"
    other.write_text("competition: toy\n")
    capsys.readouterr()
    assert main(["run", str(other), "--run", str(run)]) == 2
    assert f"{run} was started from {recipe}, not from {other}: give another --run" in capsys.readouterr().err


def test_other_training_images_are_refused_in_words_of_their_own(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    data, run = tmp_path / "runs" / "data", tmp_path / "runs" / "toy"
    labels = pd.read_csv(data / "train_labels.csv")
    (data / "train" / f"{labels['id'][0]}.tif").unlink()
    labels[1:].to_csv(data / "train_labels.csv", index=False)
    before = {name: (run / name).read_bytes() for name in all_files(run)}
    with pytest.raises(ConfigError, match="as these differ: the training examples"):
        pipeline.run("toy", run=run)
    assert {name: (run / name).read_bytes() for name in all_files(run)} == before


def test_what_a_fold_was_trained_with_is_known_without_the_config(finished, tmp_path):
    records = open_records(next((finished.parent / "records").iterdir()))
    run = Run(shutil.copytree(finished, tmp_path / "toy"))
    run.config_path.unlink()
    with pytest.raises(ConfigError, match=r"these differ: train.batch_size: 16 → 8\."):
        pipeline.train(load_config("toy", [*TINY, "train.batch_size=8"]), records, run)
    assert not run.exists()
    assert pipeline.train(load_config("toy", TINY), records, run)  # with its settings it is whole again
    assert run.config == Run(finished).config


def test_an_epoch_that_was_trained_is_not_thrown_away_either(finished, tmp_path, capsys):
    records = open_records(next((finished.parent / "records").iterdir()))
    run = Run(shutil.copytree(finished, tmp_path / "run"))
    stamp = files.read_stamp(run.fold(0).done)
    files.write_json(run.fold(0).state.inputs, stamp.inputs)
    files.write_json(run.fold(0).state.state, {"history": [{"loss": 1.0}]})
    run.fold(0).done.unlink()
    shutil.rmtree(run.fold(1).folder)
    with pytest.raises(ConfigError, match=r"1 fold that would be trained again, as .* train.clip_norm: null → 1"):
        pipeline.train(load_config("toy", [*TINY, "train.clip_norm=1"]), records, run)
    run.fold(0).state.inputs.unlink()
    with pytest.raises(DataError, match=r"fold0/state/inputs.json does not exist: restore it, or delete"):
        pipeline.train(load_config("toy", TINY), records, run)
    files.write_json(run.fold(0).state.inputs, stamp.inputs)
    for content in ("null", '{"history": 3}', '{"history": [{"loss": 1.0}], "weights": ["x.h5"]', ""):
        run.fold(0).state.state.write_text(content)
        with pytest.raises(DataError, match=r"state\.json is damaged .*: restore it, or delete .*fold0/state to train"):
            pipeline.train(load_config("toy", TINY), records, run)
    history = [{"phase": 0, "loss": 1.0, "val_loss": 1.0, "val_roc_auc": 0.5, "learning_rate": 0.1}]
    for name in ("../model.weights.h5", "absent.weights.h5"):
        values = {"history": history, "best": name, "weights": [name], "phases": 0}
        files.write_json(run.fold(0).state.state, values)
        with pytest.raises(DataError, match=r"does not lie in it|absent.weights.h5 is damaged"):
            pipeline.train(load_config("toy", TINY), records, run)


def test_it_is_said_when_other_settings_throw_a_fold_away(finished, tmp_path, capsys):
    records = open_records(next((finished.parent / "records").iterdir()))
    shutil.copytree(finished, tmp_path / "run")
    pipeline.train(load_config("toy", TINY), records, Run(tmp_path / "run"), only=[0])
    assert "training it again" not in capsys.readouterr().out
    changed = load_config("toy", [*TINY, "train.clip_norm=1"])
    pipeline.train(changed, records, Run(tmp_path / "run"), only=[0], retrain=True)
    assert "fold 1/2  was trained with other settings: training it again" in capsys.readouterr().out


def test_fewer_folds_leave_no_old_ones(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "toy"
    (run / "fold2").mkdir()
    (run / "fold1 (copy)").mkdir()
    pipeline.run("toy", run=run, settings=TINY)
    (run / "fold1 (copy)").rmdir()
    assert all_files(run) == RUN_FILES
    assert not (run / "fold2").exists()


@pytest.mark.slow
def test_a_fold_of_other_settings_is_not_mixed_in(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    records, run = open_records(next((tmp_path / "runs" / "records").iterdir())), tmp_path / "runs" / "toy"
    config = load_config("toy", [*TINY, "train.learning_rate=0.01"])
    pipeline.train(config, records, Run(run), only=[0], retrain=True)
    pipeline.predict(Run(run), records)
    assert set(pd.read_parquet(run / "oof.parquet")["fold"]) == {0}
    assert set(pd.read_parquet(run / "test.parquet")["fold"]) == {0}
    assert pipeline.score(Run(run))[0].fold_sd is None
    with pytest.raises(ConfigError, match="1 fold that would be trained again, as these differ"):
        pipeline.train(config, records, Run(run))
    pipeline.train(config, records, Run(run), retrain=True)
    pipeline.predict(Run(run), records)
    assert set(pd.read_parquet(run / "oof.parquet")["fold"]) == {0, 1}
    pipeline.start_run(config.model_copy(update={"seed": 5}), records, Run(run), retrain=True)
    with pytest.raises(DataError, match="has no fold trained yet"):
        pipeline.predict(Run(run), records)


def test_records_of_another_competition(finished, tmp_path):
    records = open_records(next((finished.parent / "records").iterdir()))
    with pytest.raises(DataError, match="holds records of 'toy', not of 'pcam'"):
        pipeline.train(load_config("pcam"), records, Run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_competition_is_not_overwritten(finished, toy_root):
    before = {name: (finished.parent / name).read_bytes() for name in all_files(finished.parent)}
    with pytest.raises(DataError, match="is a run of 'toy', not of 'pcam'"):
        pipeline.run("pcam", data=toy_root, run=finished, settings=TINY)
    # nor are records built first, which may take hours
    assert {name: (finished.parent / name).read_bytes() for name in all_files(finished.parent)} == before


@pytest.mark.slow
def test_the_stages_one_by_one_end_with_the_same_files(finished, tmp_path, capsys):
    data, records, run = finished.parent / "data", tmp_path / "records", tmp_path / "run"
    image = next(setting for setting in SETTINGS if setting.startswith("image.size"))
    assert main(["examples", "toy", "--data", str(data), "--out", str(tmp_path / "e.parquet")]) == 0
    assert len(pd.read_parquet(tmp_path / "e.parquet")) == TRAIN + TEST
    assert main(["records", "build", "toy", "--data", str(data), "--out", str(records), "--set", image]) == 0
    assert main(["records", "verify", str(records)]) == 0
    assert main(["records", "info", str(records)]) == 0
    assert f"{TRAIN + TEST} examples, as they were written" in (printed := capsys.readouterr().out)
    assert "toy: 32x32 rgb, auto\n" in printed
    for k in "01":
        command = ["train", "toy", "--records", str(records), "--run", str(run)]
        assert main([*command, *SETTINGS, "--folds", k]) == 0
    assert main(["predict", str(run), "--records", str(records)]) == 0
    assert main(["score", str(run), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed[printed.index("{") :])["scores"]["rows"] == TRAIN
    sample = str(data / "sample_submission.csv")
    assert main(["submission", "write", str(run), "--sample", sample, "--out", str(run / "submission.csv")]) == 0
    assert main(["submission", "check", "toy", str(run / "submission.csv"), "--sample", sample]) == 0
    assert main(["report", str(run), "--records", str(records)]) == 0
    assert_same_results(finished, run)


def assert_same_results(one: Path, other: Path) -> None:
    """Every file has the same bytes, but for HDF5 (its weights are equal), the machine's, and what names the run."""
    import h5py

    assert all_files(one) == all_files(other)
    machine = (".h5", "done.json", "predicted.json", "predicted_oof.json", "predicted_test.json", "environment.json")
    machine += ("report.html", "reported.json", "history.csv")
    exact = [name for name in RUN_FILES if not name.endswith(machine)]
    assert filecmp.cmpfiles(one, other, exact, shallow=False)[1:] == ([], [])
    for name in (name for name in RUN_FILES if name.endswith("history.csv")):
        pd.testing.assert_frame_equal(*(pd.read_csv(run / name).drop(columns="seconds") for run in (one, other)))
    for name in (name for name in RUN_FILES if name.endswith(".h5")):
        arrays: list[dict[str, np.ndarray]] = [{}, {}]
        for path, into in zip((one / name, other / name), arrays, strict=True):
            with h5py.File(path) as file:
                file.visititems(
                    lambda key, item, into=into: into.update({key: item[()]} if hasattr(item, "shape") else {})
                )
        assert arrays[0].keys() == arrays[1].keys()
        assert all(np.array_equal(arrays[0][key], arrays[1][key]) for key in arrays[0])


def kit_command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kit", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_ends_with_the_same_files(finished, beside_data, tmp_path):
    rng, kills = random.Random(4), 0
    while True:
        process = kit_command("run", "toy", "--run", str(beside_data), *SETTINGS)
        try:
            process.communicate(timeout=rng.uniform(3, 8) if kills < 3 else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        break
    assert kills >= 2, "the run was too fast to be killed: kill earlier"
    assert_same_results(finished, tmp_path / "toy")
    records = [next((folder / "records").iterdir()) for folder in (finished.parent, tmp_path)]
    assert filecmp.cmpfiles(*records, sorted(all_files(records[0])), shallow=False)[1:] == ([], [])
    assert all_files(records[0]) == all_files(records[1])


@pytest.mark.slow
def test_the_other_backend_gives_the_same_stages(finished, beside_data, tmp_path):
    other = "jax" if os.environ["KERAS_BACKEND"] == "tensorflow" else "tensorflow"
    process = kit_command("run", "toy", "--run", str(beside_data), *SETTINGS, KERAS_BACKEND=other)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "out-of-fold roc_auc" in out
    assert all_files(tmp_path / "toy") == RUN_FILES
    assert json.loads((tmp_path / "toy" / "environment.json").read_text())["device"]["backend"] == other
    # the same data and folds, whatever trains on them
    for name in ("folds.json", "examples.parquet"):
        assert files.sha256_of(tmp_path / "toy" / name) == files.sha256_of(finished / name)


def test_the_second_run_takes_seconds(finished):
    started = time.monotonic()
    process = kit_command("run", "toy", "--run", str(finished), *SETTINGS)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "epoch 1/" not in out
    assert time.monotonic() - started < 10


def test_the_decision_names_the_views_that_were_predicted_with(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = Run(tmp_path / "runs" / "toy")
    records = open_records(next((tmp_path / "runs" / "records").iterdir()))
    pipeline.predict(run, records, "flips")
    assert pipeline.score(run)[1].views == "flips" == run.config.predict.tta


def test_a_run_that_was_killed_at_its_very_start_resumes(finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "runs")
    run = tmp_path / "runs" / "toy"
    for name in ("folds.json", "examples.parquet"):  # written after config.yaml
        (run / name).unlink()
        assert pipeline.run("toy", run=run, settings=TINY).is_complete
    assert_same_results(finished, run)


@pytest.mark.slow
def test_out_of_time_is_exit_code_3_and_can_be_continued(beside_data, keras, capsys):
    arguments = ["run", "toy", "--run", str(beside_data), *SETTINGS]
    assert main([*arguments, "--max-hours", "0"]) == 3
    assert "run the same command again to continue" in capsys.readouterr().err
    assert not (beside_data / "fold0" / "done.json").exists()
    assert main(arguments) == 0


def test_missing_and_unreadable_images_that_are_allowed_are_said_and_the_submission_is_whole(
    toy_root, tmp_path, capsys, keras
):
    test, train = (sorted((toy_root / part).iterdir()) for part in ("test", "train"))
    test[0].unlink()
    test[1].write_bytes(b"")
    train[0].write_text("no image")
    allowed = ["data.max_missing=0.01", "data.max_rejected=0.02", "model.arguments={units: 4}", "train.epochs=1"]
    submission = pipeline.run(
        "pcam", data=toy_root, run=tmp_path / "runs" / "x", settings=[*TINY, *allowed]
    ).submission_path
    printed = capsys.readouterr().out
    assert f"1 expected image has no file: {test[0].stem}" in printed
    assert "left out, unreadable: 2 images" in printed
    assert (
        f"2 test images are missing or unreadable and got the mean prediction: {test[0].stem}, {test[1].stem}"
        in printed
    )
    sent = pd.read_csv(submission).set_index("id")["label"]
    assert len(sent) == 30
    assert sent[test[0].stem] == pytest.approx(sent.drop([test[0].stem, test[1].stem]).mean())
    assert train[0].stem not in set(pd.read_parquet(tmp_path / "runs" / "x" / "oof.parquet")["id"])


@pytest.mark.slow
def test_out_of_time_with_a_fold_finished_its_submission_is_written(beside_data, monkeypatch, capsys, keras):
    train = training.train_fold

    def only_the_first(fold, *arguments, **named):
        return fold.k == 0 and train(fold, *arguments, **named)

    monkeypatch.setattr(training, "train_fold", only_the_first)
    run = beside_data
    assert not pipeline.run("toy", run=run, settings=TINY).is_complete
    assert "only 1 of 2 folds are trained" in capsys.readouterr().out
    early = pd.read_csv(run / "submission.csv")
    assert set(pd.read_parquet(run / "oof.parquet")["fold"]) == {0}
    assert json.loads((run / "scores.json").read_text())["fold_sd"] is None
    monkeypatch.setattr(training, "train_fold", train)
    assert pipeline.run("toy", run=run, settings=TINY).is_complete
    assert set(pd.read_parquet(run / "oof.parquet")["fold"]) == {0, 1}
    assert not early.equals(pd.read_csv(run / "submission.csv"))


def test_weights_of_a_run_that_saw_the_held_out_images_are_refused(finished, tmp_path):
    records = open_records(next((finished.parent / "records").iterdir()))
    config = load_config("toy", [*TINY, "train.epochs=1", f"model.weights=run:{finished}/fold0"])
    folds = files.read_json(finished / "folds.json")["folds"]
    refuse_leaking_weights(Fold(config, records, folds, 0, FoldFiles(tmp_path)))  # it held the same ones out
    with pytest.raises(LeakError, match=r"fold 1: .* was fitted on \d+ of the images or patients that this fold is"):
        refuse_leaking_weights(Fold(config, records, folds, 1, FoldFiles(tmp_path)))


@pytest.mark.once
@pytest.mark.parametrize(
    ("competition", "model", "warnings"),
    [
        ("nih", ["model.name=hub/hf://microsoft/rad-dino"], 1),
        ("rsna", ["model.name=fcos", "model.arguments={backbone: hub//data/rad-dino}"], 1),
        ("nih", ["model.name=fcos", "model.arguments={backbone: [mobilenet, hub//data/rad-dino]}"], 1),
        ("pcam", ["model.name=hub/hf://microsoft/rad-dino"], 0),
        ("nih", ["model.name=hub/hf://histai/hibou-b"], 0),
    ],
)
def test_a_network_that_was_pre_trained_on_these_images_is_named(competition, model, warnings, caplog):
    with caplog.at_level("WARNING", "kit"):
        training._warn_of_seen_images(load_config(competition, model))
    assert caplog.text.count("microsoft/rad-dino was pre-trained, without labels, on NIH ChestX-ray14") == warnings

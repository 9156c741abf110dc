"""A run whose folds are heads on frozen features, from raw files to predictions of new images."""

import shutil

import numpy as np
import pandas as pd
import pytest

import kit
from kit import files, pipeline
from kit.cli import main
from kit.config import load_config
from kit.data.records.batches import eval_batches
from kit.data.records.manifest import open_records
from kit.errors import ConfigError
from kit.evaluate.metrics import find_metric
from kit.run import FoldFiles, Run
from kit.stages import features
from kit.stages.fold import Fold
from kit.stages.score import mean_test
from kit.stages.train import train_fold
from tests.backbones import registered
from tests.conftest import TINY

MODEL = ["model.name=features", "model.arguments={}", "model.backbone=[tiny_map, tiny_tokens]"]
SETTINGS = [*(s for s in TINY if not s.startswith(("model", "train"))), *MODEL]


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


@pytest.fixture(scope="module")
def run(keras, _toy_folder, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("head")
    pipeline.run("toy", _toy_folder, folder / "run", folder / "records", SETTINGS)
    return Run(folder / "run")


@pytest.fixture
def again(run, _toy_folder, tmp_path, monkeypatch):
    """A function of settings: the finished run, copied and continued with them, and with the features that are kept."""
    copy = Run(shutil.copytree(run.directory, tmp_path / "run"))
    monkeypatch.setattr(features, "_extract", lambda *_: pytest.fail("features are computed again"))
    monkeypatch.setattr("kit.stages.predict.leave_out_clusters", lambda *_: None)  # for the sake of time

    def continued(*settings, **more):
        records = run.directory.parent / "records"
        pipeline.run("toy", _toy_folder, copy.directory, records, settings, **more)
        return copy

    return continued


def test_a_run_like_any_other(run, _toy_folder):
    records = open_records(run.directory.parent / "records")
    assert run.is_complete and "chosen on its training rows" in run.scores.note
    assert run.submission_path.exists() and run.trained_folds() == [0, 1]
    assert list(pd.read_csv(run.fold(0).history)) == ["epoch", "val_loss", "val_roc_auc"]
    from kit.models import saved

    oof = run.oof().set_index("id")["p_tumour"]
    for k in range(2):  # the tables, made from features, are what the models say of the images
        model = saved.load_model(run.fold(k).folder)
        for batch in eval_batches(records, run.folds.folds[k], 64):
            p = model.predict_on_batch(batch.images)[batch.mask][:, 0]
            assert np.abs(p - oof[batch.ids].to_numpy()).max() < 1e-6
    paths = sorted((_toy_folder / "test").iterdir())
    predictor = kit.Predictor.open(run.directory)
    expected = mean_test(run).set_index("id").loc[[path.stem for path in paths], "p_tumour"].to_numpy()
    raw = kit.Predictor.open(run).predict(paths)["p_tumour"].to_numpy()
    assert run.decision.calibration.kind == "none" and predictor.decision == run.decision
    assert np.abs(raw - expected).max() < 1e-6


def test_what_a_head_does_not_depend_on_trains_nothing(again):
    stamps = [files.read_json(again().fold(k).done) for k in range(2)]
    copy = again("train.epochs=7", "augment.rotation=45", "input.balance=classes", "train.batch_size=500")
    assert [files.read_json(copy.fold(k).done) for k in range(2)] == stamps


def test_another_head_is_fitted_on_the_same_features(again):
    with pytest.raises(ConfigError, match=r"differ: model\.arguments\.head: null → mlp\. To keep"):
        again("model.head=mlp")
    copy = again("model.head=mlp", "model.units=8", retrain=True)
    assert copy.config.model.arguments == {"backbone": ["tiny_map", "tiny_tokens"], "head": "mlp", "units": 8}
    assert copy.is_complete


def test_views_at_prediction_come_from_the_images(run, tmp_path):
    copy = Run(shutil.copytree(run.directory, tmp_path / "run"))
    pipeline.predict(copy, open_records(run.directory.parent / "records"), views="mirror")
    a, b = run.oof()["p_tumour"].to_numpy(), copy.oof()["p_tumour"].to_numpy()
    assert 0 < np.abs(a - b).max() < 0.5


def test_nothing_is_seen_of_the_images_held_out(run, tmp_path):
    """Other labels of the validation rows, and other rows there, change nothing but the score."""
    records = open_records(run.directory.parent / "records")
    config = load_config("toy", SETTINGS)
    metric, cells, weights = find_metric("roc_auc"), run.folds.folds, []
    for n, flipped in enumerate((False, True)):
        table = records.table.copy()
        held = table["cell"].isin(cells[0])
        table.loc[held, "y_tumour"] = 1 - table.loc[held, "y_tumour"] if flipped else table.loc[held, "y_tumour"]
        object.__setattr__(records, "table", table)
        fold = Fold(config, records, cells, 0, FoldFiles(tmp_path / str(n) / "fold0"))
        assert train_fold(fold, metric, None)
        weights.append(fold.files.model[1].read_bytes())
    from kit.models import saved

    one, other = (saved.load_model(tmp_path / str(n) / "fold0").get_weights() for n in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_inner_folds_share_no_patient(run, tmp_path, monkeypatch):
    from kit.train import heads

    records = open_records(run.directory.parent / "records")
    object.__setattr__(records, "table", records.table.assign(group=records.table["cell"].map(lambda c: f"g{c // 2}")))
    seen = []
    monkeypatch.setitem(heads.HEADS, "linear", lambda head, rows, *_: seen.append(rows) or heads.Chosen(""))
    cells = [[*range(0, 30)], [*range(30, 60)]]
    fold = Fold(load_config("toy", SETTINGS), records, cells, 1, FoldFiles(tmp_path / "fold1"))
    assert train_fold(fold, find_metric("roc_auc"), None)
    rows = seen[0]
    assert not {*rows.examples["cell"]} & {*cells[1]}
    of_group = pd.Series(rows.inner).groupby(rows.examples["group"].to_numpy()).nunique()
    assert (of_group == 1).all() and len({*rows.inner}) == 5


def test_out_of_time_before_the_features_are_there(_toy_folder, tmp_path, capsys):
    words = ["run", "toy", "--data", str(_toy_folder), "--run", str(tmp_path / "run"), "--max-hours", "0"]
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main([*words, *sets]) == 3
    assert main([*words[:-2], *sets]) == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.head=lienar", "head = 'lienar': one of linear"),
        ("model.backbone=tiny_nap", "unknown model 'tiny_nap'; did you mean 'tiny_map'"),
        ("model.backbone=[tiny_map, fcos]", "model.arguments.backbone = fcos finds boxes itself"),
        ("model.hed=mlp", "unknown setting 'model.hed'"),
        ("model.arguments.hed=mlp", "features takes no such argument; did you mean 'head'?"),
        ("model.weights=run:x", "model.weights = run:x: these are of one backbone, but there are 2"),
    ],
)
def test_what_is_wrong_is_told_first(_toy_folder, tmp_path, capsys, setting, words):
    sets = [word for each in (*SETTINGS, setting) for word in ("--set", each)]
    assert main(["run", "toy", "--data", str(_toy_folder), "--run", str(tmp_path / "runs" / "x"), *sets]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_head_has_no_learning_rate_to_find(toy_records, tmp_path, capsys):
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ["lr-find", "toy", "--records", str(toy_records.directory), "--out", str(tmp_path / "x.png")]
    assert main([*words, *sets]) == 2
    assert "its head has no learning rate to find" in capsys.readouterr().err


def test_weights_of_another_run_go_into_the_backbone(run, _toy_folder, tmp_path):
    """Of a run with the same folds; one that saw what is held out is refused."""
    from kit.errors import LeakError
    from kit.models import frozen, saved

    records = run.directory.parent / "records"
    of_run = [*SETTINGS[:-1], "model.backbone=tiny_map", f"model.weights=run:{run}/fold0"]
    with pytest.raises(LeakError, match=r"fold 1: model\.weights = run:"):
        pipeline.run("toy", _toy_folder, tmp_path / "run", records, of_run)
    theirs, ours = (saved.load_model(folder / "fold0") for folder in (run.directory, tmp_path / "run"))
    pairs = zip(frozen.networks(theirs)[0].get_weights(), frozen.networks(ours)[0].get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)

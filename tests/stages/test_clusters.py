"""Clusters of images that look alike, left out: what `kit predict` writes of them and `kit score` says."""

import shutil

import numpy as np
import pytest

from kit import files, pipeline
from kit.cli import main
from kit.config import load_config
from kit.data.records.manifest import open_records
from kit.errors import DataError
from kit.run import FoldFiles, Run
from kit.stages import clusters
from kit.stages.fold import Fold
from tests.backbones import registered
from tests.conftest import TINY

MODEL = ["model.name=features", "model.arguments={}", "model.backbone=tiny_map"]
SETTINGS = [*(s for s in TINY if not s.startswith(("model", "train"))), *MODEL]


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


@pytest.fixture(scope="module")
def finished(keras, _toy_folder, tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("clusters")
    return pipeline.run("toy", _toy_folder, folder / "run", folder / "records", SETTINGS)


@pytest.fixture
def run(finished, tmp_path):
    return Run(shutil.copytree(finished.directory, tmp_path / "run"))


@pytest.fixture
def records(finished):
    return open_records(finished.directory.parent / "records")


def test_what_is_left_out_is_predicted_and_scored(run, capsys):
    table, scores = run.clusters(), run.scores
    assert set(table["id"]) <= set(run.oof()["id"]) and not table["id"].duplicated().any()
    assert table["p_tumour"].between(0, 1).all() and table["fold"].nunique() > 1
    left = scores.left_out_clusters
    assert sum(part.rows for part in left.clusters) == len(table) and not left.frozen
    assert main(["score", str(run)]) == 0
    out = capsys.readouterr().out
    assert f"left-out clusters  {left.value:.4f} (out of fold {left.out_of_fold:.4f}): what a change of source" in out
    assert left.clusters[0].looks in out and f"left-out clusters {left.value:.4f}" in repr(run)


def test_a_head_has_seen_nothing_of_the_cluster_that_it_predicts(run, records, monkeypatch):
    from kit.train import heads

    seen, fit = [], heads.HEADS["linear"]

    def watched(head, rows, *more):
        seen.append(set(rows.examples["id"]))
        return fit(head, rows, *more)

    monkeypatch.setitem(heads.HEADS, "linear", watched)
    run.clusters_done.unlink()
    before = run.clusters_path.read_bytes()
    monkeypatch.setattr(clusters, "eval_batches", lambda *_: pytest.fail("images are decoded again"))
    pipeline.predict(run, records)
    table = run.clusters()
    everything = set(run.oof()["id"])
    assert seen == [everything - set(table["id"][table["fold"] == n]) for n in sorted(table["fold"].unique())]
    assert run.clusters_path.read_bytes() == before
    monkeypatch.setitem(heads.HEADS, "linear", lambda *_: pytest.fail("fitted again"))
    pipeline.predict(run, records)


def test_no_comparison_with_predictions_of_another_kind(run, records):
    pipeline.predict(run, records, views="mirror")
    assert not run.clusters_path.exists() and run.clusters() is None
    scores, _ = pipeline.score(run)
    assert scores.left_out_clusters is None


def test_a_trained_network_reports_the_frozen_ones(finished, run):
    shutil.copytree(finished.directory, run.frozen.directory)
    run.clusters_done.unlink()
    scores, _ = pipeline.score(run)
    assert scores.left_out_clusters == finished.scores.left_out_clusters.model_copy(update={"frozen": True})
    shutil.rmtree(run.frozen.directory)
    assert pipeline.score(run)[0].left_out_clusters is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.assign(p_tumour=2.0), "values that are not from 0 to 1"),
        (lambda table: table.drop(columns="looks"), "it does not say what all clusters look like"),
        (lambda table: table.assign(id="x" + table["id"]), "is no training image of the run"),
        (lambda table: table.iloc[[0, *range(len(table))]], "1 id occurs twice"),
    ],
)
def test_a_table_from_someone_else(run, change, words):
    files.write_parquet(run.clusters_path, change(run.clusters()))
    files.mark_done(run.clusters_done, {}, [run.clusters_path])
    with pytest.raises(DataError, match=words):
        pipeline.score(run)


def test_damage(run, records):
    run.clusters_path.write_bytes(b"no table")
    with pytest.raises(DataError, match=r"clusters\.parquet differs from what kit wrote .* run `kit predict"):
        pipeline.score(run, ["evaluate.threshold=youden"])
    path = records.directory / "appearance.parquet"
    kept = files.read_parquet(path)
    path.write_bytes(b"no table")
    again = clusters.appearance_of(records, run)
    assert np.array_equal(again.to_numpy(), kept[again.columns].to_numpy())


def test_a_cluster_with_all_images_of_a_class_stays(records, run, monkeypatch):
    rows = records.rows([*range(records.cells)])
    number = np.where(rows["y_tumour"] > 0.5, 0, np.arange(len(rows)) % 2 + 1)
    looks = [{"L": 1.0}, {"L": -1.0}, {"b": 1.0}]
    monkeypatch.setattr(clusters, "cluster", lambda *_: clusters.Clusters(number, looks))
    run.clusters_done.unlink()
    pipeline.predict(run, records)
    assert set(run.clusters()["fold"]) == {1, 2}
    assert set(run.clusters()["looks"]) == {"L -1.0", "b +1.0"}
    config = load_config("toy", SETTINGS)
    fold = Fold(config, records, run.folds.folds, 0, FoldFiles(run.fold(0).folder))
    monkeypatch.setattr(clusters, "cluster", lambda *_: clusters.Clusters(number * 0, looks[:1]))
    run.clusters_done.unlink()
    clusters.leave_out_clusters(run, fold)
    assert not run.clusters_path.exists()

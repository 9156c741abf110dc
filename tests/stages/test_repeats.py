"""Repeats of a run with other seeds and folds: their average is scored, and how far they lie apart is said."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kit.config import load_config
from kit.errors import ConfigError, DataError
from kit.pipeline import run as run_all
from kit.run import Run
from kit.stages.check import check_settings
from kit.stages.publish import members_of
from kit.stages.repeats import average, settings_of_repeat, spread
from kit.stages.report import write_report
from kit.stages.score import score
from tests.conftest import TINY
from tests.runs import write_run

ROWS, TESTS = 120, 20
TRUE = np.arange(ROWS + TESTS) % 2


def repeat_of(folder, n, examples="training"):
    rng = np.random.default_rng(n)
    ids = [f"i{n:03}" for n in range(ROWS + TESTS)]
    p = np.float32(1 / (1 + np.exp(-rng.normal(2 * TRUE - 1, 2))))
    known = pd.DataFrame({"id": ids, "split": ["train"] * ROWS + ["test"] * TESTS, "group": ids})
    known["y_tumour"] = np.where(known["split"] == "train", TRUE, np.nan).astype(np.float32)
    oof = pd.DataFrame({"id": ids[:ROWS], "fold": rng.permutation(ROWS) % 2, "p_tumour": p[:ROWS]})
    test = pd.DataFrame({"id": ids[ROWS:] * 2, "fold": np.repeat([0, 1], TESTS), "p_tumour": np.tile(p[ROWS:], 2)})
    config = load_config("pcam", ["folds=2", "evaluate.resamples=100", "repeats=3"])
    run = write_run(folder, config, known, oof, test, 2)
    score(run)
    return run


@pytest.fixture
def runs(tmp_path):
    first = Run(tmp_path / "first")
    return [
        repeat_of(folder, n) for n, folder in enumerate([first.directory, *(first.repeat(k).directory for k in (1, 2))])
    ]


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.csv"
    pd.DataFrame({"id": [f"i{n:03}" for n in range(ROWS, ROWS + TESTS)], "label": 0}).to_csv(path, index=False)
    return path


def test_the_average_is_scored_and_the_spread_said(runs, sample, capsys):
    out = average(runs, sample)
    assert out.directory == runs[0].directory / "repeats" and out.is_ensemble
    each = [run.oof().set_index("id")["p_tumour"] for run in runs]
    mean = sum(each) / 3
    assert out.oof().set_index("id")["p_tumour"].to_dict() == pytest.approx(mean.to_dict(), abs=1e-6)
    assert out.oof()["fold"].tolist() == runs[0].oof().sort_values("id")["fold"].tolist()
    assert score(out)[0].value == pytest.approx(roc_auc_score(TRUE[:ROWS], mean.loc[sorted(mean.index)]))
    values = [run.scores.value for run in runs]
    assert out.ensemble.repeats == dict(zip(["first", "repeat1", "repeat2"], values, strict=True))
    line = spread(out.ensemble, out.scores.value)
    assert f"mean {np.mean(values):.4f}, sd {np.std(values, ddof=1):.4f}; of their average" in line
    assert line in capsys.readouterr().out
    sent = pd.read_csv(out.submission_path)["label"]
    tests = sum(run.test().groupby("id")["p_tumour"].mean() for run in runs) / 3
    assert sent.tolist() == pytest.approx(tests.tolist(), abs=1e-6)
    shares = {run.directory: 1 / 3 for run in runs}
    assert members_of(out) == shares, "a kernel predicts a hidden test set with all of them"
    stamp = out.ensemble_done.stat().st_mtime_ns
    assert average(runs, sample).ensemble_done.stat().st_mtime_ns == stamp  # done is done
    page = write_report([out]).read_text()
    assert "What it is averaged from" in page and "repeat2" in page


def test_repeats_of_other_images_are_refused(runs, tmp_path):
    folds = runs[1].folds.model_copy(update={"training": "other"})
    runs[1].prepare(runs[1].config, runs[1].examples(), folds)
    with pytest.raises(DataError, match="was trained on other images than"):
        average(runs, None)


def test_seeds_of_repeats():
    config = load_config("pcam", ["seed=3", "fold_seed=7", "repeats=2"])
    assert settings_of_repeat(config, 1) == ["seed=4", "fold_seed=8", "repeats=1"]
    with pytest.raises(ConfigError, match="repeats: of probabilities alone"):
        check_settings(load_config("rsna_boxes", ["repeats=2"]))


@pytest.mark.slow
def test_a_run_with_repeats(keras, tmp_path):
    settings = [*TINY, "train.epochs=1", "repeats=2"]
    out = run_all("toy", run=tmp_path / "runs" / "first", settings=settings, report=False)
    first = Run(tmp_path / "runs" / "first")
    assert out.directory == first.repeat().directory
    other = first.repeat(1)
    assert (other.config.seed, other.config.fold_seed, other.config.repeats) == (1, 1, 1)
    assert other.folds.folds != first.folds.folds
    assert not (first.directory / "records").exists()  # the repeats read those of the first
    assert len(pd.read_csv(out.submission_path)) == out.test()["id"].nunique()
    files = {path: path.stat().st_mtime_ns for path in first.directory.rglob("*.h5")}
    assert len(files) == 4
    run_all("toy", run=first.directory, settings=settings, report=False)
    assert files == {path: path.stat().st_mtime_ns for path in first.directory.rglob("*.h5")}

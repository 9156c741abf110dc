"""Predictions, scores and ensembles that are damaged, stale, or being written by another process."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kit import files
from kit.cli import main
from kit.config import load_config
from kit.errors import DataError, SubmissionError
from kit.run import Run
from kit.stages.ensemble import ensemble
from kit.stages.score import score
from kit.stages.submission import require_current_submission, write_submission
from tests.runs import write_run

IDS = [f"i{n:02}" for n in range(60)]


@pytest.fixture
def make_run(tmp_path):
    """A function: name -> a run of pcam with two folds of 20 images each, and 20 test images."""

    def make(name, seed=0):
        rng = np.random.default_rng(seed)
        truth = np.arange(60) % 2
        p = np.float32(np.clip(0.5 + (truth - 0.5) * rng.uniform(-0.3, 1, 60), 0.01, 0.99))
        cell = np.where(np.arange(60) < 40, np.arange(60) // 20, -1)
        split = np.where(cell < 0, "test", "train")
        table = pd.DataFrame({"id": IDS, "split": split, "group": IDS, "cell": cell})
        table["y_tumour"] = np.where(split == "train", truth, np.nan).astype(np.float32)
        oof = pd.DataFrame({"id": IDS[:40], "fold": cell[:40], "p_tumour": p[:40]})
        test = pd.DataFrame({"id": IDS[40:] * 2, "fold": np.repeat([0, 1], 20), "p_tumour": np.tile(p[40:], 2)})
        config = load_config("pcam", ["folds=2", "evaluate.resamples=100"])
        return write_run(tmp_path / "runs" / name, config, table, oof, test, 2)

    return make


def stamped(run: Run) -> Run:
    """The run with the stamp that `kit predict` leaves."""
    files.mark_done(run.predicted_done, {"folds": {}}, [run.oof_path, run.test_path])
    return run


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.assign(id=["i00", *t["id"][:-1]]), "1 id occurs twice, such as i00"),
        (
            lambda t: t.assign(p_tumour=t["p_tumour"].where(t["id"] != "i07", np.nan)),
            "1 row has .* such as that of i07",
        ),
        (lambda t: t.assign(p_tumour=t["p_tumour"] * 3), r"rows have values that are not from 0 to 1"),
        (lambda t: t.assign(p_tumour=t["p_tumour"] - 1), r"rows have values that are not from 0 to 1"),
        (lambda t: t.assign(p_tumour="0.5"), "probabilities are not all numbers"),
        (lambda t: t.rename(columns={"p_tumour": "p_other"}), "no column p_tumour"),
        (lambda t: t.assign(p_other=np.float32(0.5)), "predictions of other labels: other"),
        (
            lambda t: t.assign(id=[f"x{name}" for name in t["id"]]),
            "40 ids are no train images of the run, such as xi00",
        ),
        (lambda t: t.assign(id=[*IDS[40:], *IDS[:20]]), "20 ids are no train images"),
        (lambda t: t.assign(fold=1 - t["fold"]), "40 images are of another fold, such as i00"),
        (lambda t: t.assign(fold=t["fold"] + 2), "there is no fold 2"),
        (lambda t: t.assign(fold=t["fold"] * 0.5), "folds are not all numbers"),
        (lambda t: t.assign(fold=-1), "folds are not all numbers from 0 on"),
        (lambda t: t.assign(id=range(40)), "ids are not all texts"),
    ],
)
def test_predictions_are_checked_when_they_are_read(make_run, change, says):
    run = make_run("first")
    files.write_parquet(run.oof_path, change(run.oof()))
    with pytest.raises(
        DataError, match=rf"oof\.parquet is damaged \(.*{says}.*\): run `kit predict .* --records DIR` ag"
    ):
        score(run)
    assert not run.scores_path.exists()


def test_classes_sum_to_one():
    from kit.tables import fault_of_predictions
    from kit.tasks import TASKS

    table = pd.DataFrame({"id": ["a", "b"], "fold": 0, "p_x": [0.25, 0.5], "p_y": [0.75, 0.4]})
    assert fault_of_predictions(table, ["x", "y"], TASKS["multilabel"], False) is None
    assert fault_of_predictions(table, ["x", "y"], TASKS["multiclass"], False) == (
        "1 row has classes that do not sum to 1, such as that of b"
    )
    twice = pd.concat([table, table.assign(fold=1)])
    assert fault_of_predictions(twice, ["x", "y"], TASKS["multilabel"], True) is None
    assert "2 ids occur twice" in str(fault_of_predictions(twice, ["x", "y"], TASKS["multilabel"], False))


def test_a_table_that_is_whole_but_not_what_was_written_is_named(make_run):
    run = stamped(make_run("first"))
    assert score(run)[0].rows == 40
    files.write_parquet(run.test_path, run.test().assign(p_tumour=np.float32(0.5)))
    with pytest.raises(DataError, match=r"test\.parquet is damaged \(it is not as kit wrote it\): run `kit predict"):
        write_submission(run, None, run.submission_path)
    examples = run.examples()
    files.write_parquet(run.examples_path, examples.assign(y_tumour=1 - examples["y_tumour"]))
    with pytest.raises(DataError, match=r"examples\.parquet is damaged .*: restore it, or delete it and run `kit run"):
        run.examples()


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"labels": 3}', "\x00"])
def test_scores_and_decision_are_made_again(make_run, content):
    run = stamped(make_run("first"))
    expected = score(run)
    for path in (run.scores_path, run.decision_path, run.scored_done):
        path.write_text(content)
        if path != run.scored_done:
            with pytest.raises(DataError, match=rf"{path.name} is damaged .*: run `kit score {run}` again"):
                _ = run.scores, run.decision
        assert score(run) == expected
        assert (run.scores, run.decision) == expected


def test_a_decision_of_other_labels_is_damaged(make_run):
    run = make_run("first")
    score(run)
    run.scored_done.unlink()
    decision = json.loads(run.decision_path.read_text())
    curve = {"kind": "platt", "slope": 1.0, "intercept": 0.0}
    for change, says in (
        ({"labels": ["tumour", "tumour"]}, "labels are names, each once"),
        ({"labels": []}, "labels are names, each once"),
        ({"thresholds": {"x": decision["thresholds"]["tumour"]}}, "those of its labels"),
        ({"calibration": {"kind": "platt", "curves": [curve, curve]}}, "a curve for each label"),
        ({"calibration": {"kind": "platt", "curves": [{**curve, "slope": float("nan")}]}}, "finite number"),
        ({"calibration": {"kind": "temperature", "temperature": 0}}, "greater than 0"),
        ({"views": "all"}, "views: "),
        ({"prior": {"trained": [0.5, 0.5], "test": [0.1]}}, "a share for each label"),
    ):
        files.write_json(run.decision_path, {**decision, **change})
        with pytest.raises(DataError, match=rf"decision\.json is damaged .*{says}.*: run `kit score"):
            _ = run.decision


def test_settings_of_scoring_are_kept_and_others_are_refused(make_run, capsys):
    run = make_run("first")
    assert main(["score", str(run), "--set", "evaluate.threshold=youden", "--json"]) == 0
    assert run.decision.thresholds["tumour"].rule == run.config.evaluate.threshold == "youden"
    before = run.config_path.read_bytes(), run.scores_path.read_bytes()
    for setting, says in (
        ("train.epochs=3", "`kit score` changes evaluate.* alone, not train.epochs: what a model is trained with"),
        ("evaluate.test_prevalence=[0.1,0.2]", "give 1 number, for"),
        ("evaluate.treshold=f1", "did you mean 'evaluate.threshold'"),
    ):
        capsys.readouterr()
        assert main(["score", str(run), "--set", setting]) == 2
        assert says in capsys.readouterr().err
    assert (run.config_path.read_bytes(), run.scores_path.read_bytes()) == before
    assert main(["predict", str(run), "--records", "x", "--set", "evaluate.threshold=f1"]) == 2


def test_a_submission_that_is_not_the_runs_is_refused(make_run, tmp_path):
    run = make_run("first")
    with pytest.raises(SubmissionError, match=r"has no submission\.csv: write it with `kit submission write"):
        require_current_submission(run)
    write_submission(run, None, run.submission_path)
    table = pd.read_csv(run.submission_path).rename(columns={"p_tumour": "label"})
    write_submission(run, _sample(tmp_path), run.submission_path)
    require_current_submission(run)
    table = pd.read_csv(run.submission_path)
    table.assign(label=table["label"].where(table["id"] != "i45", 0.5)).to_csv(run.submission_path, index=False)
    with pytest.raises(
        SubmissionError, match=r"not what the run's predictions .* for 1 image, such as i45 .*: write it"
    ):
        require_current_submission(run)
    table[:0].to_csv(run.submission_path, index=False)
    with pytest.raises(SubmissionError, match="other images or columns"):
        require_current_submission(run)
    write_submission(run, _sample(tmp_path), run.submission_path)
    run.write_config(load_config("pcam", ["folds=2", "evaluate.resamples=100", "evaluate.test_prevalence=[0.01]"]))
    with pytest.raises(SubmissionError, match="for 20 images, such as i40"):
        require_current_submission(run)


def _sample(folder: Path) -> Path:
    path = folder / "sample.csv"
    pd.DataFrame({"id": IDS[40:], "label": 0.0}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("damage", ["cut", "null", "{}", "absent"])
def test_an_ensemble_that_is_damaged_is_made_again(make_run, tmp_path, damage):
    runs, out = [make_run("first"), make_run("second", 1)], Run(tmp_path / "both")
    report = ensemble(runs, out, "mean")
    for path in (out.ensemble_path, out.ensemble_done, out.oof_path, out.test_path):
        if damage == "absent":
            path.unlink()
        else:
            path.write_text(path.read_bytes()[:20].decode("latin-1") if damage == "cut" else damage)
        assert out.is_ensemble
        with pytest.raises(DataError, match=rf"{out}.*(run `kit ensemble RUN RUN --out {out}` again|has no)"):
            _ = out.ensemble, out.oof(), out.test(), files.read_stamp(out.ensemble_done, f"{out._predict_again}")
        assert ensemble(runs, out, "mean") == report
        assert out.ensemble == report and len(out.oof()) == 40


def test_an_ensemble_is_no_place_for_a_run(make_run, tmp_path, capsys):
    ensemble([make_run("first"), make_run("second", 1)], Run(tmp_path / "both"), "mean")
    assert main(["run", "pcam", "--run", str(tmp_path / "both"), "--data", str(tmp_path)]) == 2
    assert "is an ensemble, which a run would overwrite: give another --run" in capsys.readouterr().err


WRITER = """
import sys, time
from kit.run import Run

with Run(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_run_that_another_process_writes_is_left_alone(make_run, tmp_path, capsys):
    run, other = make_run("first"), make_run("second", 1)
    root = Path(files.__file__).parents[1]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(run)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert writer.stdout.readline() == "locked\n"
    before = {path: path.read_bytes() for path in run.directory.iterdir() if path.is_file()}
    commands = (
        ["score", run],
        ["submission", "write", run, "--out", tmp_path / "s.csv"],
        ["run", "pcam", "--run", run, "--data", tmp_path],
    )
    for command in commands:
        assert main([str(argument) for argument in command]) == 2
        assert f"another process is writing into {run}: wait for process {writer.pid} on " in capsys.readouterr().err
    out = Run(tmp_path / "both")
    with out.locked(), ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match="another process is writing into"):
        pool.submit(ensemble, [other, make_run("third", 2)], out, "mean").result()
    assert not out.directory.exists()
    assert {path: path.read_bytes() for path in before} == before
    writer.kill()
    writer.communicate()
    assert main(["score", str(run)]) == 0
    assert files.leftovers(run.directory) == [] and not (run.directory / ".part-lock.json").exists()

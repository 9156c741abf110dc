"""What follows training, from prediction files to a submission: the commands, on runs whose files are made by hand."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kit import files
from kit.cli import main
from kit.config import load_config
from kit.errors import ConfigError, DataError
from kit.run import Run
from kit.stages.ensemble import ensemble
from kit.stages.score import compare, score
from kit.stages.submission import write_submission
from tests.runs import write_run

ROWS, TESTS, FOLDS = 300, 60, 3


@pytest.fixture
def make_run(tmp_path):
    """A function: name, noise, settings -> the folder of a finished run of pcam whose models see the truth so well."""
    truth = np.arange(ROWS + TESTS) % 2
    common = np.random.default_rng(0).normal(0, 0.7, ROWS + TESTS)

    def made(name, noise=1.0, settings=(), **columns):
        run = tmp_path / "runs" / name
        rng = np.random.default_rng(int(noise * 1000))
        ids = [f"i{n:03}" for n in range(ROWS + TESTS)]
        p = np.float32(1 / (1 + np.exp(-rng.normal(2 * truth - 1 + common, noise))))
        split = ["train"] * ROWS + ["test"] * TESTS
        known = pd.DataFrame({"id": ids, "split": split, "group": ids, "age": truth * 10.0 + 40})
        known["y_tumour"] = np.where(known["split"] == "train", truth, np.nan).astype(np.float32)
        oof = pd.DataFrame({"id": ids[:ROWS], "fold": np.arange(ROWS) // 2 % FOLDS})
        oof = oof.assign(p_tumour=p[:ROWS], **columns)
        test = pd.DataFrame({"id": ids[ROWS:] * 2, "fold": np.repeat([0, 1], TESTS), "p_tumour": np.tile(p[ROWS:], 2)})
        config = load_config("pcam", ["folds=3", "evaluate.resamples=200", *settings])
        return write_run(run, config, known, oof, test, 3)

    return made


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.csv"
    pd.DataFrame({"id": [f"i{n:03}" for n in range(ROWS, ROWS + TESTS)], "label": 0}).to_csv(path, index=False)
    return path


def test_scores_of_two_runs(make_run, capsys):
    runs = [str(make_run("first", 2.0)), str(make_run("second", 0.3))]
    assert main(["score", *runs]) == 0
    out = capsys.readouterr().out
    areas = [roc_auc_score(np.arange(ROWS) % 2, Run(run).oof()["p_tumour"]) for run in runs]
    assert f"out-of-fold roc_auc  {areas[0]:.4f}" in out and "DeLong" in out
    assert f"second  {areas[1]:.4f}   difference {areas[1] - areas[0]:+.4f}, 95% interval" in out
    assert "specificity" in out and "calibration error" in out and "by beta" in out
    assert main(["score", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparison"][1]["difference"] == pytest.approx(areas[1] - areas[0])
    assert found["scores"]["subgroups"][0]["part"] == "40 to 59"


def test_a_metric_of_decisions_is_scored_and_sent_as_decisions(make_run, sample, tmp_path):
    run = make_run("first", settings=["metric=macro_f1"])
    scores, decision = score(run)
    assert (scores.metric, decision.sends, decision.thresholds["tumour"].rule) == ("macro_f1", "decisions", "f1")
    assert scores.value == pytest.approx(decision.thresholds["tumour"].cross_validated["f1"])
    write_submission(run, sample, tmp_path / "submission.csv")
    sent = pd.read_csv(tmp_path / "submission.csv").set_index("id")["label"]
    p = run.test().groupby("id")["p_tumour"].mean()
    assert sent.to_dict() == (p >= decision.thresholds["tumour"].threshold).astype(float).to_dict()
    with pytest.raises(ConfigError, match="metric_options: macro_f1 takes no option 'beta'"):
        score(make_run("second", settings=["metric=macro_f1", "metric_options={beta: 2}"]))


def test_probabilities_may_be_sent_as_decisions(make_run, sample, tmp_path):
    run = make_run("first", settings=["metric=pfbeta"])
    soft, _ = score(run)
    hard, decision = score(run, ["evaluate.send=decisions"])
    assert decision.sends == "decisions" and hard.value == decision.thresholds["tumour"].cross_validated["f1"]
    assert hard.value > soft.value  # as in RSNA 2022, whose metric rewards what is sure
    write_submission(run, sample, tmp_path / "submission.csv")
    assert set(pd.read_csv(tmp_path / "submission.csv")["label"]) == {0, 1}


def test_scoring_needs_no_keras(make_run):
    run = make_run("first")
    code = (
        "import sys; from kit.cli import main; "
        f"assert main(['score', {str(run)!r}]) == 0; print({{'tensorflow', 'keras', 'jax'}} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("set()\n")


def test_an_ensemble_is_a_run(make_run, sample, tmp_path, capsys):
    runs, out = [make_run("first", 0.4), make_run("second", 3.0)], Run(tmp_path / "both")
    assert main(["ensemble", *map(str, runs), "--out", str(out)]) == 0
    report = out.ensemble
    assert report.chosen != "mean" and report.blends[report.chosen].gain_low > 0
    assert report.correlation["first"]["first"] == pytest.approx(1)
    area = roc_auc_score(np.arange(ROWS) % 2, out.oof()["p_tumour"])
    assert area == pytest.approx(report.blends[report.chosen].nested)
    assert f"chosen: {report.chosen}" in capsys.readouterr().out
    submission = tmp_path / "submission.csv"
    assert main(["submission", "write", str(out), "--sample", str(sample), "--out", str(submission)]) == 0
    assert main(["submission", "check", "pcam", str(submission), "--sample", str(sample), "--run", str(out)]) == 0
    arguments = ["ledger", "--ledger", str(tmp_path / "l.csv"), "--run", str(out), "--file", str(submission)]
    assert main([*arguments, "--public", "0.9"]) == 0
    assert main(["ledger", "--ledger", str(tmp_path / "l.csv")]) == 0
    assert "first second" in capsys.readouterr().out  # not scored before: that is done when it is needed
    assert main(["score", str(out), str(runs[0])]) == 0


def test_an_ensemble_is_made_once_and_overwrites_no_run(make_run, tmp_path, monkeypatch):
    runs, out = [make_run("first", 0.4), make_run("second", 3.0)], Run(tmp_path / "both")
    report = ensemble(runs, out, "mean")
    with pytest.raises(DataError, match="is a run, which an ensemble would overwrite"):
        ensemble(runs, make_run("third"))
    with pytest.raises(ConfigError, match="first is one of the runs that are blended: give another --out"):
        ensemble(runs, Run(tmp_path / "both" / ".." / "runs" / "first"))
    monkeypatch.setattr("kit.evaluate.ensemble.compare_blends", lambda *_: pytest.fail("worked again"))
    assert ensemble(runs, out, "mean") == report
    with pytest.raises(pytest.fail.Exception, match="worked again"):
        ensemble(runs, out, "logit")


@pytest.mark.slow
def test_the_blend_that_is_asked_for(make_run, tmp_path):
    runs = [make_run("first", 1.0), make_run("second", 2.0)]
    weighted, boosted = Run(tmp_path / "weighted"), Run(tmp_path / "boosted")
    report = ensemble(runs, weighted, "weighted:3,1")
    assert (report.chosen, report.weights) == ("weighted:3,1", {"first": 0.75, "second": 0.25})
    p = [run.test().groupby("id")["p_tumour"].mean() for run in runs]
    blend = weighted.test().set_index("id")["p_tumour"]
    assert blend.to_numpy() == pytest.approx((0.75 * p[0] + 0.25 * p[1])[blend.index].to_numpy(), abs=1e-6)
    ensemble(runs, boosted, "boost", ["age"])  # age gives the truth away here
    assert roc_auc_score(np.arange(ROWS) % 2, boosted.oof()["p_tumour"]) == 1


def test_runs_without_test_images_can_be_blended(make_run, tmp_path):
    runs = [make_run("first", 0.4), make_run("second", 3.0)]
    for run in runs:
        files.write_parquet(run.test_path, run.test()[:0])
    for how in ("stack", "rank"):
        out = Run(tmp_path / how)
        ensemble(runs, out, how)
        assert out.test().empty
        assert score(out)[0].value > 0.5


def test_ensembles_that_are_refused(make_run, tmp_path):
    first, second = make_run("first"), make_run("second", fold=0)
    with pytest.raises(DataError, match="second and first have different folds"):
        ensemble([first, second], Run(tmp_path / "out"))
    with pytest.raises(ConfigError, match="two runs at least"):
        ensemble([first], Run(tmp_path / "out"))
    with pytest.raises(ConfigError, match="the same run is given twice"):
        ensemble([first, first], Run(tmp_path / "out"))
    for bad in ("height", "y_tumour", "path"):
        with pytest.raises(ConfigError, match=f"no metadata column '{bad}'"):
            ensemble([first, make_run("third", 2.0)], Run(tmp_path / "out"), "boost", [bad])
    other = make_run("other", 2.0)
    other.write_config(load_config("toy"))
    with pytest.raises(DataError, match="is a run of 'toy'"):
        ensemble([first, other], Run(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_what_is_sent_can_be_calibrated_and_of_another_prevalence(make_run, sample, tmp_path):
    plain = make_run("plain")
    write_submission(plain, sample, tmp_path / "plain.csv")
    as_it_is = pd.read_csv(tmp_path / "plain.csv")["label"]
    rarer = make_run("rarer", settings=["evaluate.test_prevalence=[0.1]"])
    write_submission(rarer, sample, tmp_path / "rarer.csv")
    odds = as_it_is / (1 - as_it_is) / 9  # half were positive in training
    assert pd.read_csv(tmp_path / "rarer.csv")["label"].to_numpy() == pytest.approx((odds / (1 + odds)).to_numpy())
    warm = make_run("warm", settings=["evaluate.calibration=platt"])
    write_submission(warm, sample, tmp_path / "warm.csv")
    calibrated = pd.read_csv(tmp_path / "warm.csv")["label"]
    assert (calibrated.rank() == as_it_is.rank()).all() and not np.allclose(calibrated, as_it_is)
    balanced = make_run("balanced", settings=["evaluate.test_prevalence=[0.1]", "input.balance=classes"])
    with pytest.raises(ConfigError, match=r"which balancing .* hid from the model: set evaluate.calibration too"):
        write_submission(balanced, sample, tmp_path / "balanced.csv")
    wrong = make_run("wrong", settings=["evaluate.test_prevalence=[0.1,0.2]"])
    with pytest.raises(ConfigError, match="give 1 number, for tumour"):
        write_submission(wrong, sample, tmp_path / "wrong.csv")


def test_a_wrong_rule_is_told_before_anything_is_trained():
    with pytest.raises(ConfigError, match="there is no threshold rule 'f2'"):
        load_config("toy", ["evaluate.threshold=f2"])


def test_a_run_without_predictions(make_run):
    run = make_run("first")
    run.oof_path.unlink()
    for stage in (
        lambda: score(run),
        lambda: compare([run, make_run("second")]),
        lambda: write_submission(run, None, run.submission_path),
    ):
        with pytest.raises(DataError, match=r"has no oof.parquet yet: run `kit predict` first"):
            stage()


def test_a_notebook_shows_the_scores_of_a_run(make_run):
    run = make_run("first")
    assert not run.is_complete
    scores, _ = score(run)
    shown, interval = run._repr_html_(), scores.interval
    value = f"{scores.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
    assert f"<th>out-of-fold roc_auc</th><td>{value}</td>" in shown and value in repr(run)
    assert "  ".join(f"{value:.4f}" for value in scores.folds.values()) in shown
    assert run.is_complete and "not finished" not in shown and "\n" not in repr(run)
    oof = run.oof()
    files.write_parquet(run.oof_path, oof[oof["fold"] < 2])  # the third fold is not trained yet
    score(run)
    assert not run.is_complete and "not finished" in run._repr_html_()

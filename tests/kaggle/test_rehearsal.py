"""A rehearsal finds what would fail at Kaggle: one line for each, from kernels that do just that."""

import dataclasses
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from kit.cli import main
from kit.competitions import toy
from kit.competitions.pcam import COMPETITION
from kit.errors import ConfigError, DataError, SubmissionError
from kit.kaggle import bundle, rehearsal, waiting
from kit.kaggle.code import inference_source
from kit.kaggle.machine import Ran, make_python, run_session
from kit.kaggle.plan import CodePlan
from kit.kaggle.rehearsal import rehearse
from kit.stages.imitation import Pictures, faults_of, imitate, pictures_of
from tests.conftest import TINY
from tests.kaggle.conftest import PLAN
from tests.kaggle.test_code import trained

HONEST = """
import os, pathlib, time
ROOT = pathlib.Path(os.environ["KIT_KAGGLE_ROOT"])
sample = next(ROOT.glob("input/**/sample_submission.csv"))
rows = sample.read_text().splitlines()
ids = [row.split(",")[0] for row in rows[1:]]
out = ROOT / "working" / "submission.csv"
write = lambda names: out.write_text("id,label\\n" + "".join(f"{name},0.5\\n" for name in names))
RERUN = os.environ.get("KAGGLE_IS_COMPETITION_RERUN")
"""
DOWNLOADING = """
import urllib.request
try:
    urllib.request.urlopen("http://weights.example/w.h5")
except OSError:
    write(ids)
"""


@pytest.fixture
def plan(tmp_path, wheel):
    return dataclasses.replace(PLAN, code=CodePlan(trained(tmp_path / "run")), hours=9.0)


@pytest.fixture
def rehearsed(plan, tmp_path):
    """A function: a rehearsal of a kernel that does this after it has listed the cases."""

    def run(body, cases=40, hours=9.0, **options):
        script = tmp_path / "own.py"
        script.write_text(HONEST + body)
        return rehearse(dataclasses.replace(plan, hours=hours), cases, script=script, **options)

    return run


def test_a_kernel_that_does_it_right(rehearsed):
    lines = rehearsed("write(ids)")
    assert [line.partition(" in ")[0] for line in lines[:3]] == [
        "the commit run: 3 cases",
        "a commit run with an empty test set: 0 cases",
        "the rerun: 40 cases",
    ]
    assert re.match(
        r"40 hidden cases would take 0\.\d\d h on this machine .* of the 8\.1 h that a kernel of 9 h", lines[3]
    )


FAILURES = {
    "weights missing": (
        None,
        "the commit run: the weights are missing: me/kit-pcam-model/keras/other/1 is not attached",
    ),
    "a list of ids baked in": (
        "write(ids) if not RERUN else write(['seen'] * 3)",
        "the rerun: 40 of 40 ids are not in the submission: were they listed before the rerun?",
    ),
    "no output in the commit run": (
        "RERUN and write(ids)",
        "the commit run: no output: the kernel left no submission.csv, and Kaggle submits only a version that has one",
    ),
    "nothing where the test set is empty": (
        "ids and write(ids)",
        "a commit run with an empty test set: no output: the kernel left no submission.csv",
    ),
    "too slow": ("time.sleep(0.05 * len(ids)); write(ids)", "too slow: 1000000 hidden cases would take 1"),
    "out of memory": (
        "block = bytearray(len(ids) * 2**25); block[::4096] = b'x' * len(block[::4096]); time.sleep(1); write(ids)",
        "the rerun: out of memory: it took ",
    ),
    "internet used": (
        DOWNLOADING,
        "the commit run: the internet is used, which is off there: it reaches for weights.example; attach ",
    ),
    "an exception": ("[][len(ids)] if RERUN else write(ids)", "the rerun: the kernel failed (exit code 1): IndexError"),
    "cases left out": ("write(ids[:-1])", "the commit run: 1 of 3 ids are not in the submission"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_is_one_clear_line(rehearsed, plan, tmp_path, name):
    body, line = FAILURES[name]
    options = {"cases": 1_000_000 if name == "too slow" else 40, "memory": 0.5}
    with pytest.raises(SubmissionError) as raised:
        if body is None:  # kit's own kernel, for a run that is not attached
            code = CodePlan(plan.code.run, model="me/kit-pcam-model/keras/other/1", manifest="0" * 64)
            source = inference_source(dataclasses.replace(plan, code=code), code, bundle.make_wheel())
            (tmp_path / "own.py").write_text(source)
            rehearse(plan, 40, script=tmp_path / "own.py")
        rehearsed(body, **options)
    message = str(raised.value)
    assert message.startswith(f"the rehearsal failed\n{line}") and message.count("\n") == 1


def test_ids_of_the_earlier_test_set_are_recognised():
    of = lambda *names: ("id,label\n" + "".join(f"{name},1\n" for name in names)).encode()  # noqa: E731
    assert faults_of(of("b", "a"), ["a", "b"], ["x"], "id") == ""
    assert "a list of ids is baked in" in faults_of(of("x", "y"), ["a", "b"], ["x", "y"], "id")
    assert faults_of(of("a"), ["a", "b"], [], "id").startswith("1 of 2 ids are not in the submission")
    assert faults_of(of("a", "b", "b"), ["a", "b"], [], "id") == "the submission has 3 rows, and the test set 2 cases"
    assert faults_of(b"<html>", ["a"], [], "id") == "submission.csv has no column id"
    assert faults_of(b"", ["a"], [], "id").startswith("submission.csv cannot be read")


def test_an_imitation_has_new_ids_no_answers_and_what_cannot_be_read(tmp_path):
    made = Pictures((), ".png", "test_images")
    first = imitate(COMPETITION, made, tmp_path / "a", 5, 0, unreadable=1)
    second = imitate(COMPETITION, made, tmp_path / "b", 5, 1)
    assert not {*first} & {*second} and sorted(first) != first
    names = sorted(
        path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert names == ["sample_submission.csv", *(f"test_images/{name}.png" for name in sorted(first))]
    assert pd.read_csv(tmp_path / "a" / "sample_submission.csv")["label"].tolist() == [0.5] * 5
    sizes = [(tmp_path / "a" / "test_images" / f"{name}.png").stat().st_size for name in sorted(first)]
    assert sizes[-1] == 64 and min(sizes[:-1]) > 1000


def test_images_come_from_the_raw_files(tmp_path, plan):
    toy.make(tmp_path / "data", train=2, test=3)
    run = type("Run", (), {"examples": lambda self: pd.DataFrame({"path": ["train/x.tif"]}), "config": None})()
    pictures = pictures_of(run, COMPETITION, tmp_path / "data")
    assert (len(pictures.paths), pictures.ending, pictures.folder, pictures.gateway) == (3, ".tif", "test", None)
    assert pictures_of(run, COMPETITION, None) == Pictures((), ".tif", "test")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no test image"):
        pictures_of(run, COMPETITION, tmp_path / "none")


def test_a_gateway_is_code_that_has_to_be_trusted(rehearsed, tmp_path):
    toy.make(tmp_path / "data", train=1, test=2)
    (tmp_path / "data" / "kaggle_evaluation").mkdir()
    with pytest.raises(SubmissionError, match="is code that a rehearsal runs: give --trust"):
        rehearsed("write(ids)", data=tmp_path / "data")
    lines = rehearsed("write(ids)", data=tmp_path / "data", trust=True)
    assert len(lines) == 3 and "empty test set" not in "".join(lines)


def test_memory_is_extrapolated_to_whole_batches(plan):
    gib, scenes = 2**30, [rehearsal.Scene("few", 3, "new"), rehearsal.Scene("many", 64, "new")]
    ran = [Ran(0, "", {}, 10.0, gib), Ran(0, "", {}, 10.0 + 61 * 0.5, gib + 61 * 2**26)]
    pictures = Pictures((), ".png", "test")
    for accelerator, at_once, count, memory in (
        ("cpu", 512, 1000, "32.8"),
        ("gpu", 512, 1000, "32.8"),
        ("cpu", 512, 100, "7.1"),
    ):
        stage = rehearsal._Stage(
            dataclasses.replace(plan, accelerator=accelerator), pictures, plan.jobs_folder, {}, "", 29.0, at_once
        )
        lines = []
        failures = stage._extrapolate(count, scenes, ran, lines)
        assert f"about {memory} of 29 GiB" in lines[0] and "(0.500 s a case)" in lines[0]
        assert bool(failures) == (accelerator == "cpu" and count == 1000)
    assert rehearsal._Stage(plan, pictures, plan.jobs_folder, {}, "", 29.0, 1)._extrapolate(58_400, scenes, ran, [])
    assert not rehearsal._Stage(plan, pictures, plan.jobs_folder, {}, "", 29.0, 1)._extrapolate(58_200, scenes, ran, [])


def test_time_is_extrapolated_to_the_images_of_a_case(plan):
    scenes = [rehearsal.Scene("few", 3, "new"), rehearsal.Scene("many", 64, "new")]
    ran = [Ran(0, "", {}, 10.0, 2**30), Ran(0, "", {}, 10.0 + 61 * 0.5, 2**30)]
    stage = rehearsal._Stage(plan, Pictures((), ".png", "test"), plan.jobs_folder, {}, "", 29.0, 8, images=3.0)
    lines = []
    assert not stage._extrapolate(1000, scenes, ran, lines)
    assert "has 3 in the test set of the run" in lines[0] and "0.42 h on this machine (1.500 s a case)" in lines[1]
    (failure,) = stage._extrapolate(20_000, scenes, ran, lines)
    assert "19,433 cases fit" in failure
    examples = pd.DataFrame({"id": ["a", "b", "c", "d"], "case": ["x", "x", "x", "y"], "split": "test"})
    run = type("Run", (), {"examples": lambda self: examples})()
    assert rehearsal._cases_of(run) == (2, 2.0)
    examples = examples.drop(columns="case")
    assert rehearsal._cases_of(run) == (4, 1.0)


def test_a_kernel_that_hangs(rehearsed, monkeypatch):
    monkeypatch.setattr(rehearsal, "_LONGEST", 1.0)
    with pytest.raises(SubmissionError, match=r"the commit run: too slow: 3 cases took more than 0\.000\d+ h here"):
        rehearsed("time.sleep(600)")


def test_what_cannot_be_rehearsed(plan, tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        rehearse(plan, 4, script=tmp_path / "none.py")
    with pytest.raises(SubmissionError, match="only code submissions"):
        rehearse(PLAN)


@pytest.mark.slow
@pytest.mark.once
def test_from_training_by_a_rehearsal_to_a_score(stub, tmp_path, monkeypatch, capfd):
    """A run that is really trained; the kernel is really run, as Kaggle would, on public and on hidden images."""
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    monkeypatch.chdir(tmp_path)
    data, hidden = tmp_path / "data", tmp_path / "hidden"
    toy.make(data, train=120, test=12)
    toy.make(hidden, train=1, test=30, seed=5)
    (hidden / "test" / "broken.tif").write_bytes(b"no image")
    with (hidden / "sample_submission.csv").open("a") as sample:
        sample.write("broken,0\n")
    settings = [word for setting in TINY for word in ("--set", setting)]
    assert main(["run", "pcam", "--data", str(data), "--run", "run", *settings]) == 0
    assert main(["kaggle", "rehearse", "pcam", "--from-run", "run", "--data", str(data), "--cases", "500"]) == 0
    printed = "".join(capfd.readouterr())
    assert "500 hidden cases would take" in printed and "nothing failed" in printed

    python, root = make_python(tmp_path / "python"), tmp_path / "kaggle"
    session = partial(run_session, python, root, "new")
    seen = {}

    def ran(folder, variables, source, mounts):
        session_of = session(source, mounts, (COMPETITION.slug, folder), variables)
        seen[folder] = session_of
        return session_of.code, session_of.log, session_of.output

    stub.run_kernel = partial(ran, data, {})
    stub.rerun = partial(ran, hidden, {"KAGGLE_IS_COMPETITION_RERUN": "1"})
    answers = pd.read_csv(hidden / toy.ANSWERS)
    stub.downloads[f"/files/{COMPETITION.slug}/sample_submission.csv"] = (data / "sample_submission.csv").read_bytes()
    stub.score = lambda content: "0.5" if content.count(b"\n") == len(answers) + 2 else "0.1"
    assert main(["submit", "pcam", "--code", "--from-run", "run", "--accelerator", "cpu"]) == 0
    assert "on the leaderboard: public 0.5" in "".join(capfd.readouterr())
    assert "predicted 30 of 31 cases" in seen[hidden].log and "1 case could not be read" in seen[hidden].log
    assert '"rerun": true' in seen[hidden].output["kernel.json"].decode() and not seen[hidden].internet
    (folder,) = (tmp_path / "runs/pcam/kaggle/code").glob("kit-*")
    own = pd.read_csv(tmp_path / "run" / "submission.csv").set_index("id")["label"]
    sent = pd.read_csv(folder / "output" / "submission.csv").set_index("id")["label"]
    assert np.abs(own[sent.index] - sent).max() < 1e-5, "the kernel predicts what the run did"


@pytest.mark.once
def test_the_environment_has_every_package_but_kit(tmp_path, monkeypatch):
    """Also of a kit that is installed, and of folders beside the environment's own."""
    installed = tmp_path / "site-packages"
    for name in ("kit", "kit-1.dist-info", "of_the_system"):
        (installed / name).mkdir(parents=True)
        (installed / name / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    python = make_python(tmp_path / "python")
    script = "import of_the_system, numpy, importlib.util as u; print(u.find_spec('kit'))"
    command, variables = [python, "-c", script], {"KIT_KAGGLE_ROOT": "/x"}
    done = subprocess.run(command, cwd=tmp_path / "python", env=variables, text=True, capture_output=True)
    assert done.stdout == "None\n", done.stderr

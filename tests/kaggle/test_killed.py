"""Code submissions that are killed: of a checkout, and of code outside of an installed kit."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from kit.kaggle.machine import make_python, run_script
from tests.conftest import TINY
from tests.kaggle.test_code import KERNEL, inference_output, trained
from tests.outside import blocks, moles_on_kaggle, write_data

DRIVER = """
import sys, time
from kit.kaggle import waiting
waiting.pauses = lambda sleep, seconds: (time.sleep(0.01) or n for n in range(30 if seconds <= waiting.LAG else 5000))
from kit.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def of_a_checkout(stub, tmp_path):
    """What is submitted, by which Python and from where, to which kernel: a run that looks like one."""
    stub.run_kernel = inference_output
    return ["pcam", "--code", "--from-run", str(trained(tmp_path / "run"))], sys.executable, Path.cwd(), KERNEL


@pytest.fixture
def from_outside(stub, site, tmp_path):
    """The same of kit's wheel, a competition and a model in files, a run that is trained, a kernel that is run."""
    write_data(tmp_path / "data")
    (tmp_path / "moles.py").write_text(moles_on_kaggle().replace('"moles-2026"', "None"))  # not known yet
    (tmp_path / "nets.py").write_text(blocks()["nets.py"])
    python = site.parents[2] / "bin" / "python"
    settings = ["model.name=nets.py:my_cnn", *(setting for setting in TINY if "model" not in setting)]
    options = [word for setting in settings for word in ("--set", setting)]
    train = [python, "-P", "-m", "kit", "run", "moles.py", "--data", "data", "--run", "run", "--no-report", *options]
    environment = {**os.environ, **stub.environment(tmp_path / "home")}
    subprocess.run(train, cwd=tmp_path, env=environment, check=True)
    (tmp_path / "moles.py").write_text(moles_on_kaggle())
    session = make_python(tmp_path / "python"), tmp_path / "kaggle", "new"
    stub.run_kernel = partial(run_script, *session, competition=("moles-2026", tmp_path / "data"))
    stub.downloads["/files/moles-2026/sample_submission.csv"] = (tmp_path / "data/sample_submission.csv").read_bytes()
    own = pd.read_csv(tmp_path / "run/submission.csv").set_index("id")["label"]

    def score(content):
        sent = pd.read_csv(io.BytesIO(content)).set_index("id")["label"]
        return "0.95" if (own[sent.index] - sent).abs().max() < 1e-5 and len(own) == len(sent) else "0.1"

    stub.score = score
    options = ["moles.py", "--code", "--accelerator", "cpu", "--from-run", "run"]
    return options, python, "", "fakeuser/kit-moles-inference"


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("what", ["of_a_checkout", "from_outside"])
def test_killed_at_ten_random_moments_it_is_pushed_and_submitted_once(stub, tmp_path, request, what):
    """SIGKILL, at moments spread over all of it; then once more, undisturbed."""
    options, python, folder, kernel = request.getfixturevalue(what)
    command = [python, "-P", "-c", DRIVER, "submit", *options]
    environment = {**os.environ, **stub.environment(tmp_path / "home"), "PYTHONPATH": str(folder)}

    def start():
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    whole = subprocess.run([*command, "--dry-run"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert b"CreateCodeSubmission" in whole.stdout
    chance, at, score = random.Random(21), [], stub.scored
    stub.scored = lambda entry: {}  # it stays pending
    for calls in sorted(chance.sample(range(1, 40), 10)):  # each a little further: what is done is not asked again
        seen, process = len(stub.calls), start()
        while process.poll() is None and len(stub.calls) < seen + calls:  # wherever it is by then
            time.sleep(0.002)
        time.sleep(chance.random() * 0.02)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        at.append(stub.calls[-1])
    stub.scored = score
    process = start()
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert "on the leaderboard: public 0.95" in printed
    assert len(stub.kernels[kernel].sources) == len(stub.submissions) == 1
    assert stub.count("SaveKernel") == stub.count("CreateCodeSubmission") == 1
    assert {"GetSubmission", "ListSubmissions"} & {*at} and len({*at}) > 3, f"they were spread over the calls: {at}"

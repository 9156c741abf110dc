"""A stub of Kaggle, and the files that a kernel of kit leaves."""

import ast
import functools
import json

import numpy as np
import pandas as pd
import pytest
import requests

from kit.competitions.pcam import COMPETITION
from kit.config import load_config
from kit.kaggle import bundle, send
from kit.kaggle.client import Kaggle
from kit.kaggle.plan import SubmissionPlan
from tests.kaggle.stub import Stub
from tests.runs import write_run

PLAN = SubmissionPlan("pcam", COMPETITION, hours=1.0)
SLUG = "fakeuser/kit-pcam-kernel"
_wheel = functools.cache(bundle.make_wheel)
IDS = [f"i{n:02}" for n in range(40)]
SAMPLE = "id,label\n" + "".join(f"t{n},0\n" for n in range(9))


@functools.cache
def run_files():
    """What a kernel leaves: the files of a finished run, written by hand; scored as `kit score` does."""
    import tempfile
    from pathlib import Path

    from kit.stages.score import score

    rng = np.random.default_rng(0)
    truth = np.float32(np.arange(40) % 2)
    oof = pd.DataFrame({"id": IDS, "fold": np.arange(40) // 2 % 2, "p_tumour": rng.random(40).astype(np.float32)})
    test = pd.DataFrame({"id": [f"t{n}" for n in range(9)], "fold": 0, "p_tumour": np.linspace(0.1, 0.9, 9)})
    train = pd.DataFrame({"id": IDS, "split": "train", "group": IDS, "y_tumour": truth})
    unknown = pd.DataFrame({"id": test["id"], "split": "test", "group": test["id"], "y_tumour": np.float32(np.nan)})
    examples = pd.concat([train, unknown], ignore_index=True)
    examples["path"] = examples["split"] + "/" + examples["id"] + ".tif"
    config = load_config("pcam", ["evaluate.resamples=100", "folds=2"])
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), config, examples, oof, test, 2)
        score(run)
        text = test[["id"]].assign(label=test["p_tumour"]).to_csv(index=False)
        run.submission_path.write_text(text)
        return {path.name: path.read_bytes() for path in run.directory.iterdir() if path.is_file()}


def plan_of(source):
    """The settings of a kernel: its line PLAN."""
    (line,) = [line for line in source.split("\n") if line.startswith("PLAN = ")]
    return ast.literal_eval(line.removeprefix("PLAN = "))


def kernel_output(source, datasets):
    """Instead of running the script: what it would leave (tests/kaggle/test_kernel.py runs the script itself)."""
    import hashlib

    plan = plan_of(source)
    wheel = next(files for files in datasets.values() if plan["wheel"] in files)[plan["wheel"]]
    assert hashlib.sha256(wheel).hexdigest() == plan["sha256"]
    run = f"runs/{plan['competition']}/kernel"
    output = {f"{run}/{name}": content for name, content in run_files().items()}
    output |= {f"{run}/fold0/model.weights.h5": b"large", f"{run}/fold0/state/x.npz": b"large"}
    output |= {name: run_files()[name] for name in ("submission.csv", "oof.parquet", "scores.json")}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in output.items()}
    output["kernel.json"] = json.dumps({"run_id": plan["run_id"], "finished": True, "sha256": sums}).encode()
    return 0, "it ran", output


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A running stub, and this process pointed at it."""
    with Stub(kernel_output) as running:
        for name, value in running.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        from kaggle.api.kaggle_api_extended import KaggleApi

        monkeypatch.setattr(KaggleApi, "args", ["--local"])  # read from the environment when it was first imported
        running.calls.clear()  # the client logs in when it is first imported
        running.downloads["/files/histopathologic-cancer-detection/sample_submission.csv"] = SAMPLE.encode()
        yield running


@pytest.fixture
def wheel(monkeypatch):
    """The wheel is made once for all tests that take this, and a package of weights is small."""
    monkeypatch.setattr(bundle, "make_wheel", _wheel)
    monkeypatch.setattr(bundle, "installed_wheel", lambda name: bundle.Wheel(f"{name}-1-py3-none-any.whl", b"w", ""))


@pytest.fixture
def submitted(stub, tmp_path):
    """A function: `kit submit` with that plan, as a further call of the command would be; returns the job."""

    def submit(plan=PLAN, again=False):
        wait = stub.waited.append
        kaggle = Kaggle(sleep=wait)
        return send.submit(plan, tmp_path / "jobs", kaggle, tmp_path / "submissions.csv", again, sleep=wait)

    return submit


def faults_of(calls, faults):
    """Each call with each fault, as `call` and `fault`; of calls that only ask, `make test` takes every other one."""
    asks = ("Get", "List", "Introspect", "Download")
    return [
        pytest.param(call, fault, marks=[pytest.mark.slow] if call.startswith(asks) and (m + n) % 2 else [])
        for m, call in enumerate(calls)
        for n, fault in enumerate(faults)
    ]


def cut_off_at(monkeypatch, call, done):
    """End the program once, at a call that is `done` by then or not."""
    adapter = requests.adapters.HTTPAdapter
    send_it, died = adapter.send, []

    def dying(self, request, *args, **values):
        due = not died and call in (request.method, request.url.rsplit("/", 1)[-1])
        answer = None if due and not done else send_it(self, request, *args, **values)
        if due:
            died.append(call)
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(adapter, "send", dying)

"""A whole submission against the stub: once, whatever fails, and from wherever it was cut off."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from kit import files
from kit.competitions.pcam import COMPETITION
from kit.config import dump_config, load_config
from kit.errors import KitError
from kit.submit import send
from kit.submit.kaggle import Kaggle
from tests.kaggle_stub import TOKEN, Stub

IDS = [f"i{n:02}" for n in range(40)]


def run_files():
    """What a kernel leaves: the files of a finished run, made by hand."""
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    p = rng.random(40).astype(np.float32)
    oof = pd.DataFrame({"id": IDS, "fold": np.arange(40) // 2 % 2, "y_tumour": np.float32(truth), "p_tumour": p})
    test = pd.DataFrame({"id": [f"t{n}" for n in range(9)], "fold": 0, "p_tumour": np.linspace(0.1, 0.9, 9)})
    known = pd.DataFrame({"id": IDS, "split": "train", "group": IDS, "y_tumour": np.float32(truth)})
    submission = test[["id"]].assign(label=test["p_tumour"])
    root = "runs/pcam/kernel/"
    made = {f"{root}{name}.parquet": parquet(table) for name, table in (("oof", oof), ("test", test), ("examples", known))}
    made[f"{root}config.yaml"] = dump_config(load_config("pcam", ["evaluate.resamples=100"])).encode()
    made[f"{root}folds.json"] = json.dumps({"task": "binary", "folds": [[0], [1]], "records": "r"}).encode()
    return made | {"submission.csv": submission.to_csv(index=False).encode()}


def parquet(table):
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def kernel(source):
    """What the stub runs instead of the script; tests/submit/test_kernels.py runs the script itself."""
    run_id = next(line.split('"')[1] for line in source.split("\n") if line.startswith("RUN_ID = "))
    return 0, "it ran", run_files() | {"run_id.txt": run_id.encode()}


@pytest.fixture
def stub(tmp_path, monkeypatch):
    with Stub(kernel) as running:
        for name, value in running.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        from kaggle.api.kaggle_api_extended import KaggleApi

        monkeypatch.setattr(KaggleApi, "args", ["--local"])
        yield running


@pytest.fixture
def job(tmp_path):
    """A function: a job in the same folder, as a further call of the command would have it."""

    def made(**changed):
        values = {"settings": [], "accelerator": "gpu", "hours": 1.0, "say": lambda line: None, "sleep": lambda s: None}
        return send.Job(COMPETITION, tmp_path / "job", **{**values, **changed})

    return made


def submitted(job, **more):
    return send.submit(job, Kaggle(sleep=lambda seconds: None), **more)


def test_from_a_checkout_to_a_score(stub, job, tmp_path):
    lines = []
    entry = submitted(job(say=lines.append))
    assert (entry.state, entry.public) == ("complete", 0.95)
    assert stub.count("SaveKernel") == stub.count("CreateSubmission") == stub.count("CreateDataset") == 1
    request = stub.kernels["fakeuser/kit-pcam-kernel"].requests[0]
    assert request["machineShape"] == "NvidiaTeslaT4" and not request.get("enableInternet")
    assert stub.submissions[0]["content"] == run_files()["submission.csv"]
    (line,) = pd.read_csv(tmp_path / "submissions.csv").to_dict("records")
    assert (line["competition"], line["public"]) == ("pcam", 0.95)
    again = submitted(job())
    assert again == entry
    assert stub.count("SaveKernel") == stub.count("CreateSubmission") == 1
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()] + ["\n".join(lines).encode()]
    assert not any(TOKEN.encode() in content for content in written)


def test_the_next_job_finds_its_wheel_there(stub, job, tmp_path):
    submitted(job())
    other = job()
    other.folder = tmp_path / "other"
    submitted(other)
    assert (stub.count("CreateDataset"), stub.count("CreateDatasetVersion")) == (1, 0)
    assert (stub.count("SaveKernel"), stub.count("CreateSubmission")) == (2, 2)


CALLS = [
    "IntrospectToken", "GetCompetition", "GetSubmissionLimits", "GetAcceleratorQuotaStatistics", "GetDatasetStatus",
    "GetDataset", "ListDatasetFiles", "StartBlobUpload", "PUT", "CreateDataset", "SaveKernel", "GetKernelSessionStatus",
    "ListKernelSessionOutput", "GET", "StartSubmissionUpload", "CreateSubmission", "ListSubmissions",
]  # fmt: skip
FAULTS = [401, 403, 404, 409, 429, 500, "reset", "lost", "truncated", "html"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_it_comes_to_its_end_and_nothing_is_done_twice(stub, job, tmp_path, call, fault):
    stub.fail(call, fault)
    for _ in range(4):
        try:
            entry = submitted(job())
            break
        except KitError as error:
            assert TOKEN not in str(error)
            assert not list(tmp_path.glob("job/output-v*")) or call not in ("GET", "ListKernelSessionOutput")
    assert entry.public == 0.95
    assert len(stub.kernels["fakeuser/kit-pcam-kernel"].sources) == 1
    assert len(stub.submissions) == 1
    assert stub.submissions[0]["content"] == run_files()["submission.csv"]
    assert files.read_json(tmp_path / "job" / "state.json")["public"] == 0.95

"""Random faults of Kaggle's server, kills between any two requests, lagging lists and damaged states.

Whatever happens, a job is pushed at most once and submitted at most once, with the right bytes; every error is one that
is meant for people; and when the trouble is over, the same command ends with the score, or says why it cannot know.
"""

import json
import random
import shutil

import pytest
import requests

from kit.competitions.pcam import COMPETITION
from kit.errors import KitError
from kit.kaggle import send
from kit.kaggle.client import Kaggle
from kit.kaggle.plan import SubmissionPlan
from tests.fuzz import examples
from tests.kaggle.conftest import run_files
from tests.kaggle.stub import TOKEN

pytestmark = [pytest.mark.usefixtures("wheel"), pytest.mark.once]
PLAN = SubmissionPlan("pcam", COMPETITION, hours=1.0)
READS = [
    "IntrospectToken", "GetCompetition", "GetSubmissionLimits", "GetAcceleratorQuotaStatistics", "GetDatasetStatus",
    "GetDataset", "ListDatasetFiles", "StartBlobUpload", "PUT", "GetKernel", "GetKernelSessionStatus",
    "ListKernelSessionOutput", "GET", "DownloadDataFile", "StartSubmissionUpload", "ListSubmissions", "GetSubmission",
]  # fmt: skip
SENDS = ["CreateDataset", "SaveKernel", "CreateSubmission"]
FAULTS = [400, 401, 403, 404, 409, 429, 500, 503, 520, "reset", "lost", "truncated", "html", "json"]
SHAPES = [
    "",
    "{",
    "null",
    "[]",
    "[[]]",
    '"x"',
    "7",
    "{}",
    '{"code": "x"}',
    '{"code": 500}',
    '{"ref": "x"}',
    "[" * 99999,
]
SHAPES += ['{"submissions": 7}', '{"submissions": [null]}', '{"submissions": [{"ref": {}}]}', '{"status": 7}']
SHAPES += ['{"versionNumber": "v1"}', '{"files": [{"url": 7}]}', '{"nextPageToken": 7}', '{"nextPageToken": "x"}']
SHAPES += ['{"metadata": null, "blob": null}', '{"metadata": {"currentVersionNumber": 1e999}}', '{"numTotal": "x"}']
SHAPES += ['{"gpuQuota": 7}', '{"createUrl": "x"}', '{"status": "\\u001b[2J"}', '{"ref": ' + "9" * 5000 + "}"]
DAMAGE = ["", "{", "null", "[]", "{}", '{"begun": 7}', '{"begun": "", "plan": "", "from_run": false, "version": -1}']


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


@pytest.fixture
def command(stub, tmp_path, monkeypatch):
    """A function: `kit submit`, killed before or after the request of a number, if one is given."""
    adapter = requests.adapters.HTTPAdapter
    send_it = adapter.send

    def run(kill_at=None, after=False, again=False):
        left = None if kill_at is None else [kill_at]

        def dying(self, request, *args, **values):
            if left is None:
                return send_it(self, request, *args, **values)
            left[0] -= 1
            if left[0] == 0 and after:
                send_it(self, request, *args, **values)
            if left[0] <= 0:
                raise Killed
            return send_it(self, request, *args, **values)

        monkeypatch.setattr(adapter, "send", dying)
        wait = stub.waited.append
        kaggle = Kaggle(sleep=wait)
        return send.submit(PLAN, tmp_path / "jobs", kaggle, tmp_path / "submissions.csv", again, sleep=wait)

    return run


def damage(rng, folder):
    """Break the state of every job, one of its two files or both."""
    for path in folder.glob("kit-*/state.*"):
        if rng.random() < 0.7 and path.is_file():
            path.unlink()
            if rng.random() < 0.2:
                path.mkdir()
            elif rng.random() < 0.8:
                path.write_text(rng.choice(DAMAGE))


def inject(rng, stub):
    """Some faults, of calls that come and of some that do not."""
    for _ in range(rng.randint(1, 6)):
        call = rng.choice(SENDS) if rng.random() < 0.4 else rng.choice(READS)
        kind = rng.choice(FAULTS if call != "PUT" else FAULTS[:-1])  # a server that only says it has a file
        times = 1 if call in SENDS else rng.choice([1, 1, 2, 7, 20])
        if rng.random() < 0.3:
            stub.fail(call, "pass", times=rng.randint(1, 3))
        stub.fail(call, kind, rng.choice(SHAPES) if kind == "json" else "\x1b[31mred", times=times)


@pytest.mark.parametrize("seed", range(examples(60)))
def test_at_most_one_push_and_one_submission(stub, command, tmp_path, seed):
    rng = random.Random(seed)
    stub.lag = rng.choice([0, 0, 1, 4, 9, 13])
    damages = rng.random() < 0.4
    inject(rng, stub)
    job, message = None, ""
    for n in range(30):
        if n > 6:
            stub.faults.clear()
        elif rng.random() < 0.3:
            inject(rng, stub)
        if damages and n <= 6 and rng.random() < 0.5:
            damage(rng, tmp_path / "jobs")
        try:
            job = command(rng.choice([None, rng.randint(1, 40)]) if n <= 6 else None, after=rng.random() < 0.5)
            if n > 6 or rng.random() < 0.5:
                break
        except Killed:
            pass
        except KitError as error:
            message = str(error)
            assert TOKEN not in message and "\x1b" not in message
        sources = [source for kernel in stub.kernels.values() for source in kernel.sources]
        assert len(sources) <= 1 and len(stub.submissions) <= 1
        if n > 8 and "it is not known whether" in message:
            break
    assert job is not None or "it is not known whether" in message, message
    assert all(entry["content"] == run_files()["submission.csv"] for entry in stub.submissions)
    assert not stub.leaks
    if job is not None:
        assert job.state.public == 0.95 and len(stub.submissions) == 1
        shutil.rmtree(tmp_path / "home")
        assert not any(TOKEN.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        lines = (tmp_path / "submissions.csv").read_text().splitlines()
        assert len(lines) == 2


@pytest.mark.parametrize("call", [*READS[1:], *SENDS])
def test_answers_of_any_shape_are_one_error_that_names_the_call(stub, tmp_path, call):
    """Or they are taken for an empty answer, as all fields may be left out."""
    if call in ("PUT", "GET", "DownloadDataFile"):
        return
    kaggle = Kaggle(sleep=lambda seconds: None)
    path = tmp_path / "x.csv"
    path.write_text("id,label\n")
    calls = {
        "GetCompetition": lambda: kaggle.competition("c"),
        "GetSubmissionLimits": lambda: kaggle.submission_count("c"),
        "GetAcceleratorQuotaStatistics": lambda: kaggle.hours_left("gpu"),
        "GetDatasetStatus": lambda: kaggle.dataset_state("a/b"),
        "GetDataset": lambda: kaggle.dataset_state("fakeuser/kit-x"),
        "ListDatasetFiles": lambda: kaggle.dataset_files("fakeuser/kit-x"),
        "StartBlobUpload": lambda: kaggle.upload_dataset("fakeuser/kit-y", "kit y", [path], "", new=True),
        "CreateDataset": lambda: kaggle.upload_dataset("fakeuser/kit-y", "kit y", [], "", new=True),
        "GetKernel": lambda: kaggle.kernel("a/b"),
        "GetKernelSessionStatus": lambda: kaggle.kernel_state("a/b", 1),
        "ListKernelSessionOutput": lambda: kaggle.kernel_log("a/b", 1),
        "StartSubmissionUpload": lambda: kaggle.submit("c", path, "x"),
        "CreateSubmission": lambda: kaggle.submit("c", path, "x"),
        "ListSubmissions": lambda: kaggle.submissions("c"),
        "GetSubmission": lambda: kaggle.submission(1),
        "SaveKernel": lambda: kaggle.push(json.loads(METADATA), "print(1)"),
    }
    stub.upload = stub.create_dataset({"ownerSlug": "fakeuser", "slug": "kit-x", "files": []})
    for shape in SHAPES:
        stub.faults.clear()
        stub.fail(call, "json", shape, times=999)
        try:
            calls[call]()
        except KitError as error:
            assert (
                call in str(error) or "not accept" in str(error) or "did not say" in str(error) or "500" in str(error)
            )
            assert "\x1b" not in str(error) and len(str(error)) < 3000
    assert stub.count(call) >= len(SHAPES) / 2


METADATA = """{"id": "fakeuser/kit-x-kernel", "title": "kit x kernel", "language": "python", "kernel_type": "script",
"is_private": true, "enable_gpu": false, "enable_tpu": false, "enable_internet": false, "dataset_sources": [],
"competition_sources": [], "kernel_sources": [], "model_sources": [], "machine_shape": null}"""

"""What is sent counts: it is written down before, looked up after, and a damaged state never sends it again."""

import dataclasses
import json

import pytest
import requests

from kit.cli import main
from kit.competitions.pcam import COMPETITION
from kit.errors import DataError, KitError
from kit.kaggle import job as jobs
from kit.kaggle import send, waiting
from kit.kaggle.client import Kaggle
from kit.kaggle.http import KaggleError
from tests.kaggle.conftest import PLAN, SLUG, run_files

pytestmark = pytest.mark.usefixtures("wheel")
DAMAGE = ["", '{"begun"', "null", "[]", "{}", "7", '{"begun": 1, "plan": [], "from_run": {}}', "[" * 99999, "\0"]


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


@pytest.fixture
def killed_after(monkeypatch, submitted):
    """A function: `kit submit`, killed when the request of that name has been sent and its answer has not come."""

    def run(call, plan=PLAN):
        adapter = requests.adapters.HTTPAdapter
        with monkeypatch.context() as patch:
            send_it = adapter.send

            def dying(self, request, *args, **values):
                answer = send_it(self, request, *args, **values)
                if request.url.endswith(f"/{call}"):
                    raise Killed
                return answer

            patch.setattr(adapter, "send", dying)
            with pytest.raises(Killed):
                submitted(plan)

    return run


@pytest.fixture
def local_plan(tmp_path):
    """The plan that submits a finished local run."""
    (tmp_path / "run").mkdir()
    for name, content in run_files().items():
        (tmp_path / "run" / name).write_bytes(content)
    return dataclasses.replace(PLAN, from_run=tmp_path / "run")


# ---- lists that lag


@pytest.mark.parametrize("call", ["SaveKernel", "CreateSubmission"])
@pytest.mark.parametrize("lag", [1, 9, 13])
def test_killed_with_a_list_that_lags(stub, submitted, killed_after, call, lag):
    stub.lag = lag
    killed_after(call)
    assert submitted().state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1


@pytest.mark.parametrize("call", ["SaveKernel", "CreateSubmission"])
def test_a_lost_reply_with_a_list_that_lags(stub, submitted, call):
    stub.lag = 9
    stub.fail(call, "lost")
    assert submitted().state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1


def test_what_is_counted_but_never_listed_is_sent_again_only_by_again(stub, submitted, local_plan, killed_after):
    stub.lag = 10**6
    killed_after("CreateSubmission", local_plan)
    for _ in range(2):
        with pytest.raises(KaggleError, match=r"it is not known whether .* only if it is not there, --again sends it"):
            submitted(local_plan)
    assert len(stub.submissions) == 1
    stub.lag = 0
    assert submitted(local_plan, again=True).state.public == 0.95 and len(stub.submissions) == 2


def test_what_was_not_counted_either_did_not_arrive(stub, submitted, local_plan):
    stub.fail("CreateSubmission", "reset")
    with pytest.raises(KaggleError, match="it did not arrive"):
        submitted(local_plan)
    stub.waited.clear()
    assert submitted(local_plan).state.public == 0.95 and sum(stub.waited) < 60


def test_an_outage_is_no_absence(stub, submitted, local_plan, killed_after):
    """Nothing is sent again because a server did not answer when it was asked."""
    killed_after("CreateSubmission", local_plan)
    stub.fail("ListSubmissions", 503, times=9999)
    with pytest.raises(KaggleError, match="Kaggle answered 503"):
        submitted(local_plan)
    stub.faults.clear()
    assert submitted(local_plan).state.public == 0.95 and len(stub.submissions) == 1


def test_a_lost_push_is_found_behind_later_versions(stub, submitted, killed_after):
    killed_after("SaveKernel")
    kaggle = Kaggle(sleep=stub.waited.append)
    stub.kernels[SLUG].sources.append("print('pushed by hand')")
    stub.kernels[SLUG].requests.append({})
    job = submitted()
    assert (job.state.version, job.state.public) == (1, 0.95) and kaggle.kernel(SLUG)[0] == 2


def test_a_kernel_that_cannot_be_looked_at_is_not_pushed_twice(stub, submitted, killed_after):
    first = submitted()
    killed_after("SaveKernel", other := dataclasses.replace(PLAN, settings=("folds=3",)))
    stub.fail("GetKernel", 403, times=9999)
    with pytest.raises(KaggleError):
        submitted(other)
    assert len(stub.kernels[SLUG].sources) == 2
    stub.faults.clear()
    second = submitted(other)
    assert (first.state.version, second.state.version, second.state.newest) == (1, 2, 1)


def test_a_confirmed_submission_is_followed_by_its_number(stub, submitted):
    stub.fail("ListSubmissions", "pass")
    stub.fail("ListSubmissions", "json", "{}", times=9999)
    assert submitted().state.public == 0.95 and stub.count("GetSubmission") == 3


# ---- trouble in the middle


@pytest.mark.parametrize("call", ["GetKernelSessionStatus", "GetSubmission"])
@pytest.mark.parametrize("fault", [400, 403, 404, 408, 429, 500, 520])
def test_trouble_while_it_waits_ends_nothing(stub, submitted, call, fault):
    stub.fail(call, "pass")
    stub.fail(call, fault, times=20 if fault in (400, 429, 500, 520) else 5)
    assert submitted().state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1


def test_a_login_that_is_refused_ends_at_once(stub, submitted):
    stub.fail("GetKernelSessionStatus", "pass")
    stub.fail("GetKernelSessionStatus", 401, times=9999)
    with pytest.raises(KaggleError, match="Kaggle rejected the login"):
        submitted()
    assert stub.count("GetKernelSessionStatus") == 3, "the first, a refusal, and one with a new login"
    stub.faults.clear()
    assert submitted().state.public == 0.95


def test_a_failure_is_looked_at_again_before_it_is_repeated(stub, submitted):
    stub.fail(
        "GetSubmission", "json", '{"ref": 1, "status": "error", "errorDescription": "Evaluation \\u001b[2J"}', times=2
    )
    with pytest.raises(KaggleError, match=r"^Kaggle could not score the submission: Evaluation \\x1b\[2J$"):
        submitted()
    stub.fail("GetSubmission", "json", '{"ref": 1, "status": "error"}', times=2)
    with pytest.raises(KaggleError, match="failed with the same code and settings"):
        submitted()
    stub.faults.clear()
    job = submitted()
    assert (job.state.public, job.state.failed, job.state.done) == (0.95, None, True) and len(stub.submissions) == 1


def test_a_failure_is_repeated_where_it_cannot_be_looked_at(stub, submitted):
    stub.run_kernel = lambda source, datasets: (1, "no such thing", {})
    with pytest.raises(KaggleError, match="the kernel failed"):
        submitted()
    stub.fail("GetKernelSessionStatus", 401, times=99)
    with pytest.raises(
        KaggleError, match=r"(?s)same code and settings: .*no such thing.*looked again: Kaggle rejected"
    ):
        submitted()


# ---- damaged states


def damage(folder, text, names):
    for name in names:
        path = folder / name
        path.unlink()
        if text is None:
            path.mkdir()
        else:
            path.write_text(text)


@pytest.mark.parametrize("names", [["state.json"], ["state.json", "state.copy.json"]])
@pytest.mark.parametrize("text", [*DAMAGE, None])
def test_a_damaged_state_is_written_anew(stub, submitted, tmp_path, capsys, text, names):
    for call in ("GetKernelSessionStatus", "GetSubmission"):
        stub.fail(call, 401)
        with pytest.raises(KaggleError):
            submitted()
        (folder,) = (tmp_path / "jobs").glob("kit-*")
        damage(folder, text, names)
    job = submitted()
    assert job.folder == folder and job.state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1
    assert ("looking up at Kaggle what happened" in capsys.readouterr().out) == (len(names) == 2)


def test_a_damaged_state_of_a_done_job(stub, submitted, tmp_path):
    folder = submitted().folder
    damage(folder, "", ["state.json", "state.copy.json"])
    assert submitted().state.public == 0.95 and len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1
    assert len((tmp_path / "submissions.csv").read_text().splitlines()) == 2


def test_a_damaged_state_of_a_local_run(stub, submitted, local_plan, killed_after):
    killed_after("CreateSubmission", local_plan)
    (folder,) = local_plan.from_run.parent.glob("jobs/kit-*")
    damage(folder, "null", ["state.json", "state.copy.json"])
    stub.lag = 9
    assert submitted(local_plan).state.public == 0.95 and len(stub.submissions) == 1


def test_a_damaged_state_where_the_server_has_nothing(stub, submitted, tmp_path):
    """It may have been sent, and nobody counted before: only --again sends it."""
    stub.fail("CreateSubmission", 403)
    with pytest.raises(KaggleError):
        submitted()
    (folder,) = (tmp_path / "jobs").glob("kit-*")
    damage(folder, "{", ["state.json", "state.copy.json"])
    with pytest.raises(KaggleError, match="it is not known whether"):
        submitted()
    assert not stub.submissions and submitted(again=True).state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1


def test_no_message_advises_to_delete_anything(stub, submitted, tmp_path):
    job = submitted()
    damage(job.folder, "", ["state.json", "state.copy.json"])
    with pytest.raises(DataError) as raised:
        _ = job.state
    assert "delete" not in str(raised.value) and "`kit submit` looks up at Kaggle" in str(raised.value)


def test_a_state_is_on_the_disk_before_the_request(stub, submitted, tmp_path, monkeypatch):
    """When a request that counts arrives, both files say so and were synced after that."""
    synced = []
    monkeypatch.setattr("kit.files.os.fsync", synced.append)
    seen = {}

    def look(call):
        real = getattr(stub, call)

        def noting(fields):
            (folder,) = (tmp_path / "jobs").glob("kit-*")
            seen[call] = [json.loads((folder / name).read_text()) for name in ("state.json", "state.copy.json")]
            seen[f"synced {call}"] = len(synced)
            return real(fields)

        monkeypatch.setattr(stub, call, noting)

    look("save_kernel")
    look("create_submission")
    submitted()
    assert all(state["push_begun"] and "version" not in state for state in seen["save_kernel"])
    assert all(state["submit_begun"] and state["submission"] is None for state in seen["create_submission"])
    assert 4 <= seen["synced save_kernel"] < seen["synced create_submission"]


def test_the_newest_job_is_not_the_clocks(stub, submitted, monkeypatch):
    years = iter([2030, 2020, 2010])
    monkeypatch.setattr(jobs, "_now", lambda: f"{next(years)}-01-01")
    folders = [submitted(again=True).folder for _ in range(3)]
    assert len({*folders}) == 3 and submitted().folder == folders[-1]


# ---- before anything is spent, and afterwards


def test_the_ledger_is_looked_at_before_anything_is_spent(stub, submitted, tmp_path):
    (tmp_path / "submissions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not a ledger"):
        submitted()
    assert not stub.datasets and not stub.kernels and not (tmp_path / "jobs").exists()


def test_the_score_is_shown_and_kept_before_it_is_recorded(stub, submitted, tmp_path, monkeypatch, capsys):
    def full(path, line):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(send.ledger, "write", full)
        with pytest.raises(OSError, match="No space left"):
            submitted()
    assert "on the leaderboard: public 0.95, private not given\n" in capsys.readouterr().out
    before = len(stub.calls)
    assert submitted().state.done and stub.calls[before:].count("CreateSubmission") == 0
    assert len((tmp_path / "submissions.csv").read_text().splitlines()) == 2


def test_a_push_needs_no_submission_left(stub, submitted, tmp_path):
    stub.limits = {"numAllowedNow": 0}
    stub.competition |= {"submissionsDisabled": True}
    kaggle = Kaggle(sleep=stub.waited.append)
    job = send.push(PLAN, tmp_path / "jobs", kaggle, sleep=stub.waited.append)
    assert job.state.version == 1
    stub.competition |= {"submissionsDisabled": False}
    with pytest.raises(KaggleError, match="no submission left today"):
        submitted()
    stub.limits = {"numAllowedNow": 1}
    assert submitted().state.public == 0.95 and len(stub.kernels[SLUG].sources) == 1


def test_what_is_done_is_told_without_a_login(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    assert main(["submit", "pcam"]) == 0
    stub.calls.clear()
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert main(["submit", "pcam"]) == 0
    assert capsys.readouterr().out.count("public 0.95") >= 2 and not stub.calls
    assert main(["submit", "pcam", "--again"]) == 2, "that needs one"


def test_a_refused_submission_is_not_under_way(stub, submitted):
    stub.fail("CreateSubmission", 403, "Your team has used its submission allowance (5 of 5).")
    with pytest.raises(KitError, match="no submission left today"):
        submitted()
    stub.waited.clear()
    assert submitted().state.public == 0.95 and sum(stub.waited) < 60 and len(stub.submissions) == 1


def test_no_submission_is_left_when_the_kernel_has_run(stub, submitted):
    real = stub.run_kernel

    def run(source, datasets):
        stub.limits = {"numAllowedNow": 0}
        return real(source, datasets)

    stub.run_kernel = run
    with pytest.raises(KaggleError, match="no submission left today"):
        submitted()
    stub.limits = {"numAllowedNow": 5}
    assert submitted().state.public == 0.95 and COMPETITION.slug

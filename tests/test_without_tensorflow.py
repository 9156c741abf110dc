"""JAX where TensorFlow is not installed: from raw files to a submission."""

import json
import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from kit.config import RuntimeSettings
from kit.errors import ConfigError
from kit.runtime import devices
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]

# Imported by Python when it starts: no module finds TensorFlow.
ABSENT = """
import sys
class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
"""

COMMANDS = """
import os, sys
from kit.cli import main
run, data, *settings = sys.argv[1:]
for command in (
    ["run", "toy", "--data", data, "--run", run, *settings],
    ["score", run],
    ["submission", "check", "toy", f"{run}/submission.csv", "--sample", f"{data}/sample_submission.csv"],
    ["predict", run, "--images", f"{data}/test", "--out", f"{run}/new.csv"],
    ["submit", "toy", "--from-run", run, "--dry-run"],
):
    code = main(command)
    assert code == 0, (command, code)
del os.environ["KERAS_BACKEND"]  # which is set now
print("doctor:")
assert main(["doctor"]) == 0
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.once
def test_everything_from_a_run_to_a_submission_works_without_tensorflow(toy_root, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    settings = [part for setting in TINY for part in ("--set", setting)]
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, tmp_path / "run", toy_root, *settings],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("TensorFlow is not installed: running on JAX\n") == 1
    facts = json.loads(result.stdout.split("doctor:")[1])
    assert facts["input"] == "threads: TensorFlow is not installed" and facts["missing"] == []
    assert facts["device"]["backend"] == "jax"
    assert len((tmp_path / "run" / "new.csv").read_text().splitlines()) == 31


def test_jax_is_the_default_where_tensorflow_is_not_installed(monkeypatch):
    settings = RuntimeSettings()
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delenv("ISTPUVM", raising=False)
    assert devices.choose_backend(settings) == "tensorflow"
    monkeypatch.setattr(devices, "has_tensorflow", lambda: False)
    assert devices.choose_backend(settings) == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ConfigError, match="the tensorflow backend needs TensorFlow: pip install tensorflow"):
        devices.choose_backend(settings)


def test_requirements_without_tensorflow_are_those_of_the_package():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = setup["options"]["install_requires"].split() + setup["options.extras_require"]["jax"].split()
    lines = (ROOT / "requirements-jax.txt").read_text().splitlines()
    expected = {line for line in needed if not line.startswith("tensorflow>")}
    assert {line for line in lines if not line.startswith("#")} == expected

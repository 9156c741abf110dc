"""Light commands stay light: which libraries each of them loads, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import kit
from kit.cli import command_names
from kit.config import load_config
from kit.run import Run
from kit.stages.score import score
from tests.runs import write_run

pytestmark = pytest.mark.once

KERAS = {"tensorflow", "keras", "jax", "h5py", "tensorflow_hub", "keras_hub"}
SCIENCE = {"scipy", "sklearn", "matplotlib", "cv2", "pydicom", "joblib", "requests", "kaggle"}
TABLES = {"pandas", "numpy", "pyarrow"}
SETTINGS = {"pydantic", "yaml"}


def loaded(command: list[str], folder: Path) -> tuple[int, set[str]]:
    """The exit code of a command, and those of the libraries above that it loads."""
    code = f"""
import sys
from kit.cli import main
try:
    code = main({command})
except SystemExit as stopped:
    code = stopped.code
print(code, *{KERAS | SCIENCE | TABLES | SETTINGS} & set(sys.modules))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(kit.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    code, *libraries = done.stdout.splitlines()[-1].split()
    return int(code), set(libraries)


@pytest.mark.parametrize("command", [[], *([name] for name in command_names())], ids=" ".join)
def test_help_loads_nothing(command, tmp_path):
    assert loaded([*command, "--help"], tmp_path) == (0, set())


def test_a_command_that_does_not_exist_loads_nothing(tmp_path):
    assert loaded(["scroe"], tmp_path) == (2, set())


@pytest.mark.parametrize(
    ("command", "code", "absent"),
    [
        (["settings"], 0, KERAS | SCIENCE | TABLES),
        (["competitions"], 0, KERAS | SCIENCE - {"cv2", "joblib"}),
        (["models"], 0, KERAS | SCIENCE | TABLES),
        (["ledger"], 0, KERAS | SCIENCE),
        (["score", "nowhere"], 2, KERAS | SCIENCE - {"cv2", "joblib", "pydicom"}),
        (["run", "nothing"], 2, KERAS | SCIENCE - {"cv2", "joblib", "pydicom"}),
        (["submission", "check", "pcam", "s.csv", "--sample", "s.csv"], 0, KERAS | SCIENCE - {"cv2"}),
        (["records", "info", "nowhere"], 2, KERAS | SCIENCE - {"cv2", "joblib"}),
        (["examples", "csv"], 2, KERAS | SCIENCE - {"cv2", "joblib", "pydicom"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_light_commands(command, code, absent, tmp_path):
    (tmp_path / "s.csv").write_text("id,label\na,0.1\nb,0.7\nc,0.4\n")
    exit_code, libraries = loaded(command, tmp_path)
    assert (exit_code, libraries & absent) == (code, set())


def test_a_run_that_is_scored_is_shown_without_scipy_or_scikit_learn(tmp_path):
    ids = [f"i{n}" for n in range(40)]
    rows = pd.DataFrame({"id": ids, "path": ids, "bytes": 1, "split": ["train"] * 30 + ["test"] * 10, "group": ids})
    truth = [float(n % 2) for n in range(30)] + [float("nan")] * 10
    p = [(n * 7 % 40 + 1) / 50 for n in range(40)]
    oof = pd.DataFrame({"id": ids[:30], "fold": [n // 2 % 2 for n in range(30)], "p_tumour": p[:30]})
    test = pd.DataFrame({"id": ids[30:], "fold": 0, "p_tumour": p[30:]})
    examples = rows.assign(y_tumour=truth, cell=[n // 2 % 2 for n in range(30)] + [-1] * 10)
    config = load_config("pcam", ["folds=2", "evaluate.resamples=100"])
    write_run(tmp_path / "run", config, examples, oof, test, 2)
    score(Run(tmp_path / "run"))
    code, libraries = loaded(["score", "run"], tmp_path)
    assert (code, libraries & (KERAS | {"scipy", "sklearn", "matplotlib"})) == (0, set())

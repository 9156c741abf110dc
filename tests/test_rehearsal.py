"""scripts/gpu_rehearsal.py, tiny and on the CPU: every section has its results, and says that they are of a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_rehearsal.py"


@pytest.mark.once
@pytest.mark.slow
def test_the_rehearsal_for_a_gpu_runs_dry_without_tensorflow(tmp_path):
    command = [sys.executable, SCRIPT, "--dry", "--out", tmp_path]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.returncode == 0, process.stdout
    rows = json.loads((tmp_path / "results.json").read_text())
    of = {name: [row for row in rows if row["section"] == name] for name in {row["section"] for row in rows}}
    assert set(of) == {"records", "input", "train", "resume", "system_b"}
    assert not [row for row in rows if {"failed", "cut off after"} & {*row}]
    assert [row["images/s"] > 0 for row in of["input"][:-1]] == [True, True]
    trained = of["train"][:-1]
    assert ["bfloat16" in row["what"] for row in trained] == [True, False]
    assert all("no figure of a GPU" in row["on"] and "share of the peak, bare" not in row for row in trained)
    assert of["resume"][0]["same weights"] == "yes" and of["resume"][0]["resumed in epoch"] == "3"
    fold, search, whole, _ = of["system_b"]
    assert whole["hours"] == pytest.approx(fold["hours"] + search["hours"])
    train, predict = fold["training images/s"], fold["predicting images/s"]
    compiling = float(fold["arithmetic"].split("(")[1].split(" s compiling")[0])
    seconds = 5 * (compiling + 15 * (220_025 * 0.8 / train + 220_025 * 0.2 / predict) + 57_458 / predict)
    assert fold["hours"] == pytest.approx(seconds / 3600, abs=5 * 0.6 / 3600)  # it is printed in whole seconds
    report = (tmp_path / "results.md").read_text()
    assert all(f"## {name}\n" in report for name in of)

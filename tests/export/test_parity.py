"""scripts/export_parity.py on real images: exported models say what the Predictor says, on both backends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "export_parity.py"


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.real
def test_parity_on_real_images(real_data, tmp_path):
    folder = real_data("pcam")
    models = ["plain CNN", "features (linear)"]
    command = [sys.executable, SCRIPT, "--images", folder / "train", "--models", ",".join(models), "--count", "40"]
    subprocess.run([*map(str, command), "--out", str(tmp_path / "table.json")], check=True, capture_output=True)
    table = json.loads((tmp_path / "table.json").read_text())
    assert [*table] == models
    for row in table.values():
        found = {key: value for key, value in row.items() if key != "spread"}
        assert float(row["spread"]) > 0.1  # different probabilities, or nothing would be compared
        assert {*found} == {f"{f}, {b}" for f in ("savedmodel", "onnx", "litert") for b in ("tensorflow", "jax")}
        assert max(found.values()) <= 1e-4

"""docs/extending.md, as it stands: kit installed from a wheel, an empty folder, and nothing else edited."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from tests.outside import PAGE, blocks, write_data

SMALL = [
    "frozen_first=false",
    "folds=2",
    "image.size=32",
    "train.batch_size=8",
    "train.epochs=1",
    "evaluate.resamples=100",
]
SMALL = "".join(f" --set {setting}" for setting in SMALL) + " --no-report"
pytestmark = [pytest.mark.slow, pytest.mark.once]


def commands() -> list[str]:
    """The lines of the page that are to be typed."""
    return re.findall(r"^    (kit .*)$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)


@pytest.fixture
def kit(site, tmp_path, monkeypatch):
    """A function that types a command in an empty folder and returns what it printed."""
    monkeypatch.chdir(tmp_path)
    python = str(site.parents[2] / "bin" / "python")
    environment = {**os.environ, "KIT_HOME": str(tmp_path / "home"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("PYTHONPATH", None)

    def type_in(line, code=0):
        words = [python, "-P", "-m", *shlex.split(line)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == code, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    return type_in


def hashes(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.glob("kit/**/*")) if path.suffix in (".py", ".yaml")}


def install(site: Path, files: dict[str, str]) -> None:
    """The package of the page, as pip would leave it."""
    project = tomllib.loads(files["pyproject.toml"])["project"]
    name = project["name"].replace("-", "_")
    (site / "lesion_tools.py").write_text(files["lesion_tools.py"])
    info = site / f"{name}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


def test_all_of_it_runs_from_an_installed_wheel(kit, site, tmp_path):
    files, before = blocks(), hashes(site)
    write_data(tmp_path / "data")
    for name in ("metrics.py", "nets.py", "losses.py", "aug.py", "own.yaml"):
        (tmp_path / name).write_text(files[name])
    assert "is not installed" not in kit("kit --version")
    printed = []
    for line in commands():
        if "lesion" in line and not (site / "lesion_tools.py").exists():
            install(site, files)
        printed.append(kit(line.replace("DIR", "data") + (SMALL if line.startswith("kit run") else "")))
    assert len(printed) == 9
    assert (tmp_path / "moles.py").read_text() == files["moles.py"].partition("\n")[2]
    assert "out-of-fold metrics.py:pfbeta" in printed[3] and "out-of-fold lesion_share" in printed[8]
    assert "lesion_cnn" in printed[7]
    assert pd.read_csv(tmp_path / "predictions.csv").shape == (60, 3)
    sent = pd.read_csv(tmp_path / "runs/moles/first/submission.csv")
    assert list(sent) == ["id", "label"] and sent["id"].tolist() == [f"m{n}" for n in range(48, 60)]
    held = sorted(path.name for path in (tmp_path / "runs/moles/own/code").iterdir())
    assert held == ["aug.py", "losses.py", "metrics.py", "moles.py", "nets.py"]

    jax = f"{SMALL} --set runtime.backend=jax"
    assert "out-of-fold metrics.py:pfbeta" in kit(f"kit run own.yaml --data data --run runs/moles/jax{jax}")
    (tmp_path / "moles.py").write_text((tmp_path / "moles.py").read_text() + "\n")
    said = kit(f"kit run own.yaml --data data --run runs/moles/own{SMALL}", 2)
    assert "2 folds that would be trained again, as these differ: moles.py has been edited." in said
    (tmp_path / "home" / "trusted.txt").unlink()  # as somebody else
    said = kit("kit predict own.kit.zip --images data/images --out theirs.csv", 2)
    assert "own.kit.zip/code/nets.py" in said and "--trust" in said and not (tmp_path / "theirs.csv").exists()
    kit("kit predict own.kit.zip --images data/images --out theirs.csv --trust")
    assert (tmp_path / "theirs.csv").read_text() == (tmp_path / "predictions.csv").read_text()
    assert hashes(site) == before

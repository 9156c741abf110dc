"""The notebooks and kernels in the repository: written by scripts/make_notebooks.py, and they run."""

import configparser
import importlib.machinery
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from kit.competitions import toy

ROOT = Path(__file__).parents[1]
NETWORK = ["model.name=pcam_cnn", "train.initial_head=random", "train.learning_rate=0.001"]
FAST = [*NETWORK, "folds=2", "image.size=32", "train.epochs=1", "train.batch_size=16", "evaluate.resamples=100"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "scripts" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]["url"]


def test_kernels_and_notebooks_are_what_the_script_writes(script, url):
    for name in script.CONFIGS:
        for path, text in script.pages(name, url).items():
            assert (ROOT / path).read_text() == text, f"{path} is old: run scripts/make_notebooks.py"
        assert script.colab(name, url) in (ROOT / "docs" / "kaggle.md").read_text()


def test_a_kernel_fits_one_screen_and_its_slug_is_its_titles(script, url):
    for name in script.CONFIGS:
        assert len((ROOT / f"kernels/{name}/kernel.py").read_text().splitlines()) <= 75
        metadata = json.loads((ROOT / f"kernels/{name}/kernel-metadata.json").read_text())
        assert (
            metadata["id"].split("/")[1] == metadata["title"].replace(" ", "-") and metadata["enable_internet"] is False
        )


def execute(name, url, script, folder, data, settings):
    """Run a notebook with the folders and settings of a test; returns its folder of results."""
    notebook = nbformat.reads(json.dumps(script.notebook(name, url)), as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.id == "settings":
            cell.source = cell.source.replace(f"/content/drive/MyDrive/kit/{name}", str(folder / "drive"))
            cell.source = cell.source.replace(f"/content/data/{name}", str(data))
            cell.source = cell.source.replace("SETTINGS = []", f"SETTINGS = {settings}")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return folder / "drive" / "first", {cell.id: cell.get("outputs", []) for cell in notebook.cells}


def kinds_of(outputs):
    """The kinds of data (MIME types) that a cell shows."""
    return {kind for output in outputs for kind in output.get("data", ())}


@pytest.mark.once
def test_the_notebook_of_pcam_on_made_up_patches(script, url, tmp_path):
    toy.make(tmp_path / "data", train=160, test=24)
    run, shown = execute("pcam", url, script, tmp_path, tmp_path / "data", [*FAST, "model.arguments={units: 8}"])
    assert len(pd.read_csv(run / "submission.csv")) == 24 and (run / "fold1" / "done.json").exists()
    assert "image/png" in kinds_of(shown["look"]) and "image/png" in kinds_of(shown["curves"])
    tables = [output["data"]["text/html"] for cell in ("run", "scores") for output in shown[cell] if "data" in output]
    assert "out-of-fold roc_auc" in tables[0] and "tumour" in tables[1]
    value = json.loads((run / "scores.json").read_text())["value"]
    assert f"{value:.4f}" in tables[0]


def test_in_colab_drive_is_mounted_and_the_data_fetched_with_the_secret(script, url, tmp_path, monkeypatch):
    """The cells that differ there, with stand-ins for Colab's own modules."""
    did = []
    colab = types.ModuleType("google.colab")
    colab.drive = types.SimpleNamespace(mount=lambda where: did.append(where))
    colab.userdata = types.SimpleNamespace(get=lambda name: f"value of {name}")
    colab.__spec__ = importlib.machinery.ModuleSpec("google.colab", None)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "")
    monkeypatch.setattr("kit.cli.main", lambda words: did.append(words) or 0)
    cells = {cell["id"]: "".join(cell["source"]) for cell in script.notebook("pcam", url)["cells"]}
    assert f'%pip install --quiet "kit[kaggle] @ git+{url}"' in cells["install"]
    drive, data = str(tmp_path / "content/drive/MyDrive"), str(tmp_path / "data")
    source = "import importlib.util\n" + cells["settings"] + "\n" + cells["data"]
    source = source.replace("/content/drive/MyDrive", drive).replace("/content/data/pcam", data)
    exec(source.replace('OUTPUT.parts[:3] == ("/", "content", "drive")', "True"), {})
    assert did == ["/content/drive", ["data", "fetch", "pcam", "--out", data]]
    assert os.environ["KAGGLE_API_TOKEN"] == "value of KAGGLE_API_TOKEN" and (tmp_path / "content").is_dir()


@pytest.mark.once
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs", "rows", "at_least"),
    [  # at_least: chance is .5, and so short a training takes nih, few and small images, not far from it
        ("pneumonia", 2, (4698, 518), 0.85),
        ("nih", 3, (817, 199), 0.45),
        ("breast", 6, (248, 52), 0.6),
    ],
)
def test_the_other_notebooks_on_real_images(script, url, tmp_path, real_data, name, epochs, rows, at_least):
    settings = [*NETWORK, "folds=2", "image.size=32", "model.arguments={units: 32}", "evaluate.resamples=200"]
    run, shown = execute(name, url, script, tmp_path, real_data(name), [*settings, f"train.epochs={epochs}"])
    scores = json.loads((run / "scores.json").read_text())
    assert (scores["rows"], scores.get("test", {}).get("rows")) == rows and scores["value"] > at_least
    submission = pd.read_csv(run / "submission.csv")
    table = pd.read_parquet(run / "examples.parquet")
    assert sorted(submission.iloc[:, 0]) == sorted(table["id"][table["split"] == "test"])
    assert "image/png" in kinds_of(shown["look"]) and "text/html" in kinds_of(shown["scores"])

"""The notebooks and kernels in the repository: written by scripts/make_notebooks.py, and they run."""

import configparser
import importlib.util
import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from kit.competitions import toy
from kit.competitions.breast import COMPETITION as BREAST

ROOT = Path(__file__).parents[1]
FAST = ["folds=2", "image.size=32", "train.epochs=1", "train.batch_size=16", "evaluate.resamples=100"]


@pytest.fixture(scope="module")
def made():
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "scripts" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]["url"]


def test_kernels_and_notebooks_are_what_the_script_writes(made, url):
    for name in made.COMPETITIONS:
        for path, text in made.pages(name, url).items():
            assert (ROOT / path).read_text() == text, f"{path} is old: run scripts/make_notebooks.py"
        assert made.colab(name, url) in (ROOT / "README.md").read_text()


def test_a_kernel_fits_one_screen_and_its_slug_is_its_titles(made, url):
    for name in made.COMPETITIONS:
        assert len((ROOT / f"kernels/{name}/kernel.py").read_text().splitlines()) <= 80
        metadata = json.loads((ROOT / f"kernels/{name}/kernel-metadata.json").read_text())
        assert (
            metadata["id"].split("/")[1] == metadata["title"].replace(" ", "-") and metadata["enable_internet"] is False
        )


def execute(name, url, made, folder, data, settings):
    """Run a notebook with the folders and settings of a test; returns its folder of results."""
    notebook = nbformat.reads(json.dumps(made.notebook(name, url)), as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.id == "folders":
            cell.source = cell.source.replace(f"/content/drive/MyDrive/kit/{name}", str(folder / "drive"))
            cell.source = cell.source.replace(f"/content/data/{name}", str(data))
        if cell.id == "kernel":
            cell.source = cell.source.replace("SETTINGS: list[str] = []", f"SETTINGS = {settings}")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    return folder / "drive", "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )


@pytest.mark.once
def test_the_notebook_of_pcam_on_made_up_patches(made, url, tmp_path):
    toy.make(tmp_path / "data", train=160, test=24)
    out, printed = execute("pcam", url, made, tmp_path, tmp_path / "data", [*FAST, "model.arguments={units: 8}"])
    assert len(pd.read_csv(out / "submission.csv")) == 24
    assert (out / "runs/pcam/kernel/fold1/done.json").exists() and "exit code 0" in printed and "roc_auc" in printed


@pytest.mark.once
@pytest.mark.real
def test_the_notebook_of_breast_on_real_images(made, url, tmp_path, real_data):
    assert BREAST.slug is None, "the other notebooks fetch their data; this one is given it"
    out, printed = execute(
        "breast", url, made, tmp_path, real_data("breast"), [*FAST, "model.name=pneumonia_mlp", "model.arguments={}"]
    )
    assert (out / "scores.json").exists() and "exit code 0" in printed

"""Write `kernels/COMP/`, `notebooks/COMP.ipynb` and docs/kaggle.md's badges from kit/kaggle/kernel.py.

python scripts/make_notebooks.py            # run it again when the kernel, or `url` in setup.cfg, has changed
"""

import configparser
import re
from pathlib import Path

from kit import files
from kit.competitions import find_competition
from kit.kaggle import bundle

ROOT = Path(__file__).resolve().parents[1]
COMPETITIONS = ("pcam", "rsna", "pneumonia", "nih", "breast")

WRITTEN = (
    "# Written by scripts/make_notebooks.py from kit/kaggle/kernel.py, which is what `kit submit` pushes: edit that."
)

INTRODUCTION = """# {title}, with kit

[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({badge})

Run the cells in order, on a GPU (Runtime, Change runtime type). Results are kept in your Google Drive: when the session
ends early, run the same cells in the next one, and training continues from its last epoch."""

INSTALL = """import importlib.util

if not importlib.util.find_spec("kit"):
    %pip install --quiet "kit[kaggle] @ git+{url}\""""

DRIVE = """import pathlib

OUTPUT = pathlib.Path("/content/drive/MyDrive/kit/{name}")  # run directories
DATA = "{data}"  # raw files
if importlib.util.find_spec("google.colab") and OUTPUT.parts[:3] == ("/", "content", "drive"):
    from google.colab import drive

    drive.mount("/content/drive")
OUTPUT.mkdir(parents=True, exist_ok=True)"""

FETCH = """import os

from kit.cli import main as kit

if not pathlib.Path(DATA).exists():  # with the secret KAGGLE_API_TOKEN, and the rules accepted on Kaggle's page
    if importlib.util.find_spec("google.colab"):
        from google.colab import userdata

        os.environ["KAGGLE_API_TOKEN"] = userdata.get("KAGGLE_API_TOKEN")
    assert kit(["data", "fetch", "{name}", "--out", DATA]) == 0"""

OWN = """from kit.cli import main as kit

assert pathlib.Path(DATA).exists(), f"put the raw files into {{DATA}} (docs/data.md)\""""

SHOW = """assert main(**PLAN | {"data": DATA}) == 0
kit(["score", str(OUTPUT / "runs" / PLAN["competition"] / "kernel")])"""


def main() -> None:
    """Write them all."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    url = setup["metadata"]["url"]
    for name in COMPETITIONS:
        for path, text in pages(name, url).items():
            files.write_text(ROOT / path, text)
            print(path)
    page = ROOT / "docs" / "kaggle.md"
    text = re.sub(r"(?s)(<!-- badges -->\n).*?(<!-- /badges -->)", rf"\1{badges(url)}\2", page.read_text())
    files.write_text(page, text)


def pages(name: str, url: str) -> dict[str, str]:
    """The files of a competition: their paths in the repository, and texts."""
    datasets = [bundle.dataset_ref(bundle.OWNER, bundle.WHEEL_TITLE)]
    metadata = bundle.kernel_metadata(name, find_competition(name), bundle.OWNER, "gpu", datasets)
    return {
        f"kernels/{name}/kernel.py": f"{WRITTEN}\n{bundle.kernel_source(name)}",
        f"kernels/{name}/kernel-metadata.json": files.json_text(metadata),
        f"notebooks/{name}.ipynb": files.json_text(notebook(name, url)),
    }


def notebook(name: str, url: str) -> dict:
    """The kernel as a notebook for Colab: installed from the repository, Drive as its output folder."""
    competition = find_competition(name)
    code = bundle.kernel_source(name).split('"""\n', 1)[1].split('\n\nif __name__ == "__main__"')[0]
    kernel = "\n".join(line for line in code.split("\n") if not line.startswith("OUTPUT = "))
    data = f"/content/data/{name}"
    cells = [
        ("introduction", INTRODUCTION.format(title=competition.title, badge=colab(name, url))),
        ("install", INSTALL.format(url=url)),
        ("folders", DRIVE.format(name=name, data=data)),
        ("data", (FETCH if competition.slug else OWN).format(name=name)),
        ("kernel", kernel.strip()),
        ("run", SHOW),
    ]
    return {
        "cells": [cell(kind, text) for kind, text in cells],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def cell(kind: str, text: str) -> dict:
    """A cell of a notebook; its id says what it is."""
    content = {"cell_type": "code", "id": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    if kind == "introduction":
        return {**content, "cell_type": "markdown"}
    return {**content, "execution_count": None, "outputs": []}


def colab(name: str, url: str) -> str:
    """The address at which Colab opens a notebook of the repository."""
    repository = url.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"


def badges(url: str) -> str:
    """A line per notebook: a badge that opens it in Colab."""
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return "".join(f"[![Open {name} in Colab]({badge})]({colab(name, url)}) `{name}`\n" for name in COMPETITIONS)


if __name__ == "__main__":
    main()

"""Write `kernels/CONFIG/` from kit/kaggle/kernel.py, and `notebooks/CONFIG.ipynb` and docs/kaggle.md's badges.

python scripts/make_notebooks.py      # again when the kernel, a cell below or `url` in setup.cfg has changed
"""

import configparser
import re
from pathlib import Path

from kit import files
from kit.competition import Competition
from kit.competitions import find_competition
from kit.config import load_config
from kit.kaggle import bundle

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("pcam", "rsna", "rsna_boxes", "pneumonia", "nih", "breast")

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

SETTINGS = """import pathlib

import kit

OUTPUT = pathlib.Path("/content/drive/MyDrive/kit/{name}")  # run directories
DATA = pathlib.Path("/content/data/{name}")  # raw files
SETTINGS = []  # what differs from configs/{name}.yaml, such as "train.epochs=5"; `!kit settings` lists them all

if importlib.util.find_spec("google.colab") and OUTPUT.parts[:3] == ("/", "content", "drive"):
    from google.colab import drive

    drive.mount("/content/drive")
OUTPUT.mkdir(parents=True, exist_ok=True)"""

FETCH = """import os

from kit.cli import main

if not DATA.exists():  # with the secret KAGGLE_API_TOKEN, and the rules accepted on Kaggle's page
    if importlib.util.find_spec("google.colab"):
        from google.colab import userdata

        os.environ["KAGGLE_API_TOKEN"] = userdata.get("KAGGLE_API_TOKEN")
    assert main(["data", "fetch", "{name}", "--out", str(DATA)]) == 0"""

OWN = """assert DATA.exists(), f"put the raw files into {{DATA}} (docs/data.md)\""""

LOOK = """import matplotlib.pyplot as plt

from kit.data.pixels.prepared import prepare_file

config = kit.load_config("{name}", SETTINGS)
examples = kit.pipeline.list_examples(config, DATA)
train = examples.table[examples.table["split"] == "train"]

seen = train.sample(min(18, len(train)), random_state=0)

figure, grid = plt.subplots(3, 6, figsize=(12, 6.5), layout="constrained")
for axes in grid.flat:
    axes.axis("off")
for axes, (_, row) in zip(grid.flat, seen.iterrows()):
    axes.imshow(prepare_file(DATA / row["path"], config.image), cmap="gray")  # as the model will see it
    labels = [label for label in examples.labels if row[f"y_{{label}}"] == 1]
    axes.set_title(", ".join(labels) or "none of the labels", fontsize=8)
{boxes}plt.show()"""

BOXES = """
from kit.boxes import boxes_of
from kit.data.pixels.geometry import to_shares

sides = (seen[side].to_numpy() for side in ("height", "width"))
boxes = to_shares(boxes_of(seen, examples.labels), *sides, config.image)
for n, (x, y, width, height) in zip(boxes.image, boxes.xywh * config.image.size):
    grid.flat[n].add_patch(plt.Rectangle((x, y), width, height, fill=False, color="lime"))
"""

RUN_TEXT = """## Training

A model for each fold; predictions, scores and a checked submission lie in `OUTPUT`. Finished stages are skipped."""

RUN = """run = kit.run("{name}", data=DATA, run=OUTPUT / "first", settings=SETTINGS)
run"""

CURVES = """import pandas as pd

figure, (losses, scores) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
for k in run.trained_folds():
    history = pd.read_csv(run.fold(k).history)
    metric = next(name for name in history if name.startswith("val_") and name != "val_loss")
    epochs = history["epoch"] + 1
    losses.plot(epochs, history["loss"], f"C{{k}}--")
    if "val_loss" in history:
        losses.plot(epochs, history["val_loss"], f"C{{k}}-")
    scores.plot(epochs, history[metric], f"C{{k}}-", label=f"fold {{k + 1}}")
    scores.set(title=metric, xlabel="epoch")
losses.set(title="loss: dashed in training, solid (of probabilities) on the fold's own images", xlabel="epoch")
scores.legend(frameon=False)
plt.show()"""

REPORT_TEXT = """## Report

`report.html` in the run's folder says it all on one page, which needs nothing else: download it, print it."""

REPORT = """import html

from IPython.display import HTML

if run.report_path.exists():
    page = html.escape(run.report_path.read_text(encoding="utf-8"))
    display(HTML(f'<iframe srcdoc="{{page}}" width="100%" height="900" style="border: 0"></iframe>'))"""

SCORES = """pd.DataFrame({label: score.model_dump() for label, score in run.scores.labels.items()}).T"""


def main() -> None:
    """Write them all."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    url = setup["metadata"]["url"]
    for name in CONFIGS:
        for path, text in pages(name, url).items():
            files.write_text(ROOT / path, text)
            print(path)
    page = ROOT / "docs" / "kaggle.md"
    text = re.sub(r"(?s)(<!-- badges -->\n).*?(<!-- /badges -->)", rf"\1{badges(url)}\2", page.read_text())
    files.write_text(page, text)


def pages(name: str, url: str) -> dict[str, str]:
    """The files of a config: their paths in the repository, and texts."""
    datasets = [bundle.dataset_ref(bundle.OWNER, bundle.WHEEL_TITLE)]
    metadata = bundle.kernel_metadata(bundle.kernel_title(name), competition_of(name), bundle.OWNER, "gpu", datasets)
    return {
        f"kernels/{name}/kernel.py": f"{WRITTEN}\n{bundle.kernel_source(name)}",
        f"kernels/{name}/kernel-metadata.json": files.json_text(metadata),
        f"notebooks/{name}.ipynb": files.json_text(notebook(name, url)),
    }


def competition_of(name: str) -> Competition:
    """The competition of a config, with the config's target."""
    config = load_config(name)
    return find_competition(config.competition, config)


def notebook(name: str, url: str) -> dict:
    """A notebook for Colab: kit installed from the repository, Drive as its output folder."""
    competition = competition_of(name)
    title = competition.title + f": {competition.chosen}" * (name != competition.name)
    boxes = BOXES if competition.target.task == "detection" else ""
    cells = [
        ("introduction", INTRODUCTION.format(title=title, badge=colab(name, url))),
        ("install", INSTALL.format(url=url)),
        ("settings", SETTINGS.format(name=name)),
        ("data", (FETCH if competition.slug else OWN).format(name=name)),
        ("look-text", "## The data\n\nTraining images as the model will see them, with their labels."),
        ("look", LOOK.format(name=name, boxes=boxes)),
        ("run-text", RUN_TEXT),
        ("run", RUN.format(name=name)),
        ("curves-text", "## Curves"),
        ("curves", CURVES.format()),
        ("scores-text", "## Scores of each label\n\nOut of fold, with their intervals; `!kit score RUN` says more."),
        ("scores", SCORES),
        ("report-text", REPORT_TEXT),
        ("report", REPORT.format()),
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
    if kind == "introduction" or kind.endswith("-text"):
        return {**content, "cell_type": "markdown"}
    return {**content, "execution_count": None, "outputs": []}


def colab(name: str, url: str) -> str:
    """The address at which Colab opens a notebook of the repository."""
    repository = url.removeprefix("https://github.com/")
    return f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"


def badges(url: str) -> str:
    """A line per notebook: a badge that opens it in Colab."""
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return "".join(f"[![Open {name} in Colab]({badge})]({colab(name, url)}) `{name}`\n" for name in CONFIGS)


if __name__ == "__main__":
    main()

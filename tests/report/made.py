"""Small runs of every task, whose files are made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd

from kit import files
from kit.config import load_config
from kit.run import FORMAT_VERSION, Run
from kit.schemas import Folds

NASTY = '<script>alert("1")</script> & $a_b$'
ROWS, TESTS, FOLDS = 60, 12, 2
RECIPES = {"binary": "pcam", "multiclass": "breast", "multilabel": "nih", "detection": "rsna_boxes"}
HISTORY = "epoch,phase,loss,val_loss,val_roc_auc,learning_rate\n0,0,.7,.6,.7,.001\n1,1,.5,.55,.8,.0001\n"


def make(
    folder: Path, task: str = "binary", labels: tuple[str, ...] = (NASTY,), noise: float = 1.0, seed: int = 0
) -> Run:
    """A run of 60 training images of 30 patients, in two folds, and 12 test images with labels; not scored yet."""
    rng = np.random.default_rng(seed)
    count, ids = ROWS + TESTS, [f"image {n:02} <i>" for n in range(ROWS + TESTS)]
    split = np.array(["train"] * ROWS + ["test"] * TESTS)
    group = np.where(split == "train", [f"p{n // 2}" for n in range(count)], ids)
    cell = np.where(split == "train", np.arange(count) // 2 % FOLDS, -1)
    examples = pd.DataFrame({"id": ids, "path": ids, "bytes": 1, "split": split, "group": group, "cell": cell})
    examples["sex"] = np.where(np.arange(count) % 3 == 0, "F", "M")
    y = truth(task, count, len(labels))
    examples = examples.assign(**{f"y_{label}": np.float32(y[:, n]) for n, label in enumerate(labels)})
    predicted = pd.DataFrame({"id": ids})
    if task == "detection":
        examples, predicted = with_boxes(examples, predicted, y, labels, rng)
    else:
        p = probabilities(task, y, noise, rng)
        predicted = predicted.assign(**{f"p_{label}": np.float32(p[:, n]) for n, label in enumerate(labels)})
    config = load_config(RECIPES[task], [f"folds={FOLDS}", "evaluate.resamples=100"])
    identity = dict.fromkeys(("training", "test", "image"), "made by hand")
    cells = [[k] for k in range(FOLDS)]
    split_into = Folds(format_version=FORMAT_VERSION, task=task, labels=labels, cells=FOLDS, folds=cells, **identity)
    run = Run(folder)
    run.prepare(config, examples, split_into)
    files.write_parquet(run.oof_path, predicted[:ROWS].assign(fold=cell[:ROWS]))
    files.write_parquet(run.test_path, predicted[ROWS:].assign(fold=0))
    files.write_json(run.environment_path, {"host": "here", "packages": {"kit": NASTY}, "device": {"names": []}})
    for k in range(FOLDS):
        files.write_text(run.fold(k).history, HISTORY)
        files.write_text(run.fold(k).done, "{}")
    return run


def truth(task: str, count: int, labels: int) -> np.ndarray:
    """Classes in turn, or labels of which each occurs in another share of the images."""
    if task == "multiclass":
        return np.eye(labels)[np.arange(count) % labels]
    return np.stack([np.arange(count) // (n + 1) % 2 for n in range(labels)], axis=1).astype(float)


def probabilities(task: str, y: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Probabilities that know the truth but for noise."""
    logits = 2 * y - 1 + rng.normal(0, noise, y.shape)
    if task == "multiclass":
        return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return 1 / (1 + np.exp(-logits))


def with_boxes(
    examples: pd.DataFrame, predicted: pd.DataFrame, y: np.ndarray, labels: tuple[str, ...], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A box of each label that an image has; predicted are these, a little moved, and one more anywhere."""
    true, found, scores, names, found_names = [], [], [], [], []
    for row in y:
        own = [labels[n] for n in np.flatnonzero(row)]
        boxes = [[20.0 + 90 * labels.index(name), 30.0, 60.0, 80.0] for name in own]
        true.append(boxes)
        names.append(own)
        moved = [[x + rng.uniform(-8, 8), y + rng.uniform(-8, 8), w, h] for x, y, w, h in boxes]
        found.append([*moved, [rng.uniform(0, 100), 150.0, 40.0, 40.0]])
        scores.append([*rng.uniform(0.4, 1, len(own)), rng.uniform(0.05, 0.6)])
        found_names.append([*own, labels[0]])
    examples = examples.assign(boxes=true, width=300.0, height=240.0)
    if len(labels) > 1:
        examples = examples.assign(box_labels=names)
    return examples, predicted.assign(boxes=found, box_scores=scores, box_labels=found_names)

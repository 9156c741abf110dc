"""Two virtual CPU devices train as one does; each in a process of its own, as a process has one strategy."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

SETTINGS = [
    "folds=2",
    "image.size=32",
    "model.arguments={units: 8, dropout: 0}",
    "augment.preset=none",
    "augment.horizontal_flip=false",
    "augment.vertical_flip=false",
    "augment.rotation=0",
    "augment.shift=0",
    "augment.zoom=0",
    "augment.brightness=0",
    "augment.channel_shift=0",
    "train.epochs=2",
    "train.optimizer=sgd",  # Adam divides tiny gradients by tiny ones, and rounding becomes a difference
    "train.batch_size=16",
    "predict.batch_size=25",
    "runtime.steps_per_execution=2",
]
CODE = """
import sys
from pathlib import Path
from kit import pipeline
from kit.config import load_config
from kit.data.records import open_records
records, run = open_records(Path(sys.argv[1])), Path(sys.argv[2])
pipeline.train(load_config("toy", sys.argv[3:]), records, run, only=[0])
pipeline.predict(run, records)
"""


def trained(records, run, *settings, backend, **environment):
    command = [sys.executable, "-c", CODE, str(records.directory), str(run), *SETTINGS, *settings]
    environment = {**os.environ, "KERAS_BACKEND": backend, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(("backend", "tolerance"), [("tensorflow", 1e-4), ("jax", 1e-5)])
def test_two_devices_train_as_one_does(toy_records, tmp_path, backend, tolerance):
    histories = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        done = trained(toy_records, run, f"runtime.devices={devices}", backend=backend)
        assert done.returncode == 0, done.stderr[-2000:]
        histories.append(pd.read_csv(run / "fold0" / "history.csv"))
        environment = json.loads((run / "environment.json").read_text())
        assert len(environment["device"]["names"]) == devices
        oof = pd.read_parquet(run / "oof.parquet")
        folds = json.loads((run / "folds.json").read_text())["folds"]
        assert sorted(oof["id"]) == sorted(toy_records.rows(folds[0])["id"])  # every one exactly once
        # what is saved scores as what was trained: batch statistics are those of all devices together
        assert len(oof) % 25
        y, p = oof["y_tumour"].to_numpy(), oof["p_tumour"].to_numpy(np.float64)
        loss = -np.mean(np.where(y > 0.5, np.log(p), np.log1p(-p)))
        best = histories[-1]["val_roc_auc"].argmax()
        assert loss == pytest.approx(histories[-1]["val_loss"][best], abs=1e-3)
    one, two = histories
    assert np.allclose(one["loss"], two["loss"], atol=tolerance)
    assert np.allclose(
        one["val_loss"], two["val_loss"], atol=30 * tolerance
    )  # of other weights by then, in the last bits


def test_what_several_devices_refuse(toy_records, tmp_path):
    done = trained(toy_records, tmp_path, "runtime.devices=2", "train.batch_size=15", backend="tensorflow")
    assert "does not split evenly over 2 devices, 1 parts each: make it a multiple of 2, such as 14" in done.stderr
    workers = json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}})
    done = trained(toy_records, tmp_path, backend="tensorflow", TF_CONFIG=workers)
    assert "cannot fit a model under TensorFlow's multi-worker strategy" in done.stderr

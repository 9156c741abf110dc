"""Two virtual CPU devices train as one does; each in a process of its own, as a process has one strategy."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from kit import files

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
import os, sys
from pathlib import Path
from kit import pipeline
from kit.config import load_config
from kit.data.records.manifest import open_records
from kit.runtime.session import Deadline
records, run = open_records(Path(sys.argv[1])), Path(sys.argv[2])
only = [0] if os.environ["KERAS_BACKEND"] == "jax" else None  # a second fold must not make a second strategy
deadline = Deadline(0) if "KIT_TEST_STOP" in os.environ else None
if pipeline.train(load_config("toy", sys.argv[3:]), records, run, only=only, deadline=deadline):
    pipeline.predict(run, records)
"""


def training(records, run, *settings, backend, **environment):
    """A process that trains and predicts, under JAX fold 0 alone."""
    command = [sys.executable, "-c", CODE, str(records.directory), str(run), *SETTINGS, *settings]
    environment = {**os.environ, "KERAS_BACKEND": backend, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def trained(*arguments, **named):
    """How it ended, and what it wrote to standard error."""
    process = training(*arguments, **named)
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.parametrize(("backend", "tolerance"), [("tensorflow", 1e-4), ("jax", 1e-5)])
def test_two_devices_train_as_one_does(toy_records, tmp_path, backend, tolerance):
    histories = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        code, errors = trained(toy_records, run, f"runtime.devices={devices}", backend=backend)
        assert code == 0, errors[-2000:]
        histories.append(pd.read_csv(run / "fold0" / "history.csv"))
        environment = json.loads((run / "environment.json").read_text())
        assert len(environment["device"]["names"]) == devices
        oof = pd.read_parquet(run / "fold0" / "oof.parquet")
        assert pd.read_parquet(run / "oof.parquet")["id"].is_unique
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


def two_hosts(records, folder, *environments):
    """Two processes that train together, each with a run directory of its own; how each ended, and its errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    hosts = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    processes = [
        training(records, folder / str(n), backend="jax", KERAS_DISTRIBUTION_PROCESS_ID=str(n), **hosts, **more)
        for n, more in enumerate(environments)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    return [process.returncode for process in processes], errors


def test_two_hosts_train_as_one_does(toy_records, tmp_path):
    codes, errors = two_hosts(toy_records, tmp_path, {}, {})
    assert codes == [0, 0], errors[0][-1000:] + errors[1][-1000:]
    assert trained(toy_records, tmp_path / "alone", backend="jax")[0] == 0
    one, two, alone = (pd.read_csv(tmp_path / name / "fold0" / "history.csv") for name in ("0", "1", "alone"))
    assert np.allclose(one["loss"], two["loss"], atol=1e-6)
    assert np.allclose(one["loss"], alone["loss"], atol=1e-5)
    assert len(pd.read_parquet(tmp_path / "1" / "oof.parquet")) == len(pd.read_parquet(tmp_path / "alone/oof.parquet"))


def test_hosts_stop_together_and_go_on_only_together(toy_records, tmp_path):
    codes, errors = two_hosts(toy_records, tmp_path, {"KIT_TEST_STOP": "1"}, {})  # one has no time, the other has
    assert codes == [0, 0], errors[0][-1000:] + errors[1][-1000:]
    assert not list(tmp_path.glob("*/fold0/done.json"))
    state = tmp_path / "1" / "fold0" / "state" / "state.json"
    files.write_json(state, {"history": [{}]})
    codes, errors = two_hosts(toy_records, tmp_path, {}, {})
    assert codes[0] and codes[1]
    assert all("the hosts stand at different epochs (0, 1)" in error for error in errors)


def test_what_several_devices_refuse(toy_records, tmp_path):
    _, errors = trained(toy_records, tmp_path, "runtime.devices=2", "train.batch_size=15", backend="tensorflow")
    assert "does not split evenly over 2 devices, 1 parts each: make it a multiple of 2, such as 14" in errors
    _, errors = trained(toy_records, tmp_path, "runtime.devices=2", "train.clip_norm=1", backend="tensorflow")
    assert "clipping of gradients (train.clip_norm) would be done on each device's part by itself" in errors
    workers = json.dumps({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}})
    _, errors = trained(toy_records, tmp_path, backend="tensorflow", TF_CONFIG=workers)
    assert "cannot fit a model under TensorFlow's multi-worker strategy" in errors

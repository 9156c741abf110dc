"""Two virtual CPU devices, or two hosts, train as one device does; in processes, which have one strategy each."""

import json
import os
import socket
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest

from kit import pipeline
from kit.config import RuntimeSettings, load_config
from kit.errors import ConfigError
from kit.run import Run
from kit.runtime import devices

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
from kit import files, pipeline
from kit.config import load_config
from kit.data.records.manifest import open_records
from kit.run import Run
from kit.runtime.session import Deadline
records, run = open_records(Path(sys.argv[1])), Run(sys.argv[2])
config = load_config("toy", sys.argv[3:])
# under TensorFlow on two devices, a second fold must not make a second strategy
only = None if os.environ["KERAS_BACKEND"] == "tensorflow" and "runtime.devices=2" in sys.argv else [0]
if state := os.environ.get("KIT_TEST_STOP"):  # before any epoch; then this host alone goes on from one
    assert not pipeline.train(config, records, run, only=only, deadline=Deadline(0 if state == "first" else 1e9))
    assert not run.fold(0).done.exists()
    if state == "second":
        files.write_json(run.fold(0).state.state, {"history": [{}]})
if pipeline.train(config, records, run, only=only):
    pipeline.predict(run, records)
"""


def training(records, run, *settings, backend, **environment):
    """A process that trains and predicts: fold 0 alone, but where two folds are another matter."""
    command = [sys.executable, "-c", CODE, str(records.directory), str(run), *SETTINGS, *settings]
    environment = {**os.environ, "KERAS_BACKEND": backend, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def trained(*arguments, **named):
    """How it ended, and what it wrote to standard error."""
    process = training(*arguments, **named)
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.fixture(scope="module")
def on_devices(toy_records, tmp_path_factory):
    """A function: backend and number of devices -> the run directory of a training on them; each is run once."""

    @cache
    def run(backend, count):
        folder = tmp_path_factory.mktemp(backend) / str(count)
        code, errors = trained(toy_records, folder, f"runtime.devices={count}", backend=backend)
        assert code == 0, errors[-2000:]
        return folder

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "tolerance"), [("tensorflow", 1e-4), ("jax", 1e-5)])
def test_two_devices_train_as_one_does(toy_records, on_devices, backend, tolerance):
    histories = []
    for count in (1, 2):
        run = on_devices(backend, count)
        histories.append(pd.read_csv(run / "fold0" / "history.csv"))
        environment = json.loads((run / "environment.json").read_text())
        assert len(environment["device"]["names"]) == count
        oof = pd.read_parquet(run / "fold0" / "oof.parquet")
        assert pd.read_parquet(run / "oof.parquet")["id"].is_unique
        folds = json.loads((run / "folds.json").read_text())["folds"]
        assert sorted(oof["id"]) == sorted(toy_records.rows(folds[0])["id"])  # every one exactly once
        # what is saved scores as what was trained: batch statistics are those of all devices together
        assert len(oof) % 25
        y = toy_records.table.set_index("id")["y_tumour"][oof["id"]].to_numpy()
        p = oof["p_tumour"].to_numpy(np.float64)
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


@pytest.mark.slow
def test_two_hosts_train_as_one_does(toy_records, on_devices, tmp_path):
    codes, errors = two_hosts(toy_records, tmp_path, {}, {})
    assert codes == [0, 0], errors[0][-1000:] + errors[1][-1000:]
    runs = tmp_path / "0", tmp_path / "1", on_devices("jax", 1)
    one, two, alone = (pd.read_csv(run / "fold0" / "history.csv") for run in runs)
    assert np.allclose(one["loss"], two["loss"], atol=1e-6)
    assert np.allclose(one["loss"], alone["loss"], atol=1e-5)
    assert len({len(pd.read_parquet(run / "oof.parquet")) for run in runs}) == 1


@pytest.mark.slow
def test_hosts_stop_together_and_go_on_only_together(toy_records, tmp_path):
    # one has no time left, the other has: neither trains; then the other one's state is an epoch ahead
    codes, errors = two_hosts(toy_records, tmp_path, {"KIT_TEST_STOP": "first"}, {"KIT_TEST_STOP": "second"})
    assert codes[0] and codes[1]
    assert all("the hosts were killed at different epochs (0, 1)" in error for error in errors), errors
    assert not list(tmp_path.glob("*/fold0/done.json"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "train.batch_size=15",
            "does not split evenly over 2 devices, 1 parts each: make it a multiple of 2, such as 14",
        ),
        (
            "train.clip_norm=1",
            r"gradients would be clipped \(train.clip_norm\) on each device by itself",
        ),
    ],
    ids=["shares", "clipping"],
)
def test_what_several_devices_refuse(keras, toy_records, tmp_path, monkeypatch, setting, message):
    two = devices.Device("tensorflow", "CPU", ("CPU", "CPU"), "float32", "auto")
    monkeypatch.setattr(devices, "set_up", lambda settings: two)
    with pytest.raises(ConfigError, match=message):
        pipeline.train(load_config("toy", [*SETTINGS, setting]), toy_records, Run(tmp_path / "run"))


@pytest.mark.once
def test_tensorflows_workers_are_refused(keras, monkeypatch):
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    with pytest.raises(ConfigError, match="cannot fit a model under TensorFlow's multi-worker strategy"):
        devices.set_up(RuntimeSettings())

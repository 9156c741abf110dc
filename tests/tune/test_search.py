"""The search: its space, which cells it may see, and that it resumes after a kill."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml

from kit import files
from kit.cli import main
from kit.config import load_config
from kit.data.table.cells import split_folds
from kit.errors import ConfigError, DataError, TrainingError
from kit.evaluate.metrics import METRICS, Metric
from kit.stages import train as fold
from kit.tune.search import inner_folds, search
from kit.tune.space import Space, check_space, read_space, space_names
from kit.tune.trials import run_trials

# A trial on toy data is nearly all tracing: here of one step, not of a loop of several, and of a light optimiser.
CHEAP = ["runtime.steps_per_execution=1", "train.optimizer=sgd"]
SETTINGS = ["folds=3", "train.batch_size=16", "predict.batch_size=64", *CHEAP, "model.arguments={units: 8}"]
SMALL = {
    "epochs": 2,
    "space": {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.arguments.units": [4, 8],
    },
}


class First:
    """Stands in for an Optuna trial: suggests the first of everything, and records the calls."""

    def __init__(self):
        self.calls = {}

    def suggest_categorical(self, name, choices):
        self.calls[name] = choices
        return choices[0]

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self.calls[name] = ("int", low, high, step, log)
        return low

    def suggest_float(self, name, low, high, *, step=None, log=False):
        self.calls[name] = ("float", low, high, step, log)
        return low


@pytest.fixture
def write_space(tmp_path):
    def write(value):
        path = tmp_path / "space.yaml"
        path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
        return str(path)

    return write


def wait_until(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "timed out"
        time.sleep(0.1)


def states(run):
    return pd.read_csv(run / "trials.csv")["state"].value_counts().to_dict()


def test_a_space_in_all_its_forms(write_space):
    read = read_space(
        write_space(
            "pruner: asha\nspace:\n  train.learning_rate: {low: 1e-5, high: 1e-1, log: true}\n  train.epochs: [1, 2]\n"
            "  model.arguments: [{}, {units: 3}]\n  model.arguments.filters: {repeat: 2, choices: [8, 16]}\n"
            "  train.batch_size: {low: 8, high: 24, step: 8}\n  model.arguments.dropout: {low: 0, high: 0.5}\n"
        )
    )
    trial = First()
    settings = read.suggest(trial)
    assert trial.calls == {
        "train.learning_rate": ("float", 1e-5, 0.1, None, True),
        "train.epochs": [1, 2],
        "model.arguments": ["{}", "{units: 3}"],
        "model.arguments.filters.0": [8, 16],
        "model.arguments.filters.1": [8, 16],
        "train.batch_size": ("int", 8, 24, 8, False),
        "model.arguments.dropout": ("float", 0, 0.5, None, False),
    }
    config = load_config("pcam_scratch", settings)
    assert (config.train.learning_rate, config.train.epochs, config.train.batch_size) == (1e-5, 1, 8)
    assert config.model.arguments == {"filters": [8, 8], "dropout": 0}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"space": {"train.learning_ratee": [1]}}, "'train.learning_ratee'; did you mean 'train.learning_rate'"),
        ({"space": {"train.optimizer": ["adam", "adma"]}}, "train.optimizer = 'adma'"),
        ({"space": {"train.batch_size": {"low": 0, "high": 8}}}, "train.batch_size = 0"),
        ({"space": {"model.arguments.unitz": [1]}}, "unitz is not an argument of pcam_cnn; did you mean 'units'"),
        (
            {"space": {"train.batch_size": {"low": 8, "hihg": 9}}},
            "did you mean 'space.train.batch_size.high'?",
        ),
        ({"space": {"train.batch_size": {"low": 8}}}, "train.batch_size = {'low': 8}: low and high are two numbers"),
        ({"space": {"train.batch_size": {"low": 8, "high": 9, "choices": [3]}}}, "either choices, or low and high"),
        ({"space": {"train.batch_size": {"low": 8, "high": 20, "step": 8}}}, "not a whole number of steps above low"),
        ({"space": {"train.learning_rate": {"low": 0, "high": 1, "log": True}}}, "log needs low > 0"),
        ({"space": {"train.batch_size": 8}}, "train.batch_size = 8: write a list of choices"),
        ({"space": {"train.batch_size": []}}, "train.batch_size.choices = []"),
        ({"space": {}}, "space = {}"),
        ({"prunner": "asha", "space": {"train.batch_size": [8]}}, "unknown setting 'prunner'; did you mean 'pruner'"),
        ({"pruner": "median", "space": {"train.batch_size": [8]}}, "pruner = 'median'"),
        ({"space": {"seed": [1, 2]}}, "seed cannot be searched"),
        ({"space": {"image.size": [32, 64]}}, "image.size cannot be searched"),
        ({"epochs": 3, "space": {"train.epochs": [1, 2]}}, "train.epochs is both searched"),
        ("- a list", "must hold `key: value` lines"),
        ("space: [", "is not valid YAML"),
    ],
)
def test_a_bad_space_is_one_clear_line_before_any_data_is_looked_at(space, message, write_space, tmp_path, capsys):
    call = [
        "search",
        "pcam_scratch",
        "--space",
        write_space(space),
        "--trials",
        "3",
        "--records",
        str(tmp_path / "none"),
    ]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("kit: ")
    assert error.count("\n") == 1


def test_what_cannot_be_searched_together(write_space):
    phases = "train.phases=[{epochs: 1, learning_rate: 0.1}]"
    with pytest.raises(ConfigError, match="has no effect beside"):
        check_space(Space(space={"train.learning_rate": [1.0]}), "x", "pcam_scratch", [phases])
    with pytest.raises(ConfigError, match="is both searched"):
        check_space(Space(space={"train.optimizer": ["sgd"]}), "x", "pcam_scratch", ["train.optimizer=adam"])
    with pytest.raises(ConfigError, match="unknown space 'pcam_cn'; did you mean 'pcam_cnn'"):
        read_space("pcam_cn")
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        read_space(write_space("")[:-5] + "none.yaml")


def test_the_spaces_that_come_with_the_kit(keras):
    from kit.models import registry

    assert space_names() == ["nih_cnn", "pcam_cnn"]
    for name in space_names():
        chosen = read_space(name)
        check_space(chosen, name, "nih_scratch", [])
        check_space(chosen, name, "toy", [])
        model = load_config("toy", chosen.suggest(First())).model
        assert registry.build(model.name, shape=(96, 96, 3), outputs=1, **model.arguments).count_params() > 1000


@pytest.mark.parametrize(("cells", "folds", "inner"), [(60, 5, 6), (60, 3, 4), (60, 10, 9), (60, 2, 2), (6, 3, 3)])
def test_the_inner_folds_leave_out_what_fold_0_holds(cells, folds, inner):
    held = split_folds(cells, folds, 7)[0]
    dealt = inner_folds(cells, folds, 7)
    assert len(dealt) == inner
    assert sorted([*held, *(cell for cells in dealt for cell in cells)]) == list(range(cells))
    with pytest.raises(ConfigError, match="set folds=3 or more"):
        inner_folds(2, 2, 7)


@pytest.mark.slow
def test_a_killed_search_resumes_and_never_sees_the_cells_fold_0_is_validated_on(
    keras, toy_records, tmp_path, write_space, monkeypatch, capsys
):
    run, seen = tmp_path / "runs" / "toy" / "search", set()
    held = set(split_folds(toy_records.cells, 3, 0)[0])
    real = {name: getattr(fold, name) for name in ("train_batches", "eval_batches", "_fit")}

    def spying(name):
        def spy(records, cells, *rest, **more):
            seen.update(cells)
            return real[name](records, cells, *rest, **more)

        monkeypatch.setattr(fold, name, spy)

    def dying(*arguments):
        def die(epoch, logs):
            if epoch == 0:
                raise KeyboardInterrupt

        callback = keras.callbacks.LambdaCallback(on_epoch_end=die)
        return real["_fit"](*arguments[:-1], [*arguments[-1], callback])

    def go(trials):
        return search(
            "toy",
            write_space({"pruner": "none", **SMALL}),
            trials,
            run=run,
            records=toy_records.directory,
            settings=SETTINGS,
        )

    spying("train_batches")
    spying("eval_batches")
    assert go(1)
    monkeypatch.setitem(fold.FITS, "network", dying)
    with pytest.raises(KeyboardInterrupt):
        go(3)
    cut = files.read_json(run / "trials" / "0001" / "state" / "state.json")["history"]
    assert len(cut) == 1
    monkeypatch.setitem(fold.FITS, "network", real["_fit"])
    capsys.readouterr()
    assert go(3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["2", "3"]  # trial 2 is trial 1 again
    assert states(run) == {"complete": 3, "cut off": 1}
    table = pd.read_csv(run / "trials.csv")
    searched = [column for column in table if column.startswith(("train.", "model."))]
    assert table.loc[1, searched].tolist() == table.loc[2, searched].tolist()
    history = pd.read_csv(run / "trials" / "0002" / "history.csv")
    assert history["val_roc_auc"].iloc[0] == cut[0]["val_roc_auc"]  # it continued what was trained
    assert table["epochs"].tolist() == [2, 1, 2, 2]
    assert sorted(p.name for p in (run / "trials" / "0002").iterdir()) == ["history.csv"]
    assert seen
    assert not seen & held

    best = table.loc[table["val_roc_auc"].where(table["state"] == "complete").idxmax()]
    config = load_config(str(run / "best.yaml"))
    assert config.train.learning_rate == best["train.learning_rate"]
    assert config.model.arguments["units"] == best["model.arguments.units"]
    assert (config.train.epochs, config.image, config.folds) == (2, toy_records.image, 3)
    head = (run / "best.yaml").read_text().split("\ntarget:")[0]
    assert f"val_roc_auc {best['val_roc_auc']:.4f}" in head
    assert "kit search toy --space" in head
    assert "optimistic" in head
    assert all(line.startswith("#") for line in head.splitlines())

    before = (run / "trials.csv").read_bytes()
    assert go(3)  # nothing left to do
    assert (run / "trials.csv").read_bytes() == before
    with pytest.raises(DataError, match="other settings, space or records"):
        search("toy", write_space(SMALL), 3, run=run, records=toy_records.directory, settings=["folds=2"])


@pytest.mark.slow
def test_poor_trials_are_pruned_failures_recorded_and_a_hopeless_search_ends(
    toy_records, tmp_path, write_space, monkeypatch, capsys
):
    scores = iter([0.9, 0.9, 0.9, 0.1])  # of the epochs of a good trial, then of a bad one
    monkeypatch.setitem(METRICS, "roc_auc", Metric("roc_auc", lambda y, p: next(scores)))
    asha = {"pruner": "asha", "epochs": 3, "space": {"model.arguments.units": [4, 4]}}
    run = tmp_path / "pruned"
    assert search("toy", write_space(asha), 2, run=run, records=toy_records.directory, settings=SETTINGS)
    assert states(run) == {"complete": 1, "pruned": 1}
    assert pd.read_csv(run / "trials.csv")["epochs"].tolist() == [3, 1]
    assert len(pd.read_csv(run / "trials" / "0001" / "history.csv")) == 1
    assert "stopped at val_roc_auc 0.1" in capsys.readouterr().out

    small = {"space": {"model.name": ["pcam_cnn_tuned"], "model.arguments": [{"kernels": [7, 7, 7, 7]}]}}
    with pytest.raises(TrainingError, match=r"the first 5 trials all failed.*cannot be built for images of \(32"):
        search(
            "toy", write_space(small), 9, run=tmp_path / "small", records=toy_records.directory, settings=SETTINGS[:-1]
        )
    table = pd.read_csv(tmp_path / "small" / "trials.csv")
    assert table["state"].tolist() == ["fail"] * 5
    assert table["error"].str.contains("cannot be built").all()
    assert not (tmp_path / "small" / "best.yaml").exists()


@pytest.mark.slow
def test_two_processes_share_the_trials_and_a_killed_pair_resumes(
    toy_records, tmp_path, write_space, monkeypatch, capfd
):
    run = tmp_path / "search"
    call = ["search", "toy", "--space", write_space({**SMALL, "epochs": 1}), "--trials", "3", "--workers", "2"]
    call += ["--records", str(toy_records.directory), "--run", str(run)]
    call += [part for override in SETTINGS for part in ("--set", override)]
    with subprocess.Popen([sys.executable, "-m", "kit", *call], stdout=subprocess.DEVNULL) as killed:
        wait_until(lambda: list(run.glob("trials/*/state/state.json")))
        os.kill(killed.pid, signal.SIGKILL)

    def once_the_helper_runs_one(study, after_trial):
        wait_until(lambda: any(trial.state.name == "RUNNING" for trial in study.all_trials()))
        run_trials(study, after_trial)

    monkeypatch.setattr("kit.tune.search.run_trials", once_the_helper_runs_one)
    capfd.readouterr()
    assert main(call) == 0
    output, errors = capfd.readouterr()
    assert errors == ""
    counts = states(run)
    assert counts.pop("cut off") >= 1
    assert counts == {"complete": 3}
    assert "best of 3 trials" in output


def test_out_of_time(toy_records, tmp_path, write_space):
    call = [
        "search",
        "toy",
        "--space",
        write_space(SMALL),
        "--trials",
        "2",
        "--hours",
        "0",
        "--run",
        str(tmp_path / "s"),
    ]
    assert main([*call, "--records", str(toy_records.directory), "--set", "folds=3"]) == 3

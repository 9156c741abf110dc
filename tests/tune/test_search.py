"""The search: its space, what it may see, and that it goes on after a kill."""

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
from kit.stages import train as fold
from kit.tune.search import inner_folds, search
from kit.tune.space import Space, check_space, read_space, space_names

pytest.importorskip("optuna")

SETTINGS = ["folds=3", "train.batch_size=16", "predict.batch_size=64", "model.arguments={units: 8}"]
SMALL = {
    "epochs": 2,
    "space": {
        "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.arguments.units": [4, 8],
    },
}


class First:
    """What suggests the first of everything, as an Optuna trial would, and remembers what it was asked."""

    def __init__(self):
        self.asked = {}

    def suggest_categorical(self, name, choices):
        self.asked[name] = choices
        return choices[0]

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self.asked[name] = ("int", low, high, step, log)
        return low

    def suggest_float(self, name, low, high, *, step=None, log=False):
        self.asked[name] = ("float", low, high, step, log)
        return low


@pytest.fixture
def written(tmp_path):
    def write(value, name="space.yaml"):
        (tmp_path / name).write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
        return str(tmp_path / name)

    return write


def states(run):
    return pd.read_csv(run / "trials.csv")["state"].value_counts().to_dict()


def test_a_space_in_all_its_forms(written):
    read = read_space(
        written(
            "pruner: asha\nspace:\n  train.learning_rate: {low: 1e-5, high: 1e-1, log: true}\n  train.epochs: [1, 2]\n"
            "  model.arguments: [{}, {units: 3}]\n  model.arguments.filters: {repeat: 2, choices: [8, 16]}\n"
            "  train.batch_size: {low: 8, high: 24, step: 8}\n  model.arguments.dropout: {low: 0, high: 0.5}\n"
        )
    )
    trial = First()
    tried = read.suggest(trial)
    assert trial.asked == {
        "train.learning_rate": ("float", 1e-5, 0.1, None, True),
        "train.epochs": [1, 2],
        "model.arguments": ["{}", "{units: 3}"],
        "model.arguments.filters.0": [8, 16],
        "model.arguments.filters.1": [8, 16],
        "train.batch_size": ("int", 8, 24, 8, False),
        "model.arguments.dropout": ("float", 0, 0.5, None, False),
    }
    config = load_config("pcam", tried)
    assert (config.train.learning_rate, config.train.epochs, config.train.batch_size) == (1e-5, 1, 8)
    assert config.model.arguments == {"filters": [8, 8], "dropout": 0}


@pytest.mark.parametrize(
    ("entry", "says"),
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
def test_a_bad_space_is_one_clear_line_before_any_data_is_looked_at(entry, says, written, tmp_path, capsys):
    call = ["search", "pcam", "--space", written(entry), "--trials", "3", "--records", str(tmp_path / "none")]
    assert main(call) == 2
    message = capsys.readouterr().err
    assert says in message
    assert message.startswith("kit: ")
    assert message.count("\n") == 1


def test_what_cannot_be_searched_together(written):
    phases = "train.phases=[{epochs: 1, learning_rate: 0.1}]"
    with pytest.raises(ConfigError, match="has no effect beside"):
        check_space(Space(space={"train.learning_rate": [1.0]}), "x", "pcam", [phases])
    with pytest.raises(ConfigError, match="is both searched"):
        check_space(Space(space={"train.optimizer": ["sgd"]}), "x", "pcam", ["train.optimizer=adam"])
    with pytest.raises(ConfigError, match="unknown space 'pcam_cn'; did you mean 'pcam_cnn'"):
        read_space("pcam_cn")
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        read_space(written("")[:-5] + "none.yaml")


def test_the_spaces_that_come_with_the_kit(keras):
    from kit.models import registry

    assert space_names() == ["nih_cnn", "pcam_cnn"]
    for name in space_names():
        chosen = read_space(name)
        check_space(chosen, name, "nih", [])
        check_space(chosen, name, "toy", [])
        model = load_config("toy", chosen.suggest(First())).model
        assert registry.build(model.name, shape=(96, 96, 3), outputs=1, **model.arguments).count_params() > 1000


@pytest.mark.parametrize(("cells", "folds", "inner"), [(60, 5, 6), (60, 3, 4), (60, 10, 9), (60, 2, 2), (6, 3, 4)])
def test_the_inner_folds_leave_out_what_fold_0_holds(cells, folds, inner):
    held = split_folds(cells, folds, 7)[0]
    dealt = inner_folds(cells, folds, 7)
    assert len(dealt) == inner
    assert sorted([*held, *(cell for cells in dealt for cell in cells)]) == list(range(cells))
    with pytest.raises(ConfigError, match="set folds=3 or more"):
        inner_folds(2, 2, 7)


def test_a_search_dies_and_goes_on_and_never_sees_what_fold_0_holds(
    keras, toy_records, tmp_path, written, monkeypatch, capsys
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
            written({"pruner": "none", **SMALL}),
            trials,
            run=run,
            records=toy_records.directory,
            settings=SETTINGS,
        )

    spying("train_batches")
    spying("eval_batches")
    assert go(1)
    monkeypatch.setattr(fold, "_fit", dying)
    with pytest.raises(KeyboardInterrupt):
        go(3)
    cut = files.read_json(run / "trials" / "0001" / "state" / "state.json")["history"]
    assert len(cut) == 1
    monkeypatch.setattr(fold, "_fit", real["_fit"])
    capsys.readouterr()
    assert go(3)
    said = capsys.readouterr().out
    assert [line.split()[1] for line in said.splitlines()[:2]] == ["2", "3"]  # trial 2 is trial 1 once more
    assert states(run) == {"complete": 3, "cut off": 1}
    table = pd.read_csv(run / "trials.csv")
    tried = [column for column in table if column.startswith(("train.", "model."))]
    assert table.loc[1, tried].tolist() == table.loc[2, tried].tolist()
    history = pd.read_csv(run / "trials" / "0002" / "history.csv")
    assert history["val_roc_auc"].iloc[0] == cut[0]["val_roc_auc"]  # it went on with what was trained
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
        search("toy", written(SMALL), 3, run=run, records=toy_records.directory, settings=["folds=2"])


def test_bad_trials_are_stopped_failing_ones_noted_and_a_hopeless_search_ends(
    toy_records, tmp_path, written, monkeypatch, capsys
):
    scores = iter([0.9, 0.9, 0.9, 0.1])  # of the epochs of a good trial, then of a bad one
    monkeypatch.setattr(fold.metrics, "METRICS", {"roc_auc": lambda y, p: next(scores)})
    asha = {"pruner": "asha", "epochs": 3, "space": {"model.arguments.units": [4, 4]}}
    run = tmp_path / "pruned"
    assert search("toy", written(asha), 2, run=run, records=toy_records.directory, settings=SETTINGS)
    assert states(run) == {"complete": 1, "pruned": 1}
    assert pd.read_csv(run / "trials.csv")["epochs"].tolist() == [3, 1]
    assert len(pd.read_csv(run / "trials" / "0001" / "history.csv")) == 1
    assert "stopped at val_roc_auc 0.1" in capsys.readouterr().out

    small = {"space": {"model.name": ["pcam_cnn_tuned"], "model.arguments": [{"kernels": [7, 7, 7, 7]}]}}
    with pytest.raises(TrainingError, match=r"the first 5 trials all failed.*cannot be built for images of \(32"):
        search("toy", written(small), 9, run=tmp_path / "small", records=toy_records.directory, settings=SETTINGS[:3])
    table = pd.read_csv(tmp_path / "small" / "trials.csv")
    assert table["state"].tolist() == ["fail"] * 5
    assert table["error"].str.contains("cannot be built").all()
    assert not (tmp_path / "small" / "best.yaml").exists()


def test_two_processes_share_the_trials_and_a_killed_pair_goes_on(toy_records, tmp_path, written):
    run = tmp_path / "search"
    call = [sys.executable, "-m", "kit", "search", "toy", "--space", written({**SMALL, "epochs": 1})]
    call += ["--trials", "3", "--workers", "2", "--records", str(toy_records.directory), "--run", str(run)]
    call += [part for override in SETTINGS for part in ("--set", override)]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL) as killed:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(run.glob("trials/*/state/state.json")):
            time.sleep(0.1)
        os.kill(killed.pid, signal.SIGKILL)
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    counts = states(run)
    assert counts.pop("cut off") >= 1
    assert counts == {"complete": 3}
    assert "best of 3 trials" in done.stdout


def test_out_of_time(toy_records, tmp_path, written):
    call = ["search", "toy", "--space", written(SMALL), "--trials", "2", "--hours", "0", "--run", str(tmp_path / "s")]
    assert main([*call, "--records", str(toy_records.directory), "--set", "folds=3"]) == 3

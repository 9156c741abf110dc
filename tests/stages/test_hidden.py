"""A hidden test set: listed when it is predicted, constants for what has no prediction, blends, budgets, gateways."""

import dataclasses
import sys
import time

import numpy as np
import pandas as pd
import pytest

from kit import files
from kit.competition import Competition, Target
from kit.competitions.pcam import COMPETITION
from kit.competitions.rsna import COMPETITION as RSNA
from kit.config import Source
from kit.decisions import Calibration, CaseRule, Decision, Threshold
from kit.errors import ConfigError, DataError
from kit.run import Run
from kit.stages import gateway, hidden, infer
from kit.stages.hidden import Outcome, filled, hidden_cases, images_of, predicted
from kit.stages.publish import Manifest, Member, publish_files, read_manifest
from kit.submit.submission import constants

CELLS = {"label": 0.25}


class Guess:
    """Models that say how long the name of a case is, tenths of it; `slow` seconds each time."""

    at_once, slow = 2, 0.0

    def predict(self, cases):
        time.sleep(self.slow)
        readable = [name for name, paths in cases.items() if paths and paths[0].stat().st_size]
        table = pd.DataFrame({"id": readable, "p_tumour": [len(name) / 10 for name in readable]})
        return table, {name: "not an image" for name in cases if name not in readable}


def mount(folder, names, sample=None, where="test", ending=".tif"):
    """A competition's files: images that are bytes alone, and a sample of all or other ids."""
    (folder / where).mkdir(parents=True)
    for name in names:
        (folder / where / f"{name}{ending}").write_bytes(b"x")
    ids = names if sample is None else sample
    (folder / "sample_submission.csv").write_text("id,label\n" + "".join(f"{name},0\n" for name in ids))
    return folder


def test_cases_are_those_of_the_mounted_sample_in_its_order(tmp_path):
    root = mount(tmp_path / "a", ["b", "a", "c"], sample=["c", "x", "a"])
    sample, cases = hidden_cases(COMPETITION, root, Source())
    assert list(sample["id"]) == ["c", "x", "a"] and list(cases) == ["c", "a"]
    assert cases["a"] == [root / "test" / "a.tif"]


@pytest.mark.parametrize("name", ["test/sub/a.png", "test/sub/a", "sub/a.png", "sub/a", "a.png", "a"])
def test_an_id_may_be_a_path_or_a_name_with_or_without_ending(tmp_path, name):
    root = mount(tmp_path / "m", ["a"], sample=[name], where="test/sub", ending=".png")
    _, cases = hidden_cases(COMPETITION, root, Source())
    assert cases == {name: [root / "test/sub/a.png"]}


def test_training_images_are_no_cases_and_two_of_a_name_are_none(tmp_path):
    root = mount(tmp_path / "m", ["a", "b"])
    mount(tmp_path / "n", ["a"])
    (root / "train_images").mkdir()
    (root / "train_images" / "b.tif").write_bytes(b"x")
    (root / "other").mkdir()
    (root / "other" / "a.tif").write_bytes(b"x")
    images = images_of(root)
    assert images["b"] == root / "test" / "b.tif" and "a" not in images and images["other/a"].name == "a.tif"


def test_without_a_sample_every_image_is_a_case(tmp_path):
    root = mount(tmp_path / "m", ["b", "a"])
    (root / "sample_submission.csv").unlink()
    sample, cases = hidden_cases(COMPETITION, root, Source())
    assert list(sample["id"]) == list(cases) == ["a", "b"] and list(sample) == ["id", "label"]
    (root / "more").mkdir()
    (root / "more" / "a.tif").write_bytes(b"x")
    assert list(hidden_cases(COMPETITION, root, Source())[1]) == ["b"], "a is two images"


def test_ids_that_no_file_has_are_looked_up_by_the_reader(tmp_path):
    def read(root, source):
        table = pd.DataFrame({"id": ["one"], "split": ["test"], "path": ["test/zz.tif"]})
        return type("Examples", (), {"table": table})

    own = Competition("own", "", "own", {"t": Target("binary", ("t",), "roc_auc", {"label": "t"})}, read)
    root = mount(tmp_path / "m", ["zz"], sample=["one", "two"])
    assert hidden_cases(own, root, Source())[1] == {"one": [root / "test/zz.tif"]}


def test_an_empty_test_set_is_an_empty_submission(tmp_path):
    root = mount(tmp_path / "m", [])
    sample, cases = hidden_cases(COMPETITION, root, Source())
    table = predicted(Guess(), cases, time.monotonic() + 9, Outcome())
    assert filled(COMPETITION, sample, table, CELLS).to_csv(index=False) == "id,label\n"


def test_what_cannot_be_read_gets_a_constant_and_is_counted(tmp_path, caplog):
    root = mount(tmp_path / "m", ["a", "bb", "ccc"], sample=["ccc", "gone", "bb", "a"])
    (root / "test" / "bb.tif").write_bytes(b"")
    sample, cases = hidden_cases(COMPETITION, root, Source())
    outcome = Outcome(cases=len(sample))
    table = predicted(Guess(), cases, time.monotonic() + 9, outcome)
    submission = filled(COMPETITION, sample, table, CELLS)
    assert submission.values.tolist() == [["ccc", 0.3], ["gone", 0.25], ["bb", 0.25], ["a", 0.1]]
    assert outcome.unreadable == {"bb": "not an image"} and outcome.late == 0
    caplog.set_level("INFO")
    outcome.say()
    assert "1 case could not be read and got a constant, such as bb (not an image)" in caplog.text


def test_time_that_runs_out_leaves_constants(tmp_path, caplog):
    names = [f"n{n}" for n in range(8)]
    root = mount(tmp_path / "m", names)
    sample, cases = hidden_cases(COMPETITION, root, Source())
    models, outcome = Guess(), Outcome(cases=8)
    models.slow = 0.2
    table = predicted(models, cases, time.monotonic() + 0.5, outcome)
    assert 2 <= len(table) < 8 and outcome.late == 8 - len(table)
    submission = filled(COMPETITION, sample, table, CELLS)
    assert submission["label"].tolist() == [0.2] * len(table) + [0.25] * outcome.late
    assert predicted(models, cases, time.monotonic() - 1, Outcome()) is None


def test_boxes_are_in_the_competitions_frame(tmp_path):
    competition = RSNA.__class__(**{**RSNA.__dict__, "chosen": "boxes"})
    table = pd.DataFrame({"id": ["a"], "boxes": [[[10.0, 20.0, 100.0, 200.0]]], "box_scores": [[0.75]]})
    table = table.assign(box_labels=[["pneumonia"]], width=512, height=512)
    sample = pd.DataFrame({"patientId": ["b", "a"], "PredictionString": ["", ""]})
    submission = filled(competition, sample, table, constants(competition))
    assert submission["PredictionString"].tolist() == ["", "0.75 20 40 200 400"]


def test_constants_are_shares_of_the_training_set():
    examples = pd.DataFrame({"split": ["train"] * 4 + ["test"], "y_tumour": np.float32([1, 0, 0, np.nan, np.nan])})
    assert constants(COMPETITION, examples) == {"label": pytest.approx(1 / 3, abs=1e-6)}
    assert constants(COMPETITION) == constants(COMPETITION, examples.drop(columns="y_tumour")) == {"label": 0.5}


def test_constants_are_decisions_where_these_are_sent():
    examples = pd.DataFrame({"split": ["train"] * 3, "y_a": np.float32([1, 0, 0]), "y_b": np.float32([0, 1, 1])})
    target = lambda task, metric: {"x": Target(task, ("a", "b"), metric, columns={"A": "a", "B": "b"})}  # noqa: E731
    of = lambda *names: dataclasses.replace(COMPETITION, targets=target(*names))  # noqa: E731
    assert constants(of("multiclass", "quadratic_kappa"), examples) == {"A": 0.0, "B": 1.0}
    assert constants(of("multiclass", "quadratic_kappa")) == {"A": 1.0, "B": 0.0}, "of none, any class"
    assert constants(of("multilabel", "macro_f1")) == {"A": 0.0, "B": 0.0}
    assert constants(of("multilabel", "roc_auc"), examples, decisions=True) == {"A": 0.0, "B": 1.0}
    assert constants(of("multilabel", "roc_auc"), examples) == {"A": pytest.approx(1 / 3), "B": pytest.approx(2 / 3)}


@pytest.mark.parametrize(("rule", "expected"), [(None, 0.3), ("mean", 0.3), ("max", 0.4), ("noisy_or", 0.52)])
def test_several_images_of_a_case_are_one_prediction(rule, expected):
    decision = Decision(
        task="binary",
        labels=("t",),
        views="none",
        calibration=Calibration(),
        thresholds={"t": Threshold(rule="f1", threshold=0.5, on_the_rows_that_chose_it={}, cross_validated=None)},
        cases=rule and CaseRule(rule=rule),
    )
    table = pd.DataFrame({"id": ["a", "b", "a"], "p_t": np.float32([0.2, 0.5, 0.4])})
    cases = hidden._by_case(table, decision)
    assert cases["id"].tolist() == ["a", "b"] and cases["p_t"].tolist() == pytest.approx([expected, 0.5])


def test_the_reader_finds_all_images_of_a_case(tmp_path):
    def read(root, source):
        table = pd.DataFrame({"id": ["1", "2", "3"], "case": ["l", "l", "r"], "path": ["l1.png", "l2.png", "r1.png"]})
        return type("Examples", (), {"table": table.assign(split="test")})

    own = Competition("own", "", "own", {"t": Target("binary", ("t",), "roc_auc", {"label": "t"})}, read)
    root = mount(tmp_path / "m", [], sample=["l", "r"])
    expected = {"l": [root / "l1.png", root / "l2.png"], "r": [root / "r1.png"]}
    assert hidden_cases(own, root, Source())[1] == expected


def test_a_blend_is_the_weighted_mean():
    first, second = (pd.DataFrame({"id": ["a", "b"], "p_t": np.float32(p)}) for p in ([0.2, 0.4], [0.6, 0.8]))
    mean = hidden._weighted([first, second], [0.75, 0.25])
    assert mean["p_t"].tolist() == pytest.approx([0.3, 0.5])


# ---- what is published


def test_a_manifest_that_is_not_of_its_runs_is_refused(tmp_path):
    (tmp_path / "run0.kit").write_bytes(b"x")
    member = Member(file="run0.kit", sha256=files.sha256_of(tmp_path / "run0.kit"), weight=1.0)
    manifest = Manifest(members=(member,), decision={}, constants=CELLS)
    files.write_json(tmp_path / "inference.json", manifest.as_json())
    assert read_manifest(tmp_path) == manifest
    (tmp_path / "run0.kit").write_bytes(b"y")
    with pytest.raises(DataError, match="not the run that was published"):
        read_manifest(tmp_path)
    files.write_json(tmp_path / "inference.json", {**manifest.as_json(), "members": [{"file": "../run0.kit"}]})
    with pytest.raises(DataError, match="is damaged"):
        read_manifest(tmp_path)


def test_a_blend_without_weights_is_refused(tmp_path, monkeypatch):
    run = Run(tmp_path)
    report = type("Report", (), {"weights": None, "chosen": "rank", "runs": ["a", "b"]})
    folds = type("Folds", (), {"task": "binary"})
    monkeypatch.setattr(Run, "is_ensemble", True)
    monkeypatch.setattr(Run, "ensemble", report)
    monkeypatch.setattr(Run, "folds", folds)
    with pytest.raises(ConfigError, match=r"a blend \(rank\) .* `kit ensemble a b --blend mean --out DIR`"):
        publish_files(run, tmp_path)


# ---- the session


def test_another_accelerator_than_asked_for_ends_it_at_once(monkeypatch):
    device = type("Device", (), {"kind": "CPU"})
    monkeypatch.setattr(infer.devices, "set_up", lambda runtime: device)
    config = type("Config", (), {"runtime": None})
    infer.require_accelerator(config, "cpu")
    with pytest.raises(ConfigError, match="this session has a CPU, not the TPU that was asked for"):
        infer.require_accelerator(config, "tpu")
    device.kind = "GPU"
    infer.require_accelerator(config, "gpu")


def test_a_competition_that_is_not_attached(tmp_path):
    with pytest.raises(DataError, match="histopathologic-cancer-detection is not attached"):
        infer.submit_hidden("pcam", [], None, tmp_path, 9.0, "cpu")


# ---- gateways

SERVER = """
import kaggle_evaluation.core.templates


class OwnInferenceServer(kaggle_evaluation.core.templates.InferenceServer):
    pass
"""
TEMPLATES = '''
"""A gateway imitated, without its network: it sends paths in random order and checks every answer."""

import pathlib
import random
import time

STARTED = time.time()


class InferenceServer:
    def __init__(self, *listeners):
        self.listeners = {listener.__name__: listener for listener in listeners}

    def serve(self):
        print("serving", sorted(self.listeners), flush=True)

    def run_local_gateway(self, data_paths=None):
        import pandas as pd

        root = pathlib.Path(__file__).parents[2]
        paths = sorted((root / "series").iterdir())
        random.shuffle(paths)
        rows = []
        for path in paths:
            answer = self.listeners["predict"](str(path))
            answer = answer.to_pandas() if hasattr(answer, "to_pandas") else answer
            assert len(answer) == 1 and not answer.isna().any().any(), answer
            rows.append(answer.assign(id=path.stem))
        pd.concat(rows).to_csv("submission.csv", index=False)
'''


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """A competition's files with a gateway that shows series: two folders of images, one without any, and a file."""
    root = tmp_path / "mount"
    for name, count in (("one", 1), ("three", 3), ("none", 0)):
        (root / "series" / name).mkdir(parents=True)
        for n in range(count):
            (root / "series" / name / f"{n}.png").write_bytes(b"x")
    (root / "series" / "alone.png").write_bytes(b"x")
    package = root / "kaggle_evaluation"
    (package / "core").mkdir(parents=True)
    (package / "own_inference_server.py").write_text(SERVER)
    (package / "core" / "templates.py").write_text(TEMPLATES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(gateway.RERUN, raising=False)
    yield root
    for name in [name for name in sys.modules if name.startswith("kaggle_evaluation")]:
        del sys.modules[name]


def test_a_gateway_is_answered_case_by_case(evaluated, tmp_path):
    outcome = Outcome()
    gateway.serve(COMPETITION, evaluated, Guess(), CELLS, time.monotonic() + 9, outcome)
    answers = pd.read_csv(tmp_path / "submission.csv").set_index("id")["label"].to_dict()
    assert answers == {"one": 0.3, "three": 0.5, "alone": 0.5, "none": 0.25}
    assert (outcome.cases, list(outcome.unreadable)) == (4, ["none"])


def test_a_gateway_that_is_late_and_one_without_models_get_constants(evaluated, tmp_path):
    outcome = Outcome()
    gateway.serve(COMPETITION, evaluated, Guess(), CELLS, time.monotonic() - 1, outcome)
    assert set(pd.read_csv(tmp_path / "submission.csv")["label"]) == {0.25} and outcome.late == 4
    gateway.serve(COMPETITION, evaluated, None, {"label": 0.5}, time.monotonic() + 9, Outcome())
    assert set(pd.read_csv(tmp_path / "submission.csv")["label"]) == {0.5}


def test_in_the_rerun_the_server_serves(evaluated, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(gateway.RERUN, "1")
    gateway.serve(COMPETITION, evaluated, Guess(), CELLS, time.monotonic() + 9, Outcome())
    assert "serving ['predict']\n" in capsys.readouterr().out and not (tmp_path / "submission.csv").exists()


def test_a_gateway_may_send_a_table_of_ids(evaluated):
    mount(evaluated / "more", [])
    (evaluated / "test").mkdir()
    (evaluated / "test" / "b.png").write_bytes(b"x")
    batch = pd.DataFrame({"id": ["b", "gone"], "age": [1, 2]})
    assert gateway.cases_of(COMPETITION, evaluated, (batch,)) == {"b": [evaluated / "test" / "b.png"], "gone": []}
    with pytest.raises(DataError, match="the gateway sent int: neither a path nor a table with id"):
        gateway.cases_of(COMPETITION, evaluated, (7,))


def test_a_package_without_a_server_is_named(evaluated):
    (evaluated / "kaggle_evaluation" / "own_inference_server.py").write_text("")
    with pytest.raises(DataError, match="has no class"):
        gateway.serve(COMPETITION, evaluated, Guess(), CELLS, time.monotonic() + 9, Outcome())

"""Every file of a run, damaged in every way: commands end with the right result, or in a line that names the run."""

import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from kit.cli import main
from kit.run import Run
from tests.fuzz import examples


@pytest.fixture(scope="module")
def whole(toy_run, _toy_folder, tmp_path_factory):
    """A folder with a finished run `toy`, its data and its records."""
    root = Path(shutil.copytree(toy_run.directory.parent, tmp_path_factory.mktemp("fuzz") / "whole"))
    shutil.copytree(_toy_folder, root / "data")
    return root


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def retype(path: Path, rng: random.Random) -> None:
    """Give one value of a JSON file, at any depth, another type; of other files, flip a bit."""
    if path.suffix != ".json":
        flip(path, rng)
        return
    value = content = json.loads(path.read_text())
    while isinstance(value, dict | list) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not (isinstance(value[key], dict | list) and value[key]) or rng.random() < 0.4:
            value[key] = rng.choice([None, 7, -1, "x", [], {}, [[["a"]]], 1e308, float("nan"), True, "../../x", "\0"])
            break
        value = value[key]
    path.write_text(json.dumps(content))


DAMAGES = {
    "absent": lambda path, _: path.unlink(),
    "folder": lambda path, _: (path.unlink(), path.mkdir()),
    "empty": lambda path, _: path.write_bytes(b""),
    "cut": lambda path, rng: path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)]),
    "null": lambda path, _: path.write_bytes(b"null"),
    "list": lambda path, _: path.write_bytes(b"[]"),
    "dictionary": lambda path, _: path.write_bytes(b"{}"),
    "binary": lambda path, _: path.write_bytes(b"\xff\xfe\x00\x01"),
    "flip": flip,
    "type": retype,
}


@pytest.mark.parametrize("seed", range(examples(8)))
def test_damage_is_mended_or_told(whole, tmp_path, capsys, seed):
    rng = random.Random(seed)
    root = Path(shutil.copytree(whole, tmp_path / "root"))
    run, records = root / "toy", next((root / "records").iterdir())
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    name, damage = rng.choice(names), rng.choice(list(DAMAGES))
    DAMAGES[damage](run / name, rng)
    sample, out = root / "data" / "sample_submission.csv", root / "out.csv"
    image = sorted((root / "data" / "test").iterdir())[0]
    capsys.readouterr()
    commands = [
        ["score", run],
        ["submission", "write", run, "--sample", sample, "--out", out],
        ["predict", run, "--images", image, "--out", root / "images.csv"],
        ["predict", run, "--records", records],
        ["train", "toy", "--records", records, "--run", run],
    ]
    weights = {path: path.read_bytes() for path in run.rglob("model.weights.h5") if path.is_file()}
    for command in commands:
        code = main([str(argument) for argument in command])
        printed = capsys.readouterr()
        assert code in (0, 2), f"{name} {damage}: {command}"
        if code == 2:
            (line,) = printed.err.strip().splitlines()
            assert line.startswith("kit: ") and str(run) in line, f"{name} {damage}: {line}"
        assert "epoch 1/" not in printed.out, f"{name} {damage}: {command} trained again"
    assert all(path.read_bytes() == content for path, content in weights.items())
    expected = pd.read_csv(whole / "toy" / "submission.csv").set_index("id")["label"]
    if out.exists():  # then it is what the whole run would have sent
        pd.testing.assert_series_equal(pd.read_csv(out).set_index("id")["label"], expected)
    if (root / "images.csv").exists():
        assert pd.read_csv(root / "images.csv")["p_tumour"][0] == pytest.approx(expected[image.stem], abs=1e-5)


def test_fewer_folds_never_replace_more(whole, tmp_path, capsys):
    root = Path(shutil.copytree(whole, tmp_path / "root"))
    run, records = Run(root / "toy"), next((root / "records").iterdir())
    before = run.oof_path.read_bytes(), run.test_path.read_bytes()
    weights = run.fold(1).model[1]
    content = weights.read_bytes()
    for change, says in (
        (lambda: weights.write_bytes(content[: len(content) // 2]), f"{weights} differs from what kit wrote"),
        (weights.unlink, f"{weights} differs from what kit wrote"),
        (lambda: run.fold(1).done.unlink(), f"{run.fold(1).done} does not exist: restore it, or delete"),
        (lambda: shutil.rmtree(run.fold(1).folder), f"{run.oof_path} has predictions of fold 1, whose model is not"),
    ):
        change()
        assert main(["predict", str(run), "--records", str(records)]) == 2
        assert says in capsys.readouterr().err
        assert (run.oof_path.read_bytes(), run.test_path.read_bytes()) == before
    image = str(sorted((root / "data" / "test").iterdir())[0])
    assert main(["predict", str(run), "--images", image]) == 2
    assert "predict without it by --folds 0" in capsys.readouterr().err
    assert main(["predict", str(run), "--images", image, "--folds", "0"]) == 0

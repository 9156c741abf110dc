"""The command line: help with examples, and one clear message with exit code 2 for bad input."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import kit
from kit.cli import command_names, main, make_parser
from tests.conftest import TINY


def parsers(parser):
    """A parser and all its subparsers: of commands, and of their verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


COMMANDS = [parser.prog.split()[1:] for parser in parsers(make_parser())][1:]


def test_all_commands_are_there():
    commands = {" ".join(command) for command in COMMANDS}
    assert commands >= {
        *("doctor", "demo", "models", "examples", "records build", "records verify", "records info", "train"),
        *("predict", "score", "ensemble", "submission write", "submission check", "ledger", "run", "search", "lr-find"),
        *("submit", "kaggle push", "kaggle status", "kaggle logs", "kaggle output", "kaggle bundle", "kaggle records"),
        "data fetch",
    }
    assert {command[0] for command in COMMANDS} == set(command_names())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert f"example: kit {' '.join(command)}" in " ".join(capsys.readouterr().out.split())


def test_doctor_says_what_is_here(keras, capsys):
    assert main(["doctor"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["keras"] == keras.__version__
    assert facts["device"]["kind"] in ("CPU", "GPU", "TPU")
    assert {"host", "cpus", "memory_gib", "kaggle_login", "kaggle_mount"} <= set(facts)


def refused(capsys, *arguments):
    """The message of a command that must be refused: exit code 2, one or two lines, no traceback."""
    assert main([str(a) for a in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("kit: ")
    assert "Traceback" not in message
    assert len(message.strip().split("\n")) <= 2
    return message


def test_bad_raw_folders_leave_nothing_behind(toy_root, tmp_path, capsys):
    run = tmp_path / "runs" / "x"
    assert "no such data folder" in refused(capsys, "run", "pcam", "--data", tmp_path / "no", "--run", run)
    (tmp_path / "empty").mkdir()
    assert "found nothing" in refused(capsys, "run", "pcam", "--data", tmp_path / "empty", "--run", run)
    images = sorted((toy_root / "train").iterdir())
    images[0].unlink()
    assert images[0].stem in refused(capsys, "run", "pcam", "--data", toy_root, "--run", run)
    assert images[0].stem in refused(capsys, "examples", "pcam", "--data", toy_root, "--out", tmp_path / "e.parquet")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "e.parquet").exists()


def test_tables_are_named_by_what_they_hold(toy_root, tmp_path, capsys):
    message = refused(capsys, "examples", "toy", "--data", toy_root, "--out", tmp_path / "e.csv")
    assert message.strip().endswith("e.csv: the table is Parquet, so name it " + str(tmp_path / "e.parquet"))
    message = refused(capsys, "predict", tmp_path, "--images", tmp_path, "--out", tmp_path / "p.xlsx")
    assert message.strip().endswith("p.xlsx: the table is CSV, so name it " + str(tmp_path / "p.csv"))


def test_too_many_broken_images(toy_root, tmp_path, capsys):
    for path in sorted((toy_root / "train").iterdir())[:2]:
        path.write_bytes(b"")
    message = refused(capsys, "records", "build", "pcam", "--data", toy_root, "--out", tmp_path / "r")
    assert "2 of 150 images cannot be read" in message
    assert not (tmp_path / "r" / "manifest.json").exists()
    arguments = [
        "records",
        "build",
        "pcam",
        "--data",
        toy_root,
        "--out",
        tmp_path / "r",
        "--set",
        "data.max_rejected=0.02",
    ]
    assert main(list(map(str, arguments))) == 0
    assert capsys.readouterr().out.count("rejected train/") == 2


def test_settings_models_and_competitions_that_do_not_exist(toy_root, tmp_path, capsys, keras):
    base = ["run", "pcam", "--data", toy_root, "--run", tmp_path / "runs" / "x"]
    assert "did you mean 'image.size'" in refused(capsys, *base, "--set", "image.sise=3")
    assert "did you mean 'resnet50'" in refused(capsys, *base, "--set", "model.name=resnet55")
    assert "did you mean 'pcam'" in refused(capsys, "run", "pcamm")
    assert "Give --data DIR" in refused(capsys, "run", "pcam", "--run", tmp_path / "runs" / "x")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_does_not_fit_the_images(toy_records, tmp_path, capsys, keras):
    arguments = ["train", "toy", "--records", toy_records.directory, "--run", tmp_path / "r"]
    tiny = [a for setting in TINY for a in ("--set", setting)]
    message = refused(capsys, *arguments, *tiny, "--set", "model.name=pcam_cnn_tuned", "--set", "model.arguments={}")
    assert "cannot be built for images of (32, 32, 3)" in message
    assert "folds can be" in refused(capsys, *arguments, "--set", "folds=7")
    assert "there is no fold 5" in refused(capsys, *arguments, *tiny, "--folds", "5")


def test_stages_out_of_order(toy_records, tmp_path, capsys):
    assert "is not a run directory" in refused(capsys, "score", tmp_path)
    assert "is not a run directory" in refused(capsys, "predict", tmp_path, "--records", toy_records.directory)
    assert "holds no records" in refused(capsys, "train", "toy", "--records", tmp_path, "--run", tmp_path / "r")
    assert "holds no records" in refused(capsys, "records", "info", tmp_path / "nowhere")


def test_records_of_another_competition(toy_records, tmp_path, capsys):
    message = refused(capsys, "train", "pcam", "--records", toy_records.directory, "--run", tmp_path / "r")
    assert "holds records of 'toy', not of 'pcam'" in message


def test_a_thresholded_submission(toy_root, tmp_path, capsys):
    sample = toy_root / "sample_submission.csv"
    table = pd.read_csv(sample)
    table.assign(label=[0, 1] * (len(table) // 2)).to_csv(tmp_path / "s.csv", index=False)
    message = refused(capsys, "submission", "check", "pcam", tmp_path / "s.csv", "--sample", sample)
    assert "Submit the probabilities" in message


def test_a_folder_that_cannot_be_written(toy_root, tmp_path, capsys):
    (tmp_path / "file").touch()
    message = refused(capsys, "records", "build", "pcam", "--data", toy_root, "--out", tmp_path / "file" / "r")
    assert (
        message
        == f"kit: argument --out: {tmp_path}/file is a file, not a folder (`kit records build --help` says more)\n"
    )


def test_a_wheel_runs_in_an_empty_directory(toy_root, tmp_path):
    """`configs/` lies beside the package in the repository and inside it in a wheel."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "tests", "*.egg-info", "build", "runs", "demo", "__pycache__")
    shutil.copytree(Path(kit.__file__).parents[1], source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("kit-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    empty.mkdir()
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(site)!r}); from kit.cli import main; sys.exit(main())",
    ]
    arguments = ["records", "build", "pcam", "--data", str(toy_root), "--out", "records"]
    done = subprocess.run([*command, *arguments], cwd=empty, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "150 examples in 61 shards" in done.stdout


@pytest.mark.once
def test_examples_without_options_prints_counts(toy_root, capsys):
    arguments = ["examples", "pcam", "--data", str(toy_root)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("150 images, 150 groups, binary\n")
    assert "train: 120 images, 120 groups   tumour " in shown and "test: 30 images, 30 groups" in shown
    assert "--check decodes every image too" in shown
    assert main([*arguments, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["images"] == 150 and "sizes" not in counts
    sorted((toy_root / "train").iterdir())[0].unlink()
    assert main(arguments) == 0
    assert "missing    1: " in capsys.readouterr().out

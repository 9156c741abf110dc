"""Arguments that cannot be: one line that names the argument, before anything is done."""

import os
from pathlib import Path

import pytest

from kit.cli import main, make_parser

BUILD = ["records", "build", "toy", "--data", "data", "--out", "out"]
TRAIN = ["train", "toy", "--records", "r", "--run", "run"]


def refused(capsys, arguments):
    assert main([str(argument) for argument in arguments]) == 2
    out, message = capsys.readouterr()
    assert out == ""
    assert message.startswith("kit: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*BUILD, "--workers", "100000"], "--workers: 100000 processes are more than this machine can run"),
        ([*BUILD, "--workers", "0"], "--workers: '0' is not a whole number from 1 on"),
        ([*BUILD, "--workers", "-3"], "--workers: '-3' is not a whole number from 1 on"),
        ([*BUILD, "--workers", "9" * 5000], "--workers: '99999999999999999999' is not a whole number from 1 on"),
        ([*BUILD, "--workers", "two"], "--workers: 'two' is not a whole number from 1 on"),
        ([*BUILD, "--size", "1e3"], "--size: '1e3' is not a whole number from 1 on"),
        ([*TRAIN, "--max-hours", "nan"], "--max-hours: nan is not a number"),
        ([*TRAIN, "--max-hours", "inf"], "--max-hours: inf is not a number"),
        ([*TRAIN, "--max-hours", "1h"], "--max-hours: 1h is not a number"),
        ([*TRAIN, "--max-hours=-1"], "--max-hours: must not be negative"),
        ([*TRAIN, "--folds", "0,-1"], "--folds: '-1' is not a whole number from 0 on"),
        ([*TRAIN, "--folds", "0,,1"], "--folds: '' is not a whole number from 0 on"),
        (["kaggle", "push", "pcam", "--hours", "0"], "--hours: must be above 0"),
        (["kaggle", "push", "pcam", "--hours", "1e999"], "--hours: 1e999 is not a number"),
        (["ledger", "--run", "r", "--public", "nan"], "--public: nan is not a number"),
        (["examples", "toy", "--data", "", "--check"], "--data: is empty: give a path"),
        (["examples", "toy", "--out", "/dev/null"], "--out: /dev/null is no file that can be replaced"),
        (["nope"], "invalid choice: 'nope'"),
        (["train", "toy"], "the following arguments are required: --records, --run (`kit train --help` says more)"),
    ],
)
def test_arguments_that_cannot_be(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["examples", "toy", "--check", "--data"],
        ["examples", "toy", "--out", "e.parquet", "--data"],
        ["records", "build", "toy", "--out", "r", "--data"],
        ["records", "build", "toy", "--data", "d", "--out"],
        ["records", "verify"],
        ["run", "toy", "--data"],
        ["run", "toy", "--run"],
        ["train", "toy", "--run", "r", "--records"],
        ["score"],
        ["predict", "--images", "i", "--"],
        ["ensemble", "a", "b", "--out"],
        ["demo", "--out"],
        ["search", "toy", "--space", "s", "--trials", "1", "--records"],
    ],
    ids=" ".join,
)
def test_a_file_in_the_place_of_a_folder_is_called_a_file(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.zip").touch()
    for place in ("file.zip", "file.zip/below"):
        assert "file.zip is a file, not a folder" in refused(capsys, [*arguments, place])
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]


@pytest.mark.parametrize("command", ["explain", "report", "score", "export"])
def test_an_exported_run_is_told_from_a_run(command, capsys, tmp_path):
    path = tmp_path / "x.kit.zip"
    path.touch()
    assert "it is an exported run, which predicts new images alone" in refused(capsys, [command, str(path)])


OUTPUTS = (
    ["examples", "toy", "--out"],
    ["lr-find", "toy", "--records", "r", "--out"],
    ["predict", "run", "--images", "i", "--out"],
    ["submission", "write", "run", "--out"],
)


@pytest.mark.parametrize("arguments", OUTPUTS, ids=" ".join)
def test_what_is_no_place_for_a_file(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert "folder is a folder: add the name of a file" in refused(capsys, [*arguments, "folder"])
    assert "link is a link: name the file" in refused(capsys, [*arguments, "link"])
    assert "broken is a link: name the file" in refused(capsys, [*arguments, "broken"])
    assert "pipe is no file that can be replaced" in refused(capsys, [*arguments, "pipe"])
    assert "file is a file, not a folder" in refused(capsys, [*arguments, "file/x"])


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parse = make_parser().parse_args
    assert parse(["run", "toy", "--data=~/d", "--run", "~/r"]).data == tmp_path / "d"
    assert parse(["records", "build", "toy", "--data", "~/d", "--out", "~/r"]).data == str(tmp_path / "d")
    assert parse(["records", "build", "toy", "--data", "gs://d", "--out", "gs://r"]).out == "gs://r"
    assert parse(["examples", "toy", "--out", "~/e.parquet"]).out == tmp_path / "e.parquet"
    assert parse(["score", "~nobody-of-this-name/r"]).runs == [Path("~nobody-of-this-name/r")]

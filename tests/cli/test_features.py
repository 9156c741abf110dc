"""`kit features`."""

import pytest

from kit.cli import main
from tests.backbones import registered


@pytest.fixture(autouse=True)
def _backbones(keras):
    with registered():
        yield


def test_features_of_raw_files_and_of_records(toy_root, tmp_path, capsys):
    records = tmp_path / "records"
    words = ["features", "toy", "--backbone", "tiny_map", "tiny_tokens", "--records", str(records)]
    assert main([*words, "--data", str(toy_root), "--set", "image.size=32", "--views", "mirror"]) == 0
    out, _ = capsys.readouterr()
    assert "150 images, 16 features each\n" in out
    folders = out.splitlines()[-2:]
    assert all(len([*folder.iterdir()]) == 61 for folder in (records / "features").iterdir())
    assert {*folders} == {str(path) for path in (records / "features").iterdir()}


def test_what_is_wrong(toy_root, tmp_path, capsys):
    records = tmp_path / "records"
    words = ["features", "toy", "--data", str(toy_root), "--records", str(records), "--backbone"]
    for options, message in (
        (["tiny_mab"], "did you mean 'tiny_map'"),
        (["tiny_map", "--weights", "nowhere.h5"], "nowhere.h5 does not exist"),
        (["tiny_map", "--set", "model.arguments.unitz=3"], "features takes no such argument; did you mean 'units'"),
    ):
        assert main([*words, *options]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and not records.exists()

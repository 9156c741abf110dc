import json

import pandas as pd
import pytest

from kit import cli
from kit.competitions import toy
from kit.config import DataSettings, ImageSettings, Source
from kit.data.records import beam as beam_module
from kit.data.records.beam import build_with_beam
from kit.data.records.manifest import open_records, verify_records
from kit.data.table.examples import Examples, validate
from kit.errors import ConfigError, DataError
from tests.data.conftest import same_files


def beam(root, out, image=ImageSettings(size=32), runner="DirectRunner"):  # noqa: B008
    examples = validate(toy.COMPETITION.read(root, Source()), 0)
    return build_with_beam("toy", examples, str(root), str(out), image, DataSettings(), runner)


def test_the_same_shards_byte_for_byte(toy_root, toy_records, tmp_path):
    beam(toy_root, tmp_path / "beam")
    assert same_files(tmp_path / "beam", toy_records.directory)
    assert verify_records(open_records(tmp_path / "beam")) == 150


def test_finished_shards_are_kept_and_other_records_refused(toy_root, toy_records, tmp_path, monkeypatch):
    out, real, written = tmp_path / "beam", beam_module.write_shard, []

    def breaks(file, job, *rest):
        if len(written) == 7:
            raise RuntimeError("the worker was taken away")
        written.append(job.file)
        return real(file, job, *rest)

    monkeypatch.setattr(beam_module, "write_shard", breaks)
    with pytest.raises(RuntimeError, match="taken away"):
        beam(toy_root, out)
    monkeypatch.setattr(
        beam_module, "write_shard", lambda file, job, *rest: written.append(job.file) or real(file, job, *rest)
    )
    with pytest.raises(DataError, match="holds other records"):
        beam(toy_root, out, ImageSettings(size=16))
    beam(toy_root, out)
    assert len(written) == len(set(written)) == 61
    for part in out.glob(".part-*"):
        part.unlink()
    assert same_files(out, toy_records.directory)
    before = json.loads((out / "manifest.json").read_text())
    assert beam(toy_root, out).as_json() == before


def test_the_command_and_a_table_made_elsewhere(toy_root, toy_records, tmp_path, capsys):
    table, out = str(tmp_path / "examples.parquet"), str(tmp_path / "beam")
    assert cli.main(["examples", "toy", "--data", str(toy_root), "--out", table]) == 0
    command = ["records", "build", "toy", "--data", str(toy_root), "--out", out, "--size", "32", "--examples", table]
    assert cli.main([*command, "--runner", "DirectRunner"]) == 0
    assert "150 examples in 61 shards, 0 rejected" in capsys.readouterr().out
    assert same_files(tmp_path / "beam", toy_records.directory)


def test_unreadable_and_absent_images_are_rejected_alike(toy_root, tmp_path):
    paths = sorted((toy_root / "train").iterdir())
    examples = validate(toy.COMPETITION.read(toy_root, Source()), 0)
    paths[0].write_bytes(b"nothing")
    paths[1].unlink()
    data = DataSettings(max_rejected=0.02)
    manifest = build_with_beam(
        "toy", examples, str(toy_root), str(tmp_path / "b"), ImageSettings(size=32), data, "DirectRunner"
    )
    assert {entry.path for entry in manifest.rejected} == {f"train/{path.name}" for path in paths[:2]}


def test_an_unknown_runner_and_no_beam(toy_root, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no runner 'FastRunner'"):
        beam(toy_root, tmp_path / "r", runner="FastRunner")
    monkeypatch.setitem(__import__("sys").modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"pip install apache-beam"):
        beam(toy_root, tmp_path / "s")


def test_images_inside_a_npz_are_refused(tmp_path):
    row = {"id": "a", "path": "x.npz/train_images/0", "bytes": 1, "split": "train", "group": "a", "y_x": 1.0}
    examples = Examples(pd.DataFrame([row]), ("x",), "binary")
    with pytest.raises(ConfigError, match=r"cannot read images inside a \.npz: build without --runner"):
        build_with_beam(
            "x", examples, str(tmp_path), str(tmp_path / "r"), ImageSettings(), DataSettings(), "DirectRunner"
        )

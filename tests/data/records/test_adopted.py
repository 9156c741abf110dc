"""Shards of records beside are taken over where they were made of the same examples."""

import json
import os
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from kit.competitions import toy
from kit.config import DataSettings, ImageSettings, Source
from kit.data.pixels.images import read_image
from kit.data.records import build as build_module
from kit.data.records import shards as shards_module
from kit.data.records.build import build_records
from kit.data.records.manifest import verify_records
from kit.data.table.examples import validate
from tests.data.conftest import SIZE, build, same_files


@pytest.fixture
def first(toy_records, tmp_path):
    """Records of the toy folder, in a folder of records."""
    directory = tmp_path / "records" / "first"
    shutil.copytree(toy_records.directory, directory)
    return directory


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded so far, as the one item of a list."""
    count, real = [0], shards_module.load

    def load(*arguments):
        count[0] += 1
        return real(*arguments)

    monkeypatch.setattr(shards_module, "load", load)
    return count


def change_test_set(root, change):
    """Another sample submission, with images to match."""
    table = change(pd.read_csv(root / "sample_submission.csv"))
    table.to_csv(root / "sample_submission.csv", index=False)
    images = {path.stem: path for path in (root / "test").iterdir()}
    for name in set(table["id"]) - set(images):
        shutil.copy(next(iter(images.values())), root / "test" / f"{name}.tif")
    for name in set(images) - set(table["id"]):
        images[name].unlink()
    return len(table)


CHANGES = {
    "fewer": lambda table: table[:20],
    "more": lambda table: pd.concat([table, table.assign(id="new-" + table["id"])]),
    "other": lambda table: table.assign(id="other-" + table["id"]),
    "one less": lambda table: table[1:],
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_test_set_decodes_no_training_image(toy_root, first, tmp_path, decoded, name):
    images = change_test_set(toy_root, CHANGES[name])
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [images]
    for shard in second.shards:
        if shard.cell is not None:
            assert (first / shard.file).samefile(second.directory / shard.file)
    alone = build(toy_root, tmp_path / "alone" / "r")
    assert same_files(second.directory, alone.directory)
    assert verify_records(second) == 120 + images


def test_no_test_set_decodes_nothing(toy_root, first, tmp_path, decoded):
    examples = toy.COMPETITION.read(toy_root, Source())
    train = validate(replace(examples, table=examples.table[examples.table["split"] == "train"]), 0)
    second = build_records("toy", train, toy_root, tmp_path / "records" / "second", SIZE, DataSettings(), workers=1)
    assert decoded == [0]
    assert verify_records(second) == 120
    # and back: the test images are taken from the first, the training images from either
    third = build(toy_root, tmp_path / "records" / "third", workers=1)
    assert decoded == [0]
    assert same_files(third.directory, first)


def test_other_training_labels_decode_no_test_image(toy_root, first, tmp_path, decoded):
    labels = pd.read_csv(toy_root / "train_labels.csv")
    labels.assign(label=1 - labels["label"]).to_csv(toy_root / "train_labels.csv", index=False)
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [120]
    assert verify_records(second) == 150


@pytest.mark.parametrize(
    "other",
    [
        {"image": ImageSettings(size=16)},
        {"image": ImageSettings(size=32, encoding="raw")},
        {"data": DataSettings(shard_mib=1)},
    ],
)
def test_other_settings_take_over_nothing(toy_root, first, tmp_path, decoded, other):
    second = build(toy_root, tmp_path / "records" / "second", workers=1, **other)
    assert decoded == [150]
    assert verify_records(second) == 150


def test_shards_are_copied_where_the_file_system_has_no_links(toy_root, first, tmp_path, decoded, monkeypatch):
    change_test_set(toy_root, CHANGES["fewer"])

    def no_links(*_):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [20]
    shard = next(shard.file for shard in second.shards if shard.cell is not None)
    assert not (first / shard).samefile(second.directory / shard)
    assert (first / shard).read_bytes() == (second.directory / shard).read_bytes()


def test_mounted_records_are_neighbours_too(toy_root, toy_records, tmp_path, decoded, monkeypatch, capsys):
    monkeypatch.setattr(build_module, "mounted", lambda name: iter([toy_records.directory / name]))
    change_test_set(toy_root, CHANGES["fewer"])
    build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [20]
    assert f"records: 60 of 61 shards taken over from {toy_records.directory}" in capsys.readouterr().out


# --- neighbours that are not as they should be ---


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "absent": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_shard_is_built_anew(toy_root, toy_records, first, tmp_path, decoded, name):
    shard = next(shard for shard in toy_records.shards if shard.cell == 7)
    DAMAGES[name](first / shard.file)
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [shard.examples]
    assert same_files(second.directory, toy_records.directory)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format_version": 2}', None])
def test_a_folder_without_a_manifest_of_records_is_no_neighbour(toy_root, first, tmp_path, decoded, text):
    manifest = first / "manifest.json"
    if text is None:
        manifest.unlink()
    else:
        manifest.write_text(text)
    build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [150]


def test_a_shard_with_a_rejected_image_is_built_anew(toy_root, tmp_path, decoded):
    path = sorted((toy_root / "train").iterdir())[5]
    whole = path.read_bytes()
    path.write_bytes(b"x" * len(whole))
    first = build(toy_root, tmp_path / "records" / "first", workers=1)
    assert [entry.id for entry in first.rejected] == [path.stem]
    (shard,) = [shard for shard in first.shards if shard.cell is not None and shard.examples == 1]
    path.write_bytes(whole)
    decoded[0] = 0
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [2]  # the repaired image and its neighbour in the cell
    assert not second.rejected
    assert (second.directory / shard.file).stat().st_nlink == 1
    assert same_files(second.directory, build(toy_root, tmp_path / "alone" / "r").directory)


def test_a_build_that_was_killed_takes_over_what_it_lacks(toy_root, toy_records, first, tmp_path, decoded, monkeypatch):
    real, out = build_module._link_or_copy, tmp_path / "records" / "second"

    def breaks(source, target):
        if "cell30" in source.name:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(build_module, "_link_or_copy", breaks)
    with pytest.raises(KeyboardInterrupt):
        build(toy_root, out, workers=1)
    shard = sorted(out.glob("train-*.tfrecord"))[0]
    shard.with_suffix(".json").unlink()  # killed between the shard and its note
    monkeypatch.setattr(build_module, "_link_or_copy", real)
    build(toy_root, out, workers=1)
    assert decoded == [0]
    assert same_files(out, toy_records.directory)


def test_taken_over_shards_outlive_their_source(toy_root, first, tmp_path):
    second = build(toy_root, tmp_path / "records" / "second", workers=1)
    shutil.rmtree(first)
    assert verify_records(second) == 150
    assert read_image(toy_root / second.table["path"][0]).shape == (96, 96, 3)


def test_training_shards_of_other_cells_are_not_taken(toy_root, first, tmp_path, decoded):
    manifest = json.loads((first / "manifest.json").read_text())
    (first / "manifest.json").write_text(json.dumps({**manifest, "cells": manifest["cells"] - 1}))
    change_test_set(toy_root, CHANGES["fewer"])
    build(toy_root, tmp_path / "records" / "second", workers=1)
    assert decoded == [140]

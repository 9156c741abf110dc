import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kit.config import ImageSettings
from kit.data.pixels.images import read_image
from kit.data.records import tfrecord
from kit.data.records.manifest import describe, open_records, verify_records
from kit.data.records.shards import image_shape
from kit.errors import DataError
from kit.runtime.devices import import_tensorflow
from tests.data.conftest import build


def test_plain_tensorflow_reads_every_image_back(toy_root, tmp_path):
    tf = import_tensorflow()
    records = build(toy_root, tmp_path / "r", ImageSettings(size=96))
    rows = records.table.set_index("id")
    seen = []
    for shard in records.shards:
        for raw in tf.data.TFRecordDataset(str(records.directory / shard.file)).as_numpy_iterator():
            feature = tf.train.Example.FromString(raw).features.feature
            assert sorted(feature) == ["group", "id", "image", "label", "shape"]
            name = feature["id"].bytes_list.value[0].decode()
            image = tf.io.decode_png(feature["image"].bytes_list.value[0]).numpy()
            assert list(feature["shape"].int64_list.value) == list(image.shape)
            assert np.array_equal(image, read_image(toy_root / rows.loc[name, "path"]))
            assert np.array_equal(feature["label"].float_list.value, [rows.loc[name, "y_tumour"]], equal_nan=True)
            assert feature["group"].bytes_list.value[0].decode() == rows.loc[name, "group"]
            assert (-1 if shard.cell is None else shard.cell) == rows.loc[name, "cell"]
            seen.append(name)
    assert sorted(seen) == sorted(rows.index)
    assert verify_records(records) == 150


def test_the_manifest_says_what_is_there(toy_records):
    manifest = json.loads((toy_records.directory / "manifest.json").read_text())
    assert manifest["competition"] == "toy"
    assert manifest["labels"] == ["tumour"]
    dicom = {"window": "first", "percentiles": None, "frame": None}
    image = {"steps": [], "size": 32, "color": "rgb", "encoding": "auto", "dicom": dicom}
    assert manifest["image"] == {**image, "percentiles": None, "max_pixels": 300_000_000}
    assert manifest["cells"] == 60
    assert sum(shard["examples"] for shard in manifest["shards"]) == 150
    assert {path.name for path in toy_records.directory.iterdir()} == {
        "manifest.json",
        "examples.parquet",
        *(shard["file"] for shard in manifest["shards"]),
    }


@pytest.mark.parametrize("encoding", ["png", "jpeg", "jpeg:80", "raw", "auto", "auto:95"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_every_encoding_and_colour(toy_root, tmp_path, encoding, color):
    records = build(toy_root, tmp_path / "r", ImageSettings(size=16, encoding=encoding, color=color))
    assert verify_records(records) == 150
    assert image_shape(records.image) == (16, 16, 1 if color == "gray" else 3)


@pytest.mark.parametrize("where", ["length", "data", "crc"])
def test_a_flipped_byte_is_named_with_its_record(toy_root, tmp_path, where):
    records = build(toy_root, tmp_path / "r")
    shard = records.directory / records.shards[-1].file
    data = bytearray(shard.read_bytes())
    (first,) = struct.unpack("<Q", data[:8])
    start = 12 + first + 4  # of record 1
    (length,) = struct.unpack("<Q", data[start : start + 8])
    data[start + {"length": 0, "data": 12 + length // 2, "crc": 12 + length}[where]] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=rf"{shard.name}: record 1 \(bytes {start} to \d+\) is damaged"):
        verify_records(records)


def test_a_truncated_shard_is_named(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r")
    shard = records.directory / records.shards[0].file
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{shard.name}: record 1 .*is damaged"):
        verify_records(records)
    with pytest.raises(DataError, match=f"{shard.name} is missing or not"):
        open_records(records.directory)


def test_a_valid_shard_with_other_bytes_is_found(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r")
    shard = records.directory / records.shards[0].file
    examples = list(tfrecord.read_records(shard))
    other = {**tfrecord.parse(examples[0]), "image": [b"another image"]}
    for records_now, message in (
        ([tfrecord.serialise(other), *examples[1:]], r"SHA-256 differs"),
        ([b"\xff\xff", *examples[1:]], r"record 0: not the example"),
        ([*examples, examples[0]], rf"record {len(examples)}: not any example"),
        (examples[:-1], rf"holds {len(examples) - 1} examples, examples.parquet {len(examples)}"),
    ):
        shard.write_bytes(b"".join(map(tfrecord.framed, records_now)))
        with pytest.raises(DataError, match=message):
            verify_records(records)


def test_a_table_that_is_not_the_records_is_found(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r")
    path = records.directory / "examples.parquet"
    table = pd.read_parquet(path)
    table.assign(y_tumour=1 - table["y_tumour"]).to_parquet(path)
    with pytest.raises(DataError, match=r"examples\.parquet is damaged \(it is not as it was written\): delete"):
        open_records(records.directory)
    manifest = json.loads(records.manifest_path.read_text())
    older = {key: value for key, value in manifest.items() if key not in ("examples_sha256", "sha256")}
    records.manifest_path.write_text(json.dumps(older))
    with pytest.raises(DataError, match=r"record 0: not the example"):
        verify_records(open_records(records.directory))
    table[1:].to_parquet(path)
    with pytest.raises(DataError, match=r"examples\.parquet is damaged \(its rows are not those of the shards\)"):
        open_records(records.directory)


def test_damage_is_one_line_that_names_the_file(toy_records, tmp_path):
    changes = (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"null"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.write_bytes(path.read_bytes()[:-30] + b"0" + path.read_bytes()[-29:]),
    )
    for n, change in enumerate(changes):
        for name in ("manifest.json", "examples.parquet", "train-cell00-00000.tfrecord"):
            folder = Path(shutil.copytree(toy_records.directory, tmp_path / f"{n} {name}"))
            change(folder / name)
            with pytest.raises(DataError) as raised:
                verify_records(open_records(folder), workers=1)
            assert str(folder / name) in str(raised.value) or "holds no records" in str(raised.value)
            assert "build" in str(raised.value) and "\n" not in str(raised.value)


def test_a_manifest_names_files_of_its_own_folder_alone(toy_records, tmp_path):
    folder = Path(shutil.copytree(toy_records.directory, tmp_path / "r"))
    content = json.loads((folder / "manifest.json").read_text())
    first, *rest = content["shards"]
    for name in ("../r/" + first["file"], str(folder / first["file"])):
        (folder / "manifest.json").write_text(
            json.dumps({**content, "shards": [{**first, "file": name}, *rest], "sha256": None})
        )
        with pytest.raises(DataError, match="names a file that does not lie in it"):
            open_records(folder)


def test_a_folder_without_records(tmp_path):
    with pytest.raises(DataError, match="build them first"):
        open_records(tmp_path)


@pytest.mark.parametrize(
    ("version", "remedy"), [(99, "install a newer kit"), (2, "build the records again in another folder")]
)
def test_records_of_another_format(toy_root, tmp_path, version, remedy):
    build(toy_root, tmp_path / "r")
    path = tmp_path / "r" / "manifest.json"
    content = json.loads(path.read_text())
    if version == 2:  # it had one fingerprint only
        del content["fingerprints"]
    path.write_text(json.dumps({**content, "format_version": version}))
    with pytest.raises(DataError, match=f"manifest.json has format {version}, this kit reads 3: {remedy}") as refusal:
        open_records(tmp_path / "r")
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match=f"has format {version}"):
        build(toy_root, tmp_path / "r")


@pytest.mark.parametrize("text", ["[]", "{}", '{"format_version": "3"}', '"text"'])
def test_somebody_elses_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is not the manifest of records"):
        open_records(tmp_path)


def test_a_damaged_manifest(toy_root, tmp_path):
    build(toy_root, tmp_path / "r")
    path = tmp_path / "r" / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "cells": "many"}))
    with pytest.raises(
        DataError, match=r"manifest\.json is damaged \(cells: .*\): delete .* and build the records again"
    ):
        open_records(tmp_path / "r")
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"manifest\.json is damaged \(.* line .*\): delete"):
        open_records(tmp_path / "r")


def test_describe_counts_what_is_there(toy_records):
    parts, table = describe(toy_records), toy_records.table
    assert list(parts.index) == ["train", "test", *(f"cell {n}" for n in range(60))]
    assert list(parts.columns) == ["examples", "groups", "MiB", "tumour", "tumour unknown"]
    assert parts.loc["train", "examples"] == 120
    assert parts.loc["train", "tumour"] == (table["y_tumour"] == 1).sum() == parts["tumour"].iloc[2:].sum()
    assert parts.loc["test", ["examples", "tumour", "tumour unknown"]].tolist() == [30, 0, 30]
    in_cell = table[table["cell"] == 7]
    assert parts.loc["cell 7", ["examples", "groups", "tumour"]].tolist() == [2, 2, in_cell["y_tumour"].sum()]
    size = sum(shard.bytes for shard in toy_records.shards if shard.cell is None)
    assert parts.loc["test", "MiB"] == pytest.approx(size / 2**20, abs=0.05)

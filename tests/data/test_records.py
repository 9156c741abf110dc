import errno
import filecmp
import json

import numpy as np
import pandas as pd
import pytest

from kit.competitions import toy
from kit.config import DataSettings, ImageSettings
from kit.data import records as records_module
from kit.data.examples import validate
from kit.data.images import read_image
from kit.data.records import build_records, image_shape, open_records, verify_records
from kit.errors import DataError
from kit.runtime.devices import import_tensorflow

SIZE = ImageSettings(size=32)
TOLERANT_OF_1_PERCENT = DataSettings()


def build(root, out, image=SIZE, data=TOLERANT_OF_1_PERCENT):
    return build_records("toy", validate(toy.COMPETITION.read(root), 0), root, out, image, data)


def same_files(a, b):
    names = sorted(path.name for path in a.iterdir())
    return names == sorted(path.name for path in b.iterdir()) and not any(
        filecmp.cmpfiles(a, b, names, shallow=False)[1:]
    )


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
    assert manifest["image"] == {"size": 32, "color": "rgb", "encoding": "auto"}
    assert manifest["cells"] == 60
    assert sum(shard["examples"] for shard in manifest["shards"]) == 150
    assert {path.name for path in toy_records.directory.iterdir()} == {
        "manifest.json",
        "examples.parquet",
        *(shard["file"] for shard in manifest["shards"]),
    }


@pytest.mark.parametrize("encoding", ["png", "jpeg", "raw"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_every_encoding_and_colour(toy_root, tmp_path, encoding, color):
    records = build(toy_root, tmp_path / "r", ImageSettings(size=16, encoding=encoding, color=color))
    assert verify_records(records) == 150
    assert image_shape(records.image) == (16, 16, 1 if color == "gray" else 3)


def test_a_cell_larger_than_a_shard_is_split(toy_root, tmp_path, monkeypatch):
    monkeypatch.setattr(records_module, "_SHARD_BYTES", 7 * 32 * 32 * 3)
    records = build(toy_root, tmp_path / "r")
    assert sum(shard.cell is None for shard in records.shards) == 5  # 30 test images in sevens
    assert verify_records(records) == 150


@pytest.mark.parametrize("after", [0, 3, 61])
def test_an_interrupted_build_goes_on_and_ends_with_the_same_bytes(toy_root, tmp_path, monkeypatch, after):
    whole = build(toy_root, tmp_path / "whole")
    written = []
    real = records_module._write_shard

    def breaks(path, *rest):
        if len(written) == after:
            path.with_name(".part-" + path.name).write_bytes(b"half")  # what a kill leaves
            raise KeyboardInterrupt
        written.append(path.name)
        return real(path, *rest)

    def counts(path, *rest):
        written.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(records_module, "_write_shard", breaks)
    if after < len(whole.shards):
        with pytest.raises(KeyboardInterrupt):
            build(toy_root, tmp_path / "killed")
        with pytest.raises(DataError, match="its build was cut off"):
            open_records(tmp_path / "killed")
    monkeypatch.setattr(records_module, "_write_shard", counts)
    build(toy_root, tmp_path / "killed")
    assert len(written) == len(set(written)) == len(whole.shards)  # no shard was written twice
    assert same_files(tmp_path / "whole", tmp_path / "killed")


def test_a_second_build_does_nothing_and_other_records_are_not_overwritten(toy_root, tmp_path, monkeypatch):
    build(toy_root, tmp_path / "r")
    monkeypatch.setattr(records_module, "_write_shard", lambda *_: pytest.fail("built again"))
    build(toy_root, tmp_path / "r")
    with pytest.raises(DataError, match="holds other records"):
        build(toy_root, tmp_path / "r", ImageSettings(size=16))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    with pytest.raises(DataError, match="not empty"):
        build(toy_root, tmp_path / "mine")


def test_a_build_killed_at_its_very_first_file_goes_on(toy_root, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".part-building.json").write_text("{")
    build(toy_root, tmp_path / "r")
    assert same_files(tmp_path / "r", build(toy_root, tmp_path / "fresh").directory)


def break_images(root):
    paths = sorted((root / "train").iterdir())[:3]
    paths[0].write_bytes(paths[0].read_bytes()[:10_000])
    paths[1].write_bytes(b"")
    paths[2].write_text("this is no image")
    return [path.stem for path in paths]


def test_unreadable_images_are_named_in_rejected(toy_root, tmp_path):
    broken = break_images(toy_root)
    records = build(toy_root, tmp_path / "r", data=DataSettings(max_rejected=0.02))
    assert sorted(entry["id"] for entry in records.rejected) == broken
    assert {entry["path"] for entry in records.rejected} == {f"train/{name}.tif" for name in broken}
    reasons = {entry["id"]: entry["reason"] for entry in records.rejected}
    assert "truncated" in reasons[broken[0]]
    assert "empty" in reasons[broken[1]]
    assert "not an image" in reasons[broken[2]]
    assert verify_records(records) == 147


def test_too_many_unreadable_images_fail_the_build(toy_root, tmp_path):
    broken = break_images(toy_root)
    with pytest.raises(DataError, match=r"3 of 150 images cannot be read, such as train/.*max_rejected"):
        build(toy_root, tmp_path / "r")
    assert not (tmp_path / "r" / "manifest.json").exists()
    # repaired without a change of size: what the first try rejected is read again
    good = read_image(sorted((toy_root / "train").iterdir())[5])
    for name in broken:
        size = (toy_root / "train" / f"{name}.tif").stat().st_size
        toy.write_tif(toy_root / "train" / f"{name}.tif", good)
        assert size != (toy_root / "train" / f"{name}.tif").stat().st_size
    assert not build(toy_root, tmp_path / "r").rejected


def test_a_full_disk_leaves_nothing_that_looks_finished(toy_root, tmp_path, monkeypatch):
    tf = import_tensorflow()
    real, room = tf.io.TFRecordWriter.write, [40]

    def write(self, record):
        room[0] -= 1
        if room[0] < 0:
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")
        real(self, record)

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", write)
    with pytest.raises(DataError, match="the disk is full"):
        build(toy_root, tmp_path / "r")
    left = {path.name for path in (tmp_path / "r").iterdir()}
    assert "manifest.json" not in left
    assert not any(name.startswith(".part") for name in left)
    room[0] = 10**9
    build(toy_root, tmp_path / "r")
    monkeypatch.undo()
    assert same_files(tmp_path / "r", build(toy_root, tmp_path / "fresh").directory)


def test_other_write_errors_are_not_called_a_full_disk(toy_root, tmp_path, monkeypatch):
    def denied(*_):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(records_module, "_write_shard", denied)
    with pytest.raises(PermissionError):
        build(toy_root, tmp_path / "r")


def test_damage_is_found(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r")
    shard = records.directory / records.shards[0].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=rf"{shard.name}: .*SHA-256"):
        verify_records(records)
    shard.write_bytes(data[:-1])
    with pytest.raises(DataError, match=f"{shard.name} is absent or not"):
        open_records(records.directory)


def test_a_table_that_is_not_the_records_is_found(toy_root, tmp_path):
    records = build(toy_root, tmp_path / "r")
    path = records.directory / "examples.parquet"
    table = pd.read_parquet(path)
    table.assign(y_tumour=1 - table["y_tumour"]).to_parquet(path)
    with pytest.raises(DataError, match=r"record 0: not the example"):
        verify_records(open_records(records.directory))


def test_a_folder_without_records(tmp_path):
    with pytest.raises(DataError, match="build them first"):
        open_records(tmp_path)


def test_records_of_a_newer_format(toy_root, tmp_path):
    build(toy_root, tmp_path / "r")
    path = tmp_path / "r" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(DataError, match="has format 99"):
        open_records(tmp_path / "r")

"""Images of records as files: what they hold, how they are called, and that none lies elsewhere."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.boxes import boxes_of
from kit.cli import main
from kit.competitions import toy_boxes
from kit.config import DataSettings, ImageSettings, Source, load_config
from kit.data.records.build import build_records
from kit.data.records.export import export, file_names
from kit.data.records.images import images_of
from kit.data.table.examples import validate
from kit.errors import DataError
from kit.stages.examples import list_examples

pytestmark = pytest.mark.once


def _pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]


def test_files_are_the_images_that_networks_see(toy_records, tmp_path):
    assert export(toy_records, tmp_path / "out") == len(toy_records.table)
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    assert [*table.columns] == ["id", "file", "split", "cell", "group", "y_tumour"]
    pd.testing.assert_frame_equal(
        table.drop(columns="file"),
        toy_records.table[["id", "split", "cell", "group", "y_tumour"]],
        check_dtype=False,
    )
    assert (table["file"] == table["split"] + "/" + table["id"] + ".png").all()
    images = images_of(toy_records, table["id"])
    for name, file in zip(table["id"][::5], table["file"][::5], strict=True):
        np.testing.assert_array_equal(_pixels(tmp_path / "out" / file), images[name])
    assert {path.name for path in tmp_path.iterdir()} == {"out"}  # nothing temporary is left


def test_some_images_as_jpeg(toy_records, tmp_path, capsys):
    chosen = [*toy_records.table["id"][[3, 140]]]
    options = ["--out", str(tmp_path / "out"), "--format", "jpeg", "--ids", *chosen]
    assert main(["records", "export", str(toy_records.directory), *options]) == 0
    assert f"2 images with their labels: {tmp_path / 'out'}" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    assert sorted(table["id"]) == sorted(chosen) and {*table["split"]} == {"train", "test"}
    images = images_of(toy_records, chosen)
    for name, file in zip(table["id"], table["file"], strict=True):
        assert file.endswith(".jpg")
        assert np.abs(_pixels(tmp_path / "out" / file).astype(int) - images[name]).mean() < 8


def test_the_folder_is_a_data_set_of_its_own(toy_records, tmp_path):
    export(toy_records, tmp_path / "out")
    columns = {"id": "file", "label": "y_tumour", "group": "group", "split": "split"}
    settings = ["table=images.csv", *(f"columns.{name}={column}" for name, column in columns.items())]
    table = list_examples(load_config("csv", settings), tmp_path / "out").table
    assert table["split"].value_counts().to_dict() == {"train": 120, "test": 30}
    expected = toy_records.table.set_index("group")["y_tumour"]
    train = table[table["split"] == "train"]
    assert (train["y_y_tumour"].to_numpy() == expected[train["group"]].to_numpy()).all()


def test_boxes_are_in_pixels_of_the_files(tmp_path):
    toy_boxes.make(tmp_path / "raw", train=12, test=3, size=64)
    examples = validate(toy_boxes.COMPETITION.read(tmp_path / "raw", Source()), 0)
    where = (tmp_path / "raw", tmp_path / "records")
    records = build_records("toy_boxes", examples, *where, ImageSettings(size=32), DataSettings())
    export(records, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "boxes.csv")
    source = boxes_of(records.table, records.labels)
    np.testing.assert_allclose(table.dropna()[["x", "y", "width", "height"]].to_numpy(), source.xywh / 2, atol=2e-3)
    assert {*table["image"]} == {*pd.read_csv(tmp_path / "out" / "images.csv")["file"]}
    assert {*table["label"].dropna()} == {"ellipse"}
    source = ["table=boxes.csv", "target=boxes"]
    again = list_examples(load_config("csv", source), tmp_path / "out")  # it can be read as it is
    assert len(boxes_of(again.table, again.labels)) == len(table.dropna())


def test_what_is_refused(toy_records, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(DataError, match="full is not empty"):
        export(toy_records, tmp_path / "full")
    with pytest.raises(DataError, match=r"holds no image nobody, nothing$"):
        export(toy_records, tmp_path / "out", ids=["nobody", "nothing"])
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "a.txt"]


def test_an_export_that_fails_leaves_nothing(toy_records, tmp_path, monkeypatch):
    from kit.data.records import export as module

    monkeypatch.setattr(module, "iter_images", lambda records, ids: iter(()))
    with pytest.raises(DataError, match=r"its shards lack .* and 147 more"):
        export(toy_records, tmp_path / "out")
    assert not [*tmp_path.iterdir()]


_ids = st.text(st.characters(exclude_categories=("Cs",)), max_size=150) | st.sampled_from(
    ["../x", "..", "/etc/passwd", "a/b.png", "A/B.PNG", "a_b", "a", "A", "con", "CON.png", "x.", ".hidden", "", "a.png"]
)


@settings(max_examples=200, deadline=None)
@given(st.sets(_ids, max_size=30))
def test_names_are_safe_and_apart_on_every_disk(ids):
    names = file_names(ids)
    assert {*names} == ids
    assert len({name.casefold() for name in names.values()}) == len(ids)
    for name in names.values():
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) and len(name) <= 120 and not name.endswith(".")
        assert name.lower().split(".")[0] not in {"con", "prn", "aux", "nul"}
    assert file_names(sorted(ids)) == names


def test_names_stay_what_ids_are_where_they_can():
    names = file_names(["00a1", "p1.png", "dir/b.png", "Scan", "scan"])
    assert (names["00a1"], names["p1.png"]) == ("00a1", "p1")
    assert re.fullmatch(r"dir_b-[0-9a-f]{16}", names["dir/b.png"])
    assert names["Scan"].startswith("Scan-") and names["scan"].startswith("scan-")

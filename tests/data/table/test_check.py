"""Looking at a folder in which everything is wrong that can be."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from kit import cli
from kit.competitions import folders
from kit.config import ImageSettings, Source
from kit.data.table import check
from kit.data.table.check import as_text, check_images
from kit.errors import DataError, WorkerDied


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    grey = [rng.integers(0, 256, (20, 30), np.uint8) for _ in range(8)]
    colour = np.dstack([grey[0], grey[1], grey[2]])
    files = {
        "train/ill/p1_0.png": png(grey[0]),
        "train/ill/p1_1.png": png(np.dstack([grey[0]] * 3)),  # the same picture, in three channels
        "train/well/p2_0.png": png(grey[1]),
        "train/ill/p3_0.png": png(grey[1]),  # and another label
        "train/well/p4_0.png": png(np.dstack([grey[2], grey[2], grey[2], np.full_like(grey[2], 255)])),
        "train/well/p5_0.png": png(colour),
        "train/well/p6_0.png": png(grey[3])[:200],
        "val/well/p2_1.png": png(grey[4]),
        "test/ill/p1_2.png": png(grey[5]),
        "test/well/p7_0.png": png(grey[2]),  # a training image
        "train/stray.png": png(grey[6]),
    }
    for name, data in files.items():
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_bytes(data)
    return tmp_path / "raw"


def test_everything_odd_is_found(root):
    source = Source(columns={"group": r"p\d+"})
    report = check_images(folders.read(root, source), root, ImageSettings())
    assert report["images"] == 10
    assert report["splits"]["train"] == {
        "images": 7,
        "groups": 6,
        "labels": {"ill": 3, "not ill": 4},
        "unlabelled": 0,
    }
    assert list(report["splits"]) == ["train", "val", "test"]
    assert report["surplus"] == ["train/stray.png"]
    assert [bad["path"] for bad in report["unreadable"]] == ["train/well/p6_0.png"]
    assert report["channels"] == {"L": 6, "RGB": 2, "RGBA": 1}
    assert report["with_alpha"] == ["train/well/p4_0.png"]
    assert report["sizes"]["most"] == {"30x20": 9}
    assert report["images_per_group"] == {"1": 5, "2": 1, "3": 1}
    duplicates = report["duplicates"]
    assert duplicates["images"] == 6
    assert duplicates["within_class"] == [["ill/p1_0.png", "ill/p1_1.png"], ["well/p4_0.png", "well/p7_0.png"]]
    assert duplicates["across_classes"] == [["ill/p3_0.png", "well/p2_0.png"]]
    assert duplicates["across_splits"] == [["well/p4_0.png", "well/p7_0.png"]]
    assert len(duplicates["across_groups"]) == 2
    assert report["groups_in_several_splits"] == ["p1", "p2"]  # train and test; train and val
    text = as_text(report)
    assert len(text.splitlines()) < 30
    for line in (
        "alpha      1: train/well/p4_0.png",
        "1 set IN SEVERAL CLASSES: one of the labels is wrong: ill/p3_0.png = well/p2_0.png",
        "groups in several splits: 2: p1, p2",
    ):
        assert line in text


def test_the_command_gives_text_json_and_a_table(root, tmp_path, capsys):
    command = ["examples", "folders", "--data", str(root), "--set", "data.max_missing=0.5"]
    assert cli.main([*command, "--check"]) == 0
    assert "10 images, 10 groups, binary" in capsys.readouterr().out
    assert cli.main([*command, "--check", "--json", "--out", str(tmp_path / "e.parquet")]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 10
    assert (tmp_path / "e.parquet").exists()
    assert cli.main(command) == 0 and "--check decodes every image" in capsys.readouterr().out


def test_a_set_that_is_broken_can_be_looked_at(root):
    for path in (root / "train" / "well").iterdir():
        path.write_bytes(b"")
    report = check_images(folders.read(root, Source()), root, ImageSettings())
    assert len(report["unreadable"]) == 4
    assert "the file is empty" in as_text(report)


def test_a_worker_that_dies_is_said_to_have_read_one_of_some_images(root, monkeypatch):
    def dies(function, calls, workers):
        yield function(*next(iter(calls)))
        raise WorkerDied("a worker process died")

    monkeypatch.setattr(check, "in_processes", dies)
    monkeypatch.setattr(check, "_AT_ONCE", 4)
    paths = [f"train/ill/{n}.png" for n in range(10)]
    with pytest.raises(DataError, match=r"died; being read: one of train/ill/4\.png to train/ill/7\.png$"):
        check.look_at(paths, root, ImageSettings(), workers=1)


def test_boxes_are_counted(tmp_path, capsys):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(png(np.full((20, 40), 10 * n, np.uint8)))
    rows = ["image,x,y,width,height,label", "0,0,0,10,20,mass", "0,1,1,4,4,cyst", "1,5,5,20,10,mass", "2,,,,,"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    report = check_images(folders.read(tmp_path, Source(target="boxes")), tmp_path, ImageSettings())
    assert report["boxes"] == {
        "boxes": 3,
        "per_image": {"0": 2, "1": 1, "2": 1},
        "labels": {"cyst": 1, "mass": 2},
        "sides": {"width": [4, 10, 20], "height": [4, 10, 20]},
        "area": [[0.02, 0.25, 0.25]],
    }
    assert "boxes      3: 0 in 2 images, 1 in 1 image, 2 in 1 image\n  of cyst 1  mass 2\n  width 4 to 20" in as_text(
        report
    )
    command = ["examples", "folders", "--data", str(tmp_path), "--set", "target=boxes"]
    assert cli.main(command) == 0
    assert (
        "4 images, 4 groups, detection\n  train: 4 images, 4 groups   cyst 1  mass 2\nboxes      3: 0 in 2"
        in capsys.readouterr().out
    )
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["boxes"]["boxes"] == 3


def test_equal_images_with_different_boxes(tmp_path):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(png(np.full((20, 40), 10 * (n // 2), np.uint8)))
    rows = ["image,x,y,width,height", "0,0,0,10,20", "1,0,0,10,19", "2,1,1,5,5", "3,1,1,5,5"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    report = check_images(folders.read(tmp_path, Source(target="boxes")), tmp_path, ImageSettings())
    assert report["duplicates"]["across_boxes"] == [["0.png", "1.png"]]
    assert len(report["duplicates"]["within_class"]) == 2
    assert "  1 set WITH DIFFERENT BOXES: 0.png = 1.png" in as_text(report)

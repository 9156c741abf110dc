"""What is told of a raw folder before anything is decoded or built."""

import re

import pandas as pd
import pytest

from kit import pipeline
from kit.cli import main
from kit.config import load_config
from kit.data.table.examples import Examples
from kit.errors import ConfigError
from kit.stages.examples import check_folds


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function: number of patients of two images in each class, settings -> tries to run, and must not build."""

    def never(*_):
        pytest.fail("is built")

    for name in ("build_records", "train"):
        monkeypatch.setattr(pipeline, name, never)

    def start(patients, *settings):
        for label in ("normal", "ill"):
            for n in range(2 * patients):
                path = tmp_path / "data" / label / f"p{n % patients}_{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"\x89PNG\r\n\x1a\n")
        settings = [r"columns.group=(p\d+)_", *settings]
        pipeline.run("folders", data=tmp_path / "data", run=tmp_path / "run", settings=settings)

    return start


@pytest.mark.once
def test_fewer_groups_than_folds(run, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"folds = 5, but there are 3 groups .* of 12 images.*--set folds=3"):
        run(3)
    assert "groups: 3 of 4 images each, such as p0 (4), p1 (4), p2 (4)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.once
def test_a_batch_larger_than_a_fold(run):
    with pytest.raises(
        ConfigError, match=r"train.batch_size = 64, but a fold trains on 16 images.*train.batch_size=16"
    ):
        run(5, "train.batch_size=64")


@pytest.mark.once
def test_an_archive_is_no_folder(tmp_path, capsys):
    (tmp_path / "data.zip").write_bytes(b"PK")
    assert main(["examples", "folders", "--data", str(tmp_path / "data.zip"), "--check"]) == 2
    assert re.fullmatch(r"kit: .*data\.zip is a file, not a folder: unpack it, .*\n", capsys.readouterr().err)


def test_boxes_that_a_batch_has_no_room_for():
    table = pd.DataFrame({"id": ["a"], "split": ["train"], "boxes": [[[0, 0, 1, 1], [1, 1, 1, 1]]]})
    config = load_config("toy_boxes", ["input.most_boxes=1"])
    with pytest.raises(ConfigError, match=r"input\.most_boxes = 1, but a has 2 boxes"):
        check_folds(config, Examples(table, ("box",), "detection"))

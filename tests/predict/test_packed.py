"""A run as one file, that predicts what the run predicts."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from kit import pipeline
from kit.errors import ConfigError, DataError
from kit.predict.packed import opened, pack
from kit.predict.predictor import Predictor
from kit.run import Run
from tests.conftest import TINY


@pytest.fixture(scope="module")
def toy_run(keras, _toy_folder, tmp_path_factory):
    """A finished run of the toy competition."""
    root = tmp_path_factory.mktemp("packed")
    return pipeline.run("toy", _toy_folder, root / "run", root / "records", [*TINY, "train.epochs=1"])


@pytest.fixture(scope="module")
def packed(toy_run, tmp_path_factory):
    """The toy run, and the file of it."""
    path = tmp_path_factory.mktemp("packed") / "toy.kit.zip"
    pack(toy_run, path)
    return path


def test_it_predicts_what_the_run_predicts(toy_run, packed):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    pd.testing.assert_frame_equal(Predictor.open(packed).predict(images), Predictor.open(toy_run).predict(images))
    weights = sum(toy_run.fold(k).model[1].stat().st_size for k in toy_run.trained_folds())
    assert packed.stat().st_size < 1.1 * weights + 50_000


def test_no_id_leaves_with_it_and_the_same_run_gives_the_same_bytes(toy_run, packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".parquet", "submission.csv"))]
        content = b"".join(map(archive.read, archive.namelist()))
    assert not [name for name in toy_run.examples()["id"] if str(name).encode() in content and len(str(name)) > 6]
    pack(toy_run, tmp_path / "again.kit.zip")
    assert (tmp_path / "again.kit.zip").read_bytes() == packed.read_bytes()


def test_a_folder_is_opened_as_it_is(toy_run):
    with opened(toy_run.directory) as run:
        assert run.directory == toy_run.directory


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "fold0/x.py", "fold0/../../x.json", "C:\\x.json"])
def test_files_of_other_names_are_refused(name, tmp_path):
    path = tmp_path / "evil.kit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.yaml", "competition: toy")
        archive.writestr(name, "x")
    with pytest.raises(DataError, match="is no exported run: it holds"), opened(path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["evil.kit.zip"]


def test_a_damaged_file_is_named(packed, tmp_path):
    content, half = packed.read_bytes(), packed.stat().st_size // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for n, cut in enumerate((content[:half], b"not a zip", flipped)):
        path = tmp_path / f"damaged{n}.kit.zip"
        path.write_bytes(cut)
        with pytest.raises(DataError, match="damaged"):
            Predictor.open(path)


def test_what_cannot_be_packed(toy_run, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.kit\.zip"):
        pack(toy_run, tmp_path / "toy.zip")
    with pytest.raises(DataError, match="no fold trained yet"):
        pack(Run(tmp_path), tmp_path / "none.kit.zip")

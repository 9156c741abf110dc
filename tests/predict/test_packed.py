"""A run as one file, that predicts what the run predicts."""

import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from kit.errors import ConfigError, DataError
from kit.predict.packed import opened, pack
from kit.predict.predictor import Predictor
from kit.run import Run

pytestmark = pytest.mark.xdist_group("packed")  # its run is trained once


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


def changed(packed, path, name, content):
    """A copy of an exported run in which a file holds something else."""
    with zipfile.ZipFile(packed) as before, zipfile.ZipFile(path, "w") as after:
        for each in before.namelist():
            after.writestr(each, content if each == name else before.read(each))
    return path


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.kit.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fold0/model.weights.h5", bytes(80 * 2**20))
    assert path.stat().st_size < 2**20
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="would unpack to far more than it is"), opened(path):
        pass


class Planted:
    """What unpickling runs: it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["fold0/model.weights.h5", "fold0/model.json", "decision.json", "config.yaml"])
def test_no_pickle_is_loaded(packed, name, tmp_path):
    mark = tmp_path / "ran"
    path = changed(packed, tmp_path / "evil.kit.zip", name, pickle.dumps(Planted(mark)))
    with pytest.raises((ConfigError, DataError)):
        Predictor.open(path)
    assert not mark.exists()


LAMBDA = {"class_name": "Lambda", "module": "keras.layers", "config": {"function": "gAAAA=", "name": "x"}}


@pytest.mark.parametrize("name", ["keras.layers.Lambda", "hub/ResNetBackbone", "tfhub:/tmp/x", "../../model"])
def test_no_code_of_a_model_is_loaded(packed, name, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        content = json.loads(archive.read("fold0/model.json"))
    content["build"] = {**content["build"], "name": name, "config": LAMBDA}
    path = changed(packed, tmp_path / "evil.kit.zip", "fold0/model.json", json.dumps(content))
    with pytest.raises((ConfigError, DataError), match="model"):
        Predictor.open(path)


def test_weights_that_lead_elsewhere_are_refused(packed, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    content = (tmp_path / "w.h5").read_bytes()
    path = changed(packed, tmp_path / "evil.kit.zip", "fold0/model.weights.h5", content)
    with pytest.raises(DataError, match=r"layers is a link|not as kit wrote it|damaged"):
        Predictor.open(path)


@pytest.mark.parametrize(
    "name",
    [
        "fold0/model.pkl",
        "fold0/model.keras",
        "../evil.json",
        "/tmp/evil.json",
        "fold0/x.py",
        "fold0/../../x.json",
        "C:\\x.json",
    ],
)
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

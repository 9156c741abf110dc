"""Opening a model that somebody else made: data, which runs and fetches nothing."""

import json

import h5py
import numpy as np
import pytest

from kit.errors import ConfigError, DataError
from kit.models.trust import require_own, source_outside


@pytest.fixture
def saved(keras, tmp_path):
    """A folder with a small saved model."""
    from kit.models import registry
    from kit.models.saved import save_model

    spec = {"name": "pcam_cnn", "shape": (32, 32, 3), "outputs": 1, "activation": "sigmoid", "units": 4}
    save_model(registry.build(**spec), spec, tmp_path)
    return tmp_path


def change(folder, **build):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "build": {**content["build"], **build}}))


def test_what_was_saved_is_loaded(saved):
    from kit.models.saved import load_model

    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert load_model(saved).predict_on_batch(images).shape == (1, 1)


@pytest.mark.parametrize(
    "name", ["tfhub:https://tfhub.dev/x/1", "tfhub:/tmp", "hub/resnet_50_imagenet", "hub//etc", "hub/https://x.org/y"]
)
def test_a_model_from_elsewhere_needs_trust(saved, monkeypatch, name):
    from kit.models import registry
    from kit.models.saved import load_model

    monkeypatch.setattr(registry, "build", lambda **_: pytest.fail("built"))
    change(saved, name=name)
    for trust in (False, "tfhub:another"):
        with pytest.raises(ConfigError, match=r"model\.json builds the model .* files outside the run: give --trust"):
            load_model(saved, trust)
    for trust in (True, name):
        with pytest.raises(pytest.fail.Exception, match="built"):
            load_model(saved, trust)


def test_a_class_of_kerashub_needs_trust_only_for_classes_within():
    assert source_outside("hub/ResNetBackbone", {"config": {"input_conv_filters": [64]}}) is None
    assert source_outside("hub/ResNetBackbone", {"config": {"image_encoder": {"class_name": "Lambda"}}})
    assert source_outside("hub/folder/ResNetBackbone", {}) == "hub/folder/ResNetBackbone"
    assert source_outside("hub/DFineObjectDetector", {"backbone": "resnet50"}) is None
    assert source_outside("resnet50", {}) is None


def test_a_preset_under_a_detector_needs_trust_by_its_own_name(tmp_path):
    build = {
        "name": "hub/DFineObjectDetector",
        "backbone": "hub/resnet_18_imagenet",
        "shape": [32, 32, 3],
        "outputs": 1,
    }
    assert source_outside(build["name"], build) == "hub/resnet_18_imagenet"
    nested = {**build, "backbone": "hub/ResNetBackbone", "backbone_arguments": {"config": {"module": "os"}}}
    assert source_outside(nested["name"], nested) == "hub/DFineObjectDetector"
    for trust in (False, "hub/DFineObjectDetector"):
        with pytest.raises(ConfigError, match=r"builds the model 'hub/resnet_18_imagenet' from files outside the run"):
            require_own(tmp_path, build, trust)
    for trust in (True, "hub/resnet_18_imagenet"):
        require_own(tmp_path, build, trust)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        ({"name": "os.system"}, ConfigError, "unknown model 'os.system'"),
        ({"units": 4, "command": "ls"}, ConfigError, "command"),
        ({"name": 7}, DataError, "build.name"),
        ({"shape": [32, 32]}, DataError, "build.shape"),
        ({"shape": [10**9, 32, 3]}, DataError, "build.shape"),
        ({"outputs": -1}, DataError, "build.outputs"),
        ({"activation": "exec"}, DataError, "build.activation"),
        ({"units": 5}, DataError, "does not hold the weights of pcam_cnn"),
    ],
)
def test_a_description_that_kit_did_not_write_is_one_line(saved, build, error, says):
    from kit.models.saved import load_model

    change(saved, **build)
    with pytest.raises(error, match=says) as raised:
        load_model(saved)
    assert "\n" not in str(raised.value)


def test_weights_lie_in_their_own_file_and_are_no_larger_than_it(saved):
    from kit.models.saved import load_model

    path = saved / "model.weights.h5"
    whole = path.read_bytes()
    with h5py.File(saved / "other.h5", "w") as file:
        file["x"] = np.zeros(3)

    def external_link(file):
        file["secret"] = h5py.ExternalLink(str(saved / "other.h5"), "x")

    def external_data(file):
        file.create_dataset("secret", (8,), "u1", external=[(str(saved / "model.json"), 0, 8)])

    def soft_link(file):
        file["loop"] = h5py.SoftLink("/")

    def huge(file):
        file.create_dataset("huge", (2**40,), "f4", chunks=(1024,))

    for add, says in (
        (external_link, "secret is a link"),
        (soft_link, "loop is a link"),
        (external_data, "secret lies in another file"),
        (huge, "it declares 4,398,"),
    ):
        path.write_bytes(whole)
        with h5py.File(path, "a") as file:
            add(file)
        with pytest.raises(DataError, match=rf"model\.weights\.h5 is damaged \({says}.*: restore it, or delete"):
            load_model(saved)
    for content in (b"", whole[: len(whole) // 2], b"\x89HDF\r\n\x1a\n" + b"\0" * 50):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"model\.weights\.h5 is damaged"):
            load_model(saved)


def test_a_full_disk_is_seen_before_hdf5_writes(tmp_path, monkeypatch, keras):
    import errno
    import os

    from kit.errors import FullDisk
    from kit.models import registry
    from kit.models.saved import write_weights

    sizes = []

    def allocate(descriptor, offset, size):
        sizes.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = registry.build("pcam_cnn", shape=(32, 32, 3), outputs=1, activation="sigmoid", units=8)
    write_weights(model, tmp_path / "x.weights.h5")
    expected = (tmp_path / "x.weights.h5").stat().st_size
    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    with pytest.raises(FullDisk, match=r"the disk is full, .*y\.weights\.h5 could not be written"):
        write_weights(model, tmp_path / "y.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["x.weights.h5"]
    assert expected <= sizes[0] <= 2 * expected

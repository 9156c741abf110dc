"""Where weights are looked for, what is loaded of them, and that nothing is ever taken in their place."""

import hashlib

import numpy as np
import pytest

from kit.errors import ConfigError
from tests.conftest import REAL

SQUEEZENET = REAL / "weights" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
MOBILENET = REAL / "weights" / "mobilenet_1_0_224_block12_no_top.weights.h5"
real = pytest.mark.skipif(not SQUEEZENET.exists(), reason=f"no real weights in {REAL} (KIT_REAL_DATA)")


@pytest.fixture(scope="module")
def build(keras):
    from kit.models import registry
    from kit.models.weights import load_weights

    def build(name, weights, side=64, **arguments):
        model = registry.build(name, shape=(side, side, 3), outputs=1, **{"units": 4, **arguments})
        load_weights(model, registry.model_card(name), weights)
        return model

    return build


@real
@pytest.mark.real
def test_old_keras_weights_are_found_checked_and_fill_the_whole(build, monkeypatch, tmp_path, keras, capsys):
    import h5py

    monkeypatch.setenv("KIT_WEIGHTS", str(SQUEEZENET.parent))
    backbone = build("squeezenet", None).get_layer("backbone")
    path = SQUEEZENET.parent / SQUEEZENET.name
    assert capsys.readouterr().out == f"weights from imagenet ({path}): 100.0% of 722,496 backbone parameters\n"
    with h5py.File(SQUEEZENET) as file:
        assert np.array_equal(file["conv1/uniform1"], backbone.get_layer("conv1").get_weights()[0])
        assert np.array_equal(
            file["fire9/expand3x3/fire9/expand3x3_b"], backbone.get_layer("fire9_expand3x3").get_weights()[1]
        )
    broken = tmp_path / SQUEEZENET.name
    broken.write_bytes(SQUEEZENET.read_bytes()[:-1])
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigError, match="is not the published file"):
        build("squeezenet", "imagenet")


@real
@pytest.mark.real
def test_a_file_of_part_of_a_network(build, capsys):
    arguments = {"until": "conv_pw_12_relu", "units": []}
    path = f"{MOBILENET}#sha256={hashlib.sha256(MOBILENET.read_bytes()).hexdigest()}"
    model = build("mobilenet", path, **arguments)
    assert "100.0%" in capsys.readouterr().out
    kernels = [v for v in model.get_layer("backbone").weights if v.path.endswith("kernel")]
    assert all(np.std(v.numpy() if hasattr(v, "numpy") else np.asarray(v)) > 0 for v in kernels)
    with pytest.raises(ConfigError, match=r"fills 6\d% of the parameters of mobilenet.*not filled: conv_dw_13"):
        build("mobilenet", str(MOBILENET))
    with pytest.raises(ConfigError, match="is not the published file"):
        build("mobilenet", f"{MOBILENET}#sha256={'0' * 64}", **arguments)
    with pytest.raises(ConfigError, match=r"of another network|holds no weights that fit"):
        build("squeezenet", str(MOBILENET))


@pytest.mark.slow
@real
@pytest.mark.real
@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "path", "arguments"),
    [("squeezenet", SQUEEZENET, {"until": "fire5_concat"}), ("mobilenet", MOBILENET, {"until": "conv_pw_12_relu"})],
)
def test_features_of_pretrained_weights_tell_more_than_random_ones(build, keras, real_data, name, path, arguments):
    """A linear classifier on pooled features of 600 real patches of PCam, cross-validated."""
    import cv2
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = pd.read_csv(real_data("pcam") / "train_labels.csv")[:600]
    images = np.stack([cv2.imread(str(real_data("pcam") / "train" / f"{n}.tif"))[..., ::-1] for n in rows["id"]])

    def area(weights):
        keras.utils.set_random_seed(0)
        model = build(name, weights, side=96, **arguments)
        features = keras.Model(model.inputs, model.get_layer("pool").output).predict(images, verbose=0, batch_size=64)
        linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        return cross_val_score(linear, features, rows["label"], cv=4, scoring="roc_auc").mean()

    assert area(str(path)) > area("none") + 0.02


def test_offline_folders_in_order(tmp_path, monkeypatch):
    from kit.models.weights import find_offline

    monkeypatch.delenv("KIT_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    mounts = tmp_path / "input"
    assert find_offline("x.h5", mounts) is None
    for folder in (mounts / "datasets" / "me" / "weights", tmp_path / "keras" / "models", tmp_path / "own"):
        folder.mkdir(parents=True)
        (folder / "x.h5").write_text("weights")
        monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path / "own"))
        assert find_offline("x.h5", mounts) == folder / "x.h5"


def test_imagenet_weights_without_internet_are_an_error(build, monkeypatch):
    from kit.models import registry
    from kit.models.cards import ModelCard, Published

    def offline():
        raise Exception("URL fetch failure on https://...: Name or service not known")

    card = registry.model_card("mobilenet")
    monkeypatch.setitem(
        registry._CARDS,
        "mobilenet",
        ModelCard("mobilenet", card.builder, 224, "imagenet", published=Published("mine.h5", None, offline)),
    )
    with pytest.raises(ConfigError, match=r"could not be downloaded \(URL fetch failure.*put mine\.h5 into \$KIT_WEIG"):
        build("mobilenet", None)


def test_downloaded_weights_are_copied_into_a_cut_backbone(build, keras):
    from kit.models.cards import BACKBONE
    from kit.models.weights import copy_weights

    keras.utils.set_random_seed(1)
    source = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    target = build("mobilenet", "none", until="conv_pw_3_relu").get_layer("backbone")
    assert len(copy_weights(source, target)) == len(target.variables)
    assert np.array_equal(
        source.get_layer("conv_pw_3").get_weights()[0], target.get_layer("conv_pw_3").get_weights()[0]
    )
    assert target.name == BACKBONE


def test_another_runs_backbone(build, keras, tmp_path, capsys):
    from kit.models import registry
    from kit.models.saved import save_model

    spec = {"name": "squeezenet", "shape": (64, 64, 3), "outputs": 3, "units": 16}
    before = registry.build(**spec)
    save_model(before, spec, tmp_path / "fold0")
    for source in (f"run:{tmp_path}", f"run:{tmp_path / 'fold0'}"):
        model = build("squeezenet", source)
        theirs, ours = before.get_layer("backbone").get_weights(), model.get_layer("backbone").get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(theirs, ours, strict=True))
        assert capsys.readouterr().out.startswith(f"weights from {source}: 100.0% of ")
    with pytest.raises(ConfigError, match="another network"):
        build("mobilenet", f"run:{tmp_path}")
    with pytest.raises(ConfigError, match="has no trained fold"):
        build("squeezenet", "run:nowhere")


def test_weights_of_a_dataset(build, tmp_path, monkeypatch):
    from kit.models import weights

    monkeypatch.setattr(weights, "find_mount", lambda slug: tmp_path if slug == "me/weights" else None)
    build("squeezenet", "none").get_layer("backbone").save_weights(tmp_path / "s.weights.h5")
    build("squeezenet", "kaggle:me/weights/s.weights.h5")
    with pytest.raises(ConfigError, match="does not exist"):
        build("squeezenet", "kaggle:me/weights/other.h5")
    with pytest.raises(ConfigError, match="write it as kaggle:OWNER/NAME/FILE"):
        build("squeezenet", "kaggle:me/weights")
    with pytest.raises(ConfigError, match="you/weights is not mounted"):
        build("squeezenet", "kaggle:you/weights/x.h5")


def test_what_a_kernel_without_internet_is_sent(tmp_path, monkeypatch, keras):
    from kit.models.cards import Provided, Published
    from kit.models.weights import to_send

    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    own = tmp_path / "own.h5"
    own.write_bytes(b"w")
    published = Published("published_notop.h5", None)
    with pytest.raises(ConfigError, match=r"give published_notop\.h5 with --weights"):
        to_send("imagenet", "m", published, [own])
    copy = tmp_path / "published_notop.h5"
    copy.write_bytes(b"w")
    assert to_send("imagenet", "m", published, [copy]) == [copy]
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path))
    assert to_send("imagenet", "m", published, []) == [copy], "it is here"
    assert to_send(str(own), "m", None, []) == to_send(f"{own}#sha256=ab", "m", None, []) == [own]
    assert to_send("elsewhere/own.h5", "m", None, [own]) == [own]
    assert to_send("none", "m", None, []) == to_send("kaggle:a/b/c.h5", "m", None, []) == []
    for source, message in (
        ("typo.h5", "does not exist"),
        ("run:runs/a", "is a folder"),
        ("kaggle:a/b", "OWNER/NAME/FILE"),
    ):
        with pytest.raises(ConfigError, match=message):
            to_send(source, "m", None, [])
    with pytest.raises(ConfigError, match="is a folder"):
        to_send("preset", "m", Provided("preset"), [])
    with pytest.raises(ConfigError, match="--weights takes files"):
        to_send("none", "m", None, [tmp_path / "absent.h5"])


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("pcam_cnn", "imagenet", "model pcam_cnn has no ImageNet weights: use model.weights=none, or a file"),
        ("squeezenet", "/nowhere.h5", r"/nowhere\.h5 does not exist"),
    ],
)
def test_weights_that_do_not_exist(build, name, source, message):
    with pytest.raises(ConfigError, match=message):
        build(name, source)

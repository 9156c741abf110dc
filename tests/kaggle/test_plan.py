"""What weights a kernel gets: files of what it would choose itself, and Kaggle's own models."""

from types import SimpleNamespace

import pytest

from kit.errors import ConfigError
from kit.kaggle import bundle, plan
from kit.kaggle.plan import plan_submission, with_weights
from kit.models import keras_hub_presets
from kit.models.auto import ALWAYS

FILES = {"gpu": "efficientnetv2-b2_notop.h5", "tpu": "efficientnetv2-b2_notop.h5"}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty $KIT_WEIGHTS."""
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.mark.parametrize("accelerator", ["gpu", "tpu", "cpu"])
def test_a_kernel_that_chooses_gets_the_file_if_it_is_here(weights, accelerator, caplog):
    caplog.set_level("INFO")
    auto = plan_submission("pcam", (), accelerator)
    assert with_weights(auto).weights == ()
    noticed = caplog.text
    assert ("`kit weights get efficientnetv2b2 --out DIR`" in noticed) == (accelerator != "cpu")
    for name in FILES.values():
        (weights / name).write_bytes(b"x")
    sent = with_weights(auto).weights
    assert sent == ((weights / FILES[accelerator],) if accelerator in FILES else ())
    assert with_weights(auto, sent).weights == sent  # once
    other = weights / "other.weights.h5"
    other.write_bytes(b"x")
    assert with_weights(auto, [other]).weights == (other, *sent)


def test_nothing_is_sent_for_random_weights_and_no_weights_of_some_network(weights):
    (weights / FILES["gpu"]).write_bytes(b"x")
    assert with_weights(plan_submission("pcam", ["model.weights=none"])).weights == ()
    with pytest.raises(ConfigError, match="are those of one network"):
        with_weights(plan_submission("pcam", ["model.weights=imagenet"]))


def test_detectors_that_choose_their_backbone(weights):
    (weights / FILES["gpu"].replace("b2", "s")).write_bytes(b"x")
    assert [path.name for path in with_weights(plan_submission("folders_boxes")).weights] == [
        "efficientnetv2-s_notop.h5"
    ]
    assert ALWAYS not in str(with_weights(plan_submission("folders_boxes", (), "cpu")).weights)


@pytest.fixture
def presets(monkeypatch):
    known = {"resnet_18_imagenet": {"kaggle_handle": "kaggle://keras/resnetv1/keras/resnet_18_imagenet/3"}}
    classes = SimpleNamespace(presets=known)
    library = SimpleNamespace(models=SimpleNamespace(Backbone=classes, ObjectDetector=SimpleNamespace(presets={})))
    monkeypatch.setattr(keras_hub_presets, "library", lambda: library)


def test_presets_are_attached_as_kaggle_models(presets):
    model = "keras/resnetv1/keras/resnet_18_imagenet/3"
    assert keras_hub_presets.kaggle_model("resnet_18_imagenet") == model
    for other in ("/a/folder", "hf://a/b", "ResNetBackbone"):
        assert keras_hub_presets.kaggle_model(other) is None
    assert plan._kaggle_model(SimpleNamespace(name="hub/resnet_18_imagenet")) == model
    assert plan._kaggle_model(SimpleNamespace(name="resnet50")) is None
    competition = plan_submission("pcam").competition
    assert bundle.kernel_metadata(bundle.kernel_title("pcam"), competition, "me", "gpu", [], [model])[
        "model_sources"
    ] == [model]
    assert bundle.kernel_metadata(bundle.kernel_title("pcam"), competition, "me", "gpu", [])["model_sources"] == []


@pytest.mark.once
@pytest.mark.parametrize("setting", ["pseudo.run=runs/a", "data.exclude=left_out.csv", "train.relabel.run=runs/a"])
def test_what_is_on_this_machine_alone_is_refused(setting):
    with pytest.raises(ConfigError, match="is on this machine, a kernel does not have it"):
        with_weights(plan_submission("pcam", [setting]))

"""The model `features`: frozen backbones, pooled, under a head."""

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.predict.views import VIEWS
from tests.backbones import registered

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def frozen(keras):
    from kit.models import frozen

    keras.utils.set_random_seed(0)
    with registered():
        yield frozen


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


def build(frozen, **arguments):
    return frozen.build(shape=SHAPE, outputs=2, activation="sigmoid", **arguments)


def test_views_are_those_of_prediction(frozen, images):
    for name, turns in frozen._TURNS.items():
        for turn, view in zip(turns, VIEWS[name], strict=True):
            assert np.array_equal(np.asarray(frozen.turned(images, *turn)), view(images)), (name, turn)


@pytest.mark.parametrize("views", ["none", "mirror"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_head_of_the_extracted_features_is_the_model(frozen, images, views, head):
    model = build(frozen, backbone=["tiny_map", "tiny_tokens", "tiny_vector"], head=head, views=views)
    parts = [
        frozen.extractor(network, views, frozen.KINDS).predict_on_batch(images) for network in frozen.networks(model)
    ]
    assert [sorted(part) for part in parts] == [["gem", "mean"], ["cls", "gem", "mean"], ["mean"]]
    features = np.concatenate([parts[0]["mean"], parts[1]["cls"], parts[1]["mean"], parts[2]["mean"]], axis=1)
    assert frozen.head_width(model) == features.shape[1] == 6 + 5 + 5 + 7
    p = np.asarray(frozen.head_of(model)(features))
    assert np.abs(p - model.predict_on_batch(images)).max() < 1e-6
    layers = 2 if head == "mlp" else 1
    assert len(model.trainable_weights) == 2 * layers  # the backbones stay as they are


def test_views_average_features(frozen, images):
    network = frozen.networks(build(frozen, backbone="tiny_map"))[0]
    once = frozen.extractor(network, "none", ["gem"])
    over_views = [once.predict_on_batch(view(images))["gem"] for view in VIEWS["dihedral"]]
    mean = frozen.extractor(network, "dihedral", ["gem"]).predict_on_batch(images)["gem"]
    assert np.abs(mean - np.mean(over_views, axis=0)).max() < 1e-5


def test_poolings_by_hand(keras, frozen):
    from kit.models.pooling import Pool

    x = np.random.default_rng(1).normal(1, 1, (2, 4, 3)).astype(np.float32)
    assert np.allclose(Pool("cls", 1)(x), x[:, 0])
    assert np.allclose(Pool("mean", 1)(x), x[:, 1:].mean(axis=1), atol=1e-6)
    gem = (np.maximum(x[:, 1:], 1e-6) ** 3).mean(axis=1) ** (1 / 3)
    assert np.allclose(Pool("gem", 1)(x), gem, atol=1e-5)
    maps = x.reshape(2, 2, 2, 3)
    assert np.allclose(Pool("mean")(maps), maps.mean(axis=(1, 2)), atol=1e-6)
    assert np.allclose(Pool("mean")(x[:, 0]), x[:, 0])


@pytest.mark.once
def test_levels_are_the_means_of_the_last_maps_of_three_strides(keras, frozen, images):
    from kit.models import features, registry

    keras.utils.set_random_seed(1)
    model = frozen.build(shape=SHAPE, outputs=1, activation="sigmoid", backbone="mobilenet")
    network = frozen.networks(model)[0]
    found = frozen.extractor(network, "none", frozen.KINDS).predict_on_batch(images)
    assert sorted(found) == ["gem", "levels", "mean"]
    assert frozen.head_width(model) == found["levels"].shape[1] == 256 + 512 + 1024
    assert np.allclose(found["levels"][:, -1024:], found["mean"], atol=1e-6)
    alone = registry.build("mobilenet", shape=SHAPE, outputs=1)
    alone.get_layer("backbone").set_weights([*map(np.asarray, network.weights)])
    pyramid = features.with_pyramid(alone).predict_on_batch(images)
    means = np.concatenate([pyramid[level].mean(axis=(1, 2)) for level in ("P3", "P4", "P5")], axis=1)
    assert np.allclose(found["levels"], means, atol=1e-5)
    last = features.with_feature_map(model).predict_on_batch(images)[0]
    assert np.allclose(last, pyramid["P5"], atol=1e-5)


def test_an_explanation_finds_the_feature_map(frozen, images):
    from kit.models import features

    model = build(frozen, backbone="tiny_map")
    maps, p = features.with_feature_map(model).predict_on_batch(images)
    assert maps.shape == (5, 7, 7, 6) and np.allclose(p, model.predict_on_batch(images), atol=1e-6)


def test_it_is_saved_whole(keras, frozen, images, tmp_path):
    from kit.models import registry, saved

    spec = {
        "name": "features",
        "shape": SHAPE,
        "outputs": 2,
        "backbone": ["tiny_map", "tiny_tokens"],
        "views": "mirror",
    }
    model = registry.build(**spec)
    standardise = model.get_layer(frozen.STANDARDISE)
    standardise.set_weights([np.full(w.shape, 0.5, np.float32) for w in standardise.get_weights()])
    saved.save_model(model, spec, tmp_path)
    again = saved.load_model(tmp_path)
    assert np.array_equal(again.predict_on_batch(images), model.predict_on_batch(images))
    for one, other in zip(frozen.networks(model), frozen.networks(again), strict=True):
        assert frozen.digest(one) == frozen.digest(other)
    weights = frozen.networks(again)[0].get_weights()
    frozen.networks(again)[0].set_weights([weights[0] + 1e-3, *weights[1:]])
    assert frozen.digest(frozen.networks(model)[0]) != frozen.digest(frozen.networks(again)[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"head": "linaer"}, "head = 'linaer': one of linear, mlp"),
        ({"views": "crops"}, "views = 'crops': one of none, mirror, flips, dihedral"),
        ({"pool": ["mean", "max"]}, "pool = 'max': one of cls, levels, mean, gem"),
        ({"backbone": "tiny_map", "pool": "cls"}, r"pool = \['cls'\]: tiny_map has mean, gem alone"),
        ({"backbone": []}, "give the name of a model, or a list of names"),
        ({"backbone": "features"}, "backbone = features: choose a network that is trained as a whole"),
        ({"backbone": ["tiny_map", "tiny_map"]}, "names tiny_map twice"),
        ({"backbone": "tiny_nap"}, "unknown model 'tiny_nap'; did you mean 'tiny_map'"),
        (
            {"backbone": ["tiny_map", "tiny_vector"], "backbone_arguments": {"until": "x"}},
            "backbone_arguments.until: of",
        ),
        ({"backbone": "tiny_map", "backbone_arguments": {"until": "x"}}, "the backbone has no such layer"),
    ],
)
def test_what_cannot_be_built(frozen, arguments, words):
    with pytest.raises(ConfigError, match=words):
        build(frozen, **arguments)


@pytest.mark.once
def test_sources_outside_among_several_backbones():
    from kit.models.trust import source_outside

    assert source_outside("features", {"backbone": ["hub/a", "mobilenet", "tfhub:b"]}) == "hub/a, tfhub:b"
    assert source_outside("features", {"backbone": ["resnet18", "mobilenet"]}) is None
    assert source_outside("features", {}) is None


@pytest.mark.parametrize("views", ["none", "mirror"])
def test_heads_on_the_same_backbones_run_them_once(keras, frozen, images, views):
    models = [build(frozen, backbone=["tiny_map", "tiny_vector"], views=views, head=head) for head in ("linear", "mlp")]
    for one, other in zip(*map(frozen.networks, models), strict=True):
        other.set_weights(one.get_weights())
    together = frozen.together(models)
    each = np.stack([model.predict_on_batch(images) for model in models], axis=1)
    assert np.abs(together.predict_on_batch(images) - each).max() < 1e-6
    assert frozen.together(models[:1]) is None
    frozen.networks(models[1])[0].set_weights([w + 1 for w in frozen.networks(models[1])[0].get_weights()])
    assert frozen.together(models) is None

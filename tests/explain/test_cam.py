"""Class activation maps: by hand, and what must hold for every kind of network."""

import numpy as np
import pytest

from kit.errors import ConfigError

IMAGE = np.array([[[[0], [1]], [[2], [3]]]], np.uint8)
WEIGHTS = [1, 0, 1, 2, 3, 0, -1, 2]  # of the two channels of each of the four places


def test_by_hand(by_hand):
    from kit.explain import cam

    model = by_hand(WEIGHTS)
    x = IMAGE[0, :, :, 0].astype(float)
    first, second = x, 2 - x
    mean_of_first, mean_of_second = (1 + 1 + 3 - 1) / 4, (0 + 2 + 0 + 2) / 4
    expected = mean_of_first * first + mean_of_second * second
    assert np.allclose(cam(model, IMAGE)[0, 0], expected, atol=1e-6)
    own = np.array([[1.0, 1.0], [3.0, -1.0]]) * first + np.array([[0.0, 2.0], [0.0, 2.0]]) * second
    maps = cam(model, IMAGE, method="hirescam")
    assert np.allclose(maps[0, 0], own, atol=1e-6)
    logit = np.log(1 / (1 / float(model.predict_on_batch(IMAGE)[0, 0]) - 1))
    assert np.isclose(maps.sum(), logit - 0.5, atol=1e-5)  # all but the bias


@pytest.mark.parametrize(("name", "pool"), [("tiny_map", "gap"), ("tiny_levels", "levels"), ("tiny_tokens", "gap")])
def test_under_means_and_a_linear_head_both_methods_are_the_same(build, images, name, pool):
    from kit.explain import cam

    model = build(name, pool=pool, units=[], dropout=0)
    maps = cam(model, images)
    assert np.allclose(maps, cam(model, images, method="hirescam"), atol=1e-5)
    if name == "tiny_map":  # then they are the logit, whose bias is 0
        p = model.predict_on_batch(images)
        assert np.allclose(maps.sum(axis=(2, 3)), np.log(p / (1 - p)), atol=1e-3)


def test_a_head_on_several_levels_has_the_grid_of_the_finest(build, images):
    from kit.explain import cam

    model = build("tiny_levels", pool="levels", units=[], dropout=0)
    assert cam(model, images).shape == (3, 2, 4, 4)
    assert cam(build("tiny_levels", units=[]), images).shape == (3, 2, 1, 1)


def test_tokens_have_the_grid_of_their_patches(build, images):
    from kit.explain import cam

    assert cam(build("tiny_tokens", units=[4]), images, [1]).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("views", ["none", "mirror", "dihedral"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_heads_on_frozen_backbones(build, images, views, head):
    from kit.explain import cam

    one = build("features", backbone="tiny_levels", views=views, head=head)
    assert cam(one, images).shape == (3, 2, 4, 4)
    several = build("features", backbone=["tiny_map", "tiny_tokens", "tiny_vector"], views=views, head=head)
    maps = cam(several, images)
    assert maps.shape == (3, 2, 7, 7)
    assert np.ptp(maps) > 0


def test_boosted_trees_are_explained_by_the_network_before_them(build, images):
    from kit.explain import cam
    from kit.models.boosted import BoostedModel

    network = build("features", backbone="tiny_map")
    assert np.array_equal(cam(BoostedModel(network, None), images), cam(network, images))


def test_a_network_without_maps_is_refused(build, images):
    from kit.explain import explain

    with pytest.raises(ConfigError, match="no feature map"):
        explain(build("features", backbone="tiny_vector"), images)
    with pytest.raises(ConfigError, match="unknown method 'gradcan'"):
        explain(build("tiny_map"), images, method="gradcan")


def test_labels_are_chosen_and_order_and_batches_change_nothing(build, images):
    from kit.explain import cam

    model, many = build("tiny_map"), np.concatenate([images] * 12)
    every = cam(model, many)
    assert len(every) == 36
    assert np.allclose(every[:3], every[-3:], atol=1e-6)
    assert np.allclose(cam(model, images, [1, 0]), every[:3, ::-1], atol=1e-6)


def test_detectors(keras, build, images):
    from kit.explain import explain

    detector = build("fcos", backbone="tiny_levels", channels=8, depth=1, finest=3, coarsest=5)
    assert explain(detector, images, method="hirescam").shape == (3, 2, 4, 4)
    painter = build("unet", backbone="tiny_levels", width=8)
    assert explain(painter, images, [0]).shape == (3, 1, 4, 4)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "hub/ResNetBackbone",
            {
                "input_conv_filters": [64],
                "input_conv_kernel_sizes": [7],
                "stackwise_num_filters": [64, 64, 64],
                "stackwise_num_blocks": [1, 1, 1],
                "stackwise_num_strides": [1, 2, 2],
                "block_type": "basic_block",
            },
        ),
        (
            "hub/ViTBackbone",
            {"patch_size": (8, 8), "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16},
        ),
    ],
)
def test_backbones_of_keras_hub(build, images, name, config):
    """The summed HiResCAM of a linear head on means is the logit without its bias: gradients reach the whole map."""
    pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")
    from kit.explain import cam
    from kit.models.features import up_to_logits

    model = build(name, config=config, units=[])
    parts = up_to_logits(model)
    logits = parts.scorer.predict_on_batch(parts.encoder.predict_on_batch(images))
    for method in ("gradcam", "hirescam"):
        maps = cam(model, images, method=method)
        assert np.isfinite(maps).all()
        assert (maps.std(axis=(2, 3)) > 0).all()
        if "ResNet" in name:
            assert np.allclose(maps.sum(axis=(2, 3)), logits, atol=1e-4)  # biases of an untrained head are 0


def test_a_mask_whose_last_map_is_its_head(keras, build, images):
    """HiResCAM under a 1 x 1 convolution is, at the most likely cell, its logit without the bias; 0 elsewhere."""
    from kit.explain import cam

    model = build("mask_net", width=4, depth=2)
    logits = keras.Model(model.input, model.get_layer("logits").output).predict_on_batch(images)
    bias = keras.ops.convert_to_numpy(model.get_layer("logits").bias)
    maps = cam(model, images, method="hirescam")
    assert maps.shape == (3, 2, *logits.shape[1:3])
    assert np.allclose(maps.sum(axis=(2, 3)), (logits - bias).max(axis=(1, 2)), atol=1e-5)
    assert ((maps != 0).sum(axis=(2, 3)) == 1).all()


def test_the_logit_of_regions_is_that_of_the_best_one(keras, images):
    from kit.explain import cam
    from kit.models import registry
    from kit.models.features import up_to_logits

    settings = {"backbone": "tiny_levels", "channels": 8, "units": 8, "proposals": 4, "rois": 4}
    model = registry.build("mask_rcnn", shape=images.shape[1:], outputs=1, **settings)
    parts = up_to_logits(model)
    logits = parts.scorer.predict_on_batch(parts.encoder.predict_on_batch(images))
    best = np.asarray(model.predict_on_batch(images)["scores"]).max(axis=1, keepdims=True)
    assert np.allclose(1 / (1 + np.exp(-logits)), best, atol=1e-6)
    assert np.abs(cam(model, images, method="hirescam")).max() > 0


def test_what_is_shown():
    from kit.explain import shown

    maps = np.array([[[[-1.0, 2.0], [4.0, np.nan]]], [[[-1.0, -2.0], [0.0, -4.0]]]])
    assert shown(maps, "occlusion")[0].tolist() == [[[0, 0.5], [1, 0]]]
    assert not shown(maps, "occlusion")[1].any()
    assert shown(maps).tolist() == [[[[0, 1 / 3], [1, 0]]], [[[1 / 3, 0], [1, 0]]]]  # medians 1 and -1.5
    assert np.allclose(shown(maps[1] - 40), shown(maps[1]))  # whatever the bias of the head
    assert not shown(np.ones((2, 2))).any()

"""KerasHub's detectors: tiny networks, no network connection. Their losses: test_retinanet, test_dfine."""

import json
import warnings

import numpy as np
import pytest

from kit.errors import ConfigError
from kit.models.saved import load_model, save_model
from tests.conftest import devices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its dependencies', at import alone
    devices.set_up(devices.RuntimeSettings())
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")

from kit.models import registry
from kit.models.detect.neck import levels_of
from kit.models.weights import load_weights

RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 8, 8, 8],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
    "block_type": "basic_block",
}
DFINE = {
    "encoder_hidden_dim": 16,
    "hidden_dim": 16,
    "num_queries": 12,
    "num_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "num_decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "lqe_hidden_dim": 8,
}
RETINANET = {"pre_logits_num_conv_layers": 1, "min_level": 4, "max_level": 5}
CLASSES = {"RetinaNetObjectDetector": RETINANET, "DFineObjectDetector": DFINE}
both = pytest.mark.parametrize("name", CLASSES)


def spec(name, **changes):
    own = {
        "backbone": "hub/ResNetBackbone",
        "backbone_arguments": {"config": RESNET},
        "config": CLASSES[name],
    }
    return {"name": f"hub/{name}", "shape": (64, 64, 1), "outputs": 2, **own, **changes}


def batch(keras, boxes=((8, 10, 30, 20),), images=2):
    """Images of noise, the boxes in the first of them alone."""
    padded, mask = np.zeros((images, 3, 4), np.float32), np.zeros((images, 3), bool)
    padded[0, : len(boxes)], mask[0, : len(boxes)] = np.reshape(boxes, (-1, 4)), True
    arrays = {
        "image": np.random.default_rng(0).integers(0, 256, (images, 64, 64, 1), dtype=np.uint8),
        "boxes": padded,
        "box_labels": np.zeros((images, 3), np.int32),
        "box_mask": mask,
    }
    return {key: keras.ops.convert_to_tensor(value) for key, value in arrays.items()}


@pytest.fixture(autouse=True)
def _seed(keras):
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def networks(keras):
    """An untrained network of each class, not to be changed."""
    keras.utils.set_random_seed(0)
    return {name: registry.build(**spec(name)) for name in CLASSES}


def training(keras, network, places=3):
    """The network as one that is trained: a batch to the loss of each image."""

    class Loss(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.network = network

        def build(self, shapes):
            pass

        def call(self, inputs):
            return self.network.losses(inputs)

        def compute_output_spec(self, inputs):
            return keras.KerasTensor((None,), "float32")

    inputs = {
        "image": keras.Input(network.input_shape[1:], dtype="uint8", name="image"),
        "boxes": keras.Input((places, 4), name="boxes"),
        "box_labels": keras.Input((places,), dtype="int32", name="box_labels"),
        "box_mask": keras.Input((places,), dtype="bool", name="box_mask"),
    }
    return keras.Model(inputs, Loss()(inputs))


@both
def test_labels_are_rare_before_training_and_boxes_are_inside(name, networks, keras):
    network, images = networks[name], batch(keras)["image"]
    boxes = network.candidates(network.predict_on_batch(images), 5)
    assert boxes.images == 2
    assert {*boxes.label} == {0, 1}
    assert np.bincount(boxes.image * 2 + boxes.label).max() <= 5
    assert 0.002 < boxes.score.mean() < 0.05
    assert (boxes.xywh[:, :2] >= 0).all()
    assert (boxes.xywh[:, :2] + boxes.xywh[:, 2:] <= 64 + 1e-9).all()


@pytest.mark.once  # on JAX it compiles for half a minute: test_a_compiled_step_on_either_backend
@both
def test_the_loss_of_each_image_and_of_none(name, networks, keras):
    network = networks[name]
    loss = keras.ops.convert_to_numpy(network.losses(batch(keras)))
    assert loss.shape == (2,)
    assert loss[0] > 1 > loss[1] > 0
    none = keras.ops.convert_to_numpy(network.losses(batch(keras, boxes=())))
    assert np.isfinite(none).all()
    assert 0 < none[0] < 1


@pytest.mark.slow
@both
def test_a_compiled_step_on_either_backend(name, keras):
    """Images without boxes teach: all scores fall. Then the boxes are learnt."""
    network = registry.build(**spec(name))
    model = training(keras, network)
    model.compile(keras.optimizers.Adam(2e-3), loss=lambda _, loss: loss, jit_compile=keras.backend.backend() == "jax")
    with_boxes, without = (
        {k: np.asarray(v) for k, v in batch(keras, boxes).items()} for boxes in ([[8, 10, 30, 20]], [])
    )
    before = network.candidates(network.predict_on_batch(without["image"]), 3).score.mean()
    first = model.train_on_batch(without, np.zeros(2))
    for _ in range(5):
        last = model.train_on_batch(without, np.zeros(2))
    assert 0 < last < first
    assert network.candidates(network.predict_on_batch(without["image"]), 3).score.mean() < before
    losses = [float(model.train_on_batch(with_boxes, np.zeros(2))) for _ in range(60)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


@both
def test_what_was_saved_is_loaded(name, networks, keras, tmp_path):
    network, images = networks[name], batch(keras)["image"]
    save_model(network, spec(name), tmp_path)
    again = load_model(tmp_path)
    for key, value in network.predict_on_batch(images).items():
        assert np.allclose(again.predict_on_batch(images)[key], value, atol=1e-5)


@pytest.mark.once
@both
def test_cards(name):
    card = registry.model_card(f"hub/{name}")
    assert (card.prediction, card.backbone, card.weights) == ("boxes", "mobilenet", "imagenet")
    assert registry.weights_card(f"hub/{name}", {"backbone": "resnet50"}).name == "resnet50"


@pytest.mark.once
@pytest.mark.parametrize("name", ["dfine_nano_coco", "retinanet_resnet50_fpn_coco"])
def test_the_card_of_a_preset_is_that_of_a_detector(name):
    card = registry.model_card(f"hub/{name}")
    assert (card.prediction, card.backbone, card.weights) == ("boxes", "", "preset")
    assert registry.model_card("hub/resnet_18_imagenet").prediction == "probabilities"


@pytest.fixture(scope="module")
def presets(keras, tmp_path_factory):
    """Folders of detectors of 80 labels, for images of 64x64 and of any size."""
    root = tmp_path_factory.mktemp("presets")
    encoder = keras_hub.models.ResNetBackbone(**RESNET)
    neck = {"min_level": 3, "max_level": 5, "use_p5": False}
    retinanet = keras_hub.models.RetinaNetBackbone(encoder, **neck)
    small = {"pre_logits_num_conv_layers": 1}
    tasks = {"retinanet": keras_hub.models.RetinaNetObjectDetector(retinanet, 80, **small)}
    maps = keras_hub.models.HGNetV2Backbone(
        stem_channels=[3, 8, 8],
        stackwise_stage_filters=[[8, 8, 16, 1, 3, 3], [16, 8, 16, 1, 3, 3], [16, 8, 16, 1, 3, 5], [16, 8, 32, 1, 3, 5]],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 16, 16, 32],
        embedding_size=8,
        use_learnable_affine_block=True,
        hidden_act="relu",
        image_shape=(64, 64, 3),
        out_features=["stage3", "stage4"],
    )
    dfine = keras_hub.models.DFineBackbone(
        maps,
        decoder_in_channels=[16, 16],
        num_labels=80,
        num_denoising=10,
        learn_initial_query=False,
        anchor_image_size=(64, 64),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[16, 32],
        encode_proj_layers=[1],
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.34,
        eval_idx=-1,
        decoder_n_points=[2, 2],
        num_lqe_layers=2,
        out_features=["stage3", "stage4"],
        image_shape=(64, 64, 3),
        **DFINE,
    )
    tasks["dfine"] = keras_hub.models.DFineObjectDetector(dfine, 80)
    for variable in tasks["retinanet"].box_head.prediction_layer.weights:
        variable.assign(variable * 0.01)  # as KerasHub starts, all boxes would lie beside the image
    for name, task in tasks.items():
        try:
            task.save_to_preset(str(root / name))
        except AttributeError:
            pytest.skip(f"keras-hub {keras_hub.__version__} saves no detector without its preprocessor")
        converter = {"retinanet": "RetinaNetImageConverter", "dfine": "DFineImageConverter"}[name]
        getattr(keras_hub.layers, converter)(scale=1 / 100, offset=-1.0).save_to_preset(str(root / name))
    return root, tasks


@pytest.mark.once
@pytest.mark.parametrize("name", ["retinanet", "dfine"])
def test_a_preset_keeps_all_but_its_labels(name, presets, keras, tmp_path, capsys):
    root, tasks = presets
    build = {"name": f"hub/{root / name}", "shape": (96, 64, 1), "outputs": 3}
    network = registry.build(**build)
    capsys.readouterr()
    load_weights(network, registry.model_card(build["name"]), None)
    assert "weights from preset: 9" in capsys.readouterr().out
    task = tasks[name]
    if name == "retinanet":
        encoder, pairs = task.backbone.get_layer("backbone"), [(task.box_head, network.get_layer("box_head"))]
        new = [network.get_layer("classification_head").prediction_layer]
    else:
        head = network.get_layer("head")
        encoder, pairs = task.backbone.backbone, [(task.backbone.encoder, head.get_layer("hybrid_encoder"))]
        pairs.append((task.backbone.decoder.bbox_embed[1], head.get_layer("decoder").bbox_embed[1]))
        new = [head.get_layer("enc_score_head"), *head.get_layer("decoder").class_embed]
    for theirs, ours in [*pairs, (encoder, network.get_layer("backbone"))]:
        assert len(ours.weights) == len(theirs.weights) > 0
        assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
    assert all(np.asarray(layer.bias) == pytest.approx(-np.log(99)) for layer in new)

    images = np.random.default_rng(1).integers(0, 256, (2, 96, 64, 1), dtype=np.uint8)
    scaled = keras.Model(network.inputs, network.get_layer("preprocess").output).predict_on_batch(images)
    assert np.allclose(scaled, np.repeat(images, 3, axis=-1) / 100 - 1, atol=1e-5)
    before = network.predict_on_batch(images)
    boxes = network.candidates(before, 4)
    assert {*boxes.label} == {0, 1, 2}
    assert (boxes.xywh[:, 1] + boxes.xywh[:, 3]).max() > 64 >= (boxes.xywh[:, 0] + boxes.xywh[:, 2]).max()
    save_model(network, build, tmp_path)
    with pytest.raises(ConfigError, match=r"files outside the run: give --trust"):
        load_model(tmp_path)
    after = load_model(tmp_path, trust=True).predict_on_batch(images)
    assert all(np.allclose(before[key], after[key], atol=1e-5) for key in before)


@pytest.mark.once
def test_its_backbone_serves_others(presets, keras, capsys):
    build = {"name": "fcos", "backbone": f"hub/{presets[0] / 'retinanet'}", "channels": 8, "depth": 1}
    network = registry.build(**build, shape=(64, 64, 1), outputs=1)
    capsys.readouterr()
    load_weights(network, registry.weights_card("fcos", build), None)
    assert "weights from preset: 100.0%" in capsys.readouterr().out
    theirs = presets[1]["retinanet"].backbone.get_layer("backbone").get_weights()
    ours = network.get_layer("backbone").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.once
def test_a_folder_that_is_broken_or_of_something_else(presets, tmp_path):
    (tmp_path / "task.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"task\.json is not what KerasHub's save_to_preset writes"):
        registry.model_card(f"hub/{tmp_path}")
    task = json.loads((presets[0] / "dfine" / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps(task))
    card = registry.model_card(f"hub/{tmp_path}")  # without weights and config
    with pytest.raises(
        ConfigError, match=r"is not available \(.* has no config\.json.*\): download or save the folder again"
    ):
        card.builder(shape=(64, 64, 3), outputs=1, activation="sigmoid")


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("DFineObjectDetector", {"shape": (70, 64, 3)}, r"takes images whose sides are multiples of 32, not 70x64"),
        (
            "RetinaNetObjectDetector",
            {"config": {"level": 3}},
            r"config: hub/RetinaNet.* has no setting level \(it has ",
        ),
        ("DFineObjectDetector", {"backbone": "resnet5"}, r"unknown model 'resnet5'"),
        ("DFineObjectDetector", {"units": 3}, r"unexpected keyword argument 'units'"),
        ("ObjectDetector", {}, r"hub/ObjectDetector: of KerasHub's detectors kit has DFine.* and RetinaNet"),
        ("RetinaNetObjectDetecto", {}, r"did you mean 'RetinaNetObjectDetector'"),
    ],
)
def test_what_cannot_be_built(name, changes, message):
    own = spec(name, **changes) if name in CLASSES else {"name": f"hub/{name}", "shape": (64, 64, 3), "outputs": 1}
    with pytest.raises(ConfigError, match=message):
        registry.build(**own)


@pytest.mark.once
def test_on_a_backbone_with_one_feature_map(keras):
    vit = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    own = {"backbone": "hub/ViTBackbone", "backbone_arguments": {"config": vit}}
    for name, config in (
        ("DFineObjectDetector", DFINE),
        ("RetinaNetObjectDetector", {"pre_logits_num_conv_layers": 1}),
    ):
        network = registry.build(**spec(name, config=config, **own))
        assert len(network.candidates(network.predict_on_batch(batch(keras)["image"]), 2))


EFFICIENTNET = {
    "stackwise_width_coefficients": [0.5] * 7,
    "stackwise_depth_coefficients": [1.0] * 7,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1] * 7,
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 2, 2, 2, 2, 2, 2],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
    "stackwise_squeeze_and_excite_ratios": [0.25] * 7,
    "stackwise_block_types": ["v1"] * 7,
    "dropout": 0.0,
    "activation": "swish",
}
CSPNET = {
    "stem_filters": 16,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stackwise_depth": [1] * 5,
    "stackwise_strides": [2] * 5,
    "stackwise_num_filters": [16, 16, 16, 16, 16],
    "block_type": "dark_block",
    "stage_type": "dark",
}
MOBILENET = {
    "stackwise_expansion": [[16], [16], [16], [16]],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_filters": [[8], [8], [16], [16]],
    "stackwise_kernel_size": [[3], [3], [3], [3]],
    "stackwise_num_strides": [[2], [2], [2], [2]],
    "stackwise_se_ratio": [[None], [0.25], [0.25], [None]],
    "stackwise_activation": [["relu"]] * 4,
    "stackwise_padding": [[1], [1], [1], [1]],
    "output_num_filters": 32,
    "input_num_filters": 8,
    "input_activation": "relu",
    "output_activation": "relu",
    "depthwise_filters": 8,
    "depthwise_stride": 1,
    "depthwise_residual": False,
    "squeeze_and_excite": None,
    "last_layer_filter": 32,
}
HGNET = {
    "stem_channels": [3, 8, 8],
    "stackwise_stage_filters": [[8, 8, 8, 1, 3, 3], [8, 8, 16, 1, 3, 3], [16, 8, 16, 1, 3, 5], [16, 8, 32, 1, 3, 5]],
    "apply_downsample": [False, True, True, True],
    "use_lightweight_conv_block": [False, False, True, True],
    "depths": [1] * 4,
    "hidden_sizes": [8, 16, 16, 32],
    "embedding_size": 8,
    "use_learnable_affine_block": True,
    "hidden_act": "relu",
}
DEIT = {"patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8}


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "config", "sides"),
    [
        ("ResNetBackbone", RESNET, [16, 8, 4, 2]),
        ("MobileNetBackbone", MOBILENET, [16, 8, 4, 2]),
        ("EfficientNetBackbone", EFFICIENTNET, [16, 8, 4, 2]),
        ("CSPNetBackbone", CSPNET, [16, 8, 4, 2]),
        ("HGNetV2Backbone", HGNET, [16, 8, 4, 2]),
        ("DeiTBackbone", DEIT, [4]),
    ],
)
def test_levels_of_its_backbones(name, config, sides):
    if not hasattr(keras_hub.models, name):
        pytest.skip(f"keras-hub {keras_hub.__version__} has no {name}")
    _, levels = levels_of(f"hub/{name}", (64, 64, 1), {"config": config})
    assert [level.shape[1:3] for level in levels.values()] == [(side, side) for side in sides]
    assert [*levels] == (["P2", "P3", "P4", "P5"] if len(sides) == 4 else ["P4"])

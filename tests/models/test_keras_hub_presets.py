"""Models in Hugging Face's layout through KerasHub: tiny folders written here, compared with numpy."""

import json
import struct
import warnings

import numpy as np
import pytest
from scipy.special import erf

from kit.errors import ConfigError
from kit.models.saved import load_model, save_model
from tests.conftest import devices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its dependencies', at import alone
    devices.set_up(devices.RuntimeSettings())
    keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed: pip install keras-hub")
pytest.importorskip("safetensors", reason="safetensors is not installed: pip install safetensors")

from kit.models import keras_hub_presets, registry
from kit.models.weights import load_weights

WIDTH, HEADS, PATCH, SIDE, REGISTERS = 16, 2, 8, 32, 2
MEAN, STD = [0.7, 0.5, 0.3], [0.2, 0.3, 0.1]
PROCESSOR = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, "size": {"height": SIDE, "width": SIDE}}
DINOV2 = {
    "model_type": "dinov2_with_registers",
    "num_register_tokens": REGISTERS,
    "hidden_size": WIDTH,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "mlp_ratio": 2,
    "layerscale_value": 1.0,
    "use_swiglu_ffn": False,
    "hidden_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "apply_layernorm": True,
}
VIT = {
    "model_type": "vit",
    "hidden_size": WIDTH,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "qkv_bias": True,
}
DINOV3 = {
    "model_type": "dinov3_vit",
    "hidden_size": WIDTH,
    "image_size": SIDE,
    "patch_size": PATCH,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
    "layerscale_value": 1.0,
    "num_register_tokens": REGISTERS,
    "hidden_act": "gelu",
    "use_gated_mlp": False,
    "query_bias": True,
    "key_bias": False,
    "value_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "layer_norm_eps": 1e-5,
    "rope_theta": 100.0,
}


def dense(name, inputs, outputs, bias=True):
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


def norm(name):
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def shapes_of(config):
    """Names and shapes of the tensors that transformers saves for such a network."""
    tokens = (config["image_size"] // PATCH) ** 2 + 1
    kernel = (WIDTH, 3, PATCH, PATCH)
    if config["model_type"] == "vit":
        layer, embeddings = "vit.encoder.layer.0", "vit.embeddings"
        attention = [f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")]
        return {
            f"{embeddings}.cls_token": (1, 1, WIDTH),
            f"{embeddings}.position_embeddings": (1, tokens, WIDTH),
            f"{embeddings}.patch_embeddings.projection.weight": kernel,
            f"{embeddings}.patch_embeddings.projection.bias": (WIDTH,),
            **{key: shape for name in attention for key, shape in dense(name, WIDTH, WIDTH).items()},
            **dense(f"{layer}.attention.output.dense", WIDTH, WIDTH),
            **dense(f"{layer}.intermediate.dense", WIDTH, 2 * WIDTH),
            **dense(f"{layer}.output.dense", 2 * WIDTH, WIDTH),
            **norm(f"{layer}.layernorm_before"),
            **norm(f"{layer}.layernorm_after"),
            **norm("vit.layernorm"),
        }
    if config["model_type"] == "dinov3_vit":
        layer = "layer.0"
        return {
            "embeddings.cls_token": (1, 1, WIDTH),
            "embeddings.mask_token": (1, 1, WIDTH),
            "embeddings.register_tokens": (1, REGISTERS, WIDTH),
            "embeddings.patch_embeddings.weight": kernel,
            "embeddings.patch_embeddings.bias": (WIDTH,),
            **dense(f"{layer}.attention.q_proj", WIDTH, WIDTH),
            **dense(f"{layer}.attention.k_proj", WIDTH, WIDTH, bias=False),
            **dense(f"{layer}.attention.v_proj", WIDTH, WIDTH),
            **dense(f"{layer}.attention.o_proj", WIDTH, WIDTH),
            **dense(f"{layer}.mlp.up_proj", WIDTH, 2 * WIDTH),
            **dense(f"{layer}.mlp.down_proj", 2 * WIDTH, WIDTH),
            f"{layer}.layer_scale1.lambda1": (WIDTH,),
            f"{layer}.layer_scale2.lambda1": (WIDTH,),
            **norm(f"{layer}.norm1"),
            **norm(f"{layer}.norm2"),
            **norm("norm"),
        }
    layer = "encoder.layer.0"
    attention = [f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")]
    return {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.mask_token": (1, WIDTH),
        "embeddings.register_tokens": (1, REGISTERS, WIDTH),
        "embeddings.position_embeddings": (1, tokens, WIDTH),
        "embeddings.patch_embeddings.projection.weight": kernel,
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        **{key: shape for name in attention for key, shape in dense(name, WIDTH, WIDTH).items()},
        **dense(f"{layer}.attention.output.dense", WIDTH, WIDTH),
        **dense(f"{layer}.mlp.fc1", WIDTH, 2 * WIDTH),
        **dense(f"{layer}.mlp.fc2", 2 * WIDTH, WIDTH),
        f"{layer}.layer_scale1.lambda1": (WIDTH,),
        f"{layer}.layer_scale2.lambda1": (WIDTH,),
        **norm(f"{layer}.norm1"),
        **norm(f"{layer}.norm2"),
        **norm("layernorm"),
    }


def write_safetensors(path, tensors):
    """The format: the length of a JSON header (8 bytes), the header, the tensors' bytes."""
    header, body = {}, b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(body), len(body) + tensor.nbytes]}
        body += tensor.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.fixture
def folder(tmp_path):
    """A function: a network's config -> (a folder in Hugging Face's layout, its tensors)."""

    def write(config, processor=PROCESSOR):
        random = np.random.default_rng(1)
        tensors = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes_of(config).items()}
        path = tmp_path / "model"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        if processor:
            (path / "preprocessor_config.json").write_text(json.dumps(processor))
        write_safetensors(path / "model.safetensors", tensors)
        return path, tensors

    return write


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _seed(keras):
    keras.utils.set_random_seed(0)


def spec(path, size=SIDE, **arguments):
    return {"name": f"hub/{path}", "shape": (size, size, 3), "outputs": 1, "units": 4, **arguments}


def pretrained(path, size=SIDE, **arguments):
    model = registry.build(**spec(path, size, **arguments))
    load_weights(model, registry.model_card(f"hub/{path}"))
    return model


def tokens_of(model, images, keras):
    return keras.Model(model.inputs, model.get_layer("tokens").input).predict_on_batch(images)


def prepared(model, images, keras):
    return keras.Model(model.inputs, model.get_layer("preprocess").output).predict_on_batch(images)


def normalised(x, tensors, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def dinov2(images, tensors):
    """DINOv2 (Oquab et al. 2023, arXiv:2304.07193) with registers (Darcet et al. 2023, arXiv:2309.16588), one block."""
    t, layer = {key: value.astype(float) for key, value in tensors.items()}, "encoder.layer.0"
    x = (images / 255 - MEAN) / STD
    count, rows = len(x), SIDE // PATCH
    patches = x.reshape(count, rows, PATCH, rows, PATCH, 3).transpose(0, 1, 3, 5, 2, 4).reshape(count, rows**2, -1)
    kernel = t["embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    x = patches @ kernel.T + t["embeddings.patch_embeddings.projection.bias"]
    x = np.concatenate([np.tile(t["embeddings.cls_token"], (count, 1, 1)), x], 1) + t["embeddings.position_embeddings"]
    x = np.concatenate([x[:, :1], np.tile(t["embeddings.register_tokens"], (count, 1, 1)), x[:, 1:]], 1)

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    y = normalised(x, t, f"{layer}.norm1")
    query, key, value = (
        linear(y, f"{layer}.attention.attention.{name}").reshape(count, -1, HEADS, WIDTH // HEADS).swapaxes(1, 2)
        for name in ("query", "key", "value")
    )
    logits = query @ key.swapaxes(2, 3) / np.sqrt(WIDTH // HEADS)
    attention = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    y = linear((attention @ value).swapaxes(1, 2).reshape(count, -1, WIDTH), f"{layer}.attention.output.dense")
    x = x + y * t[f"{layer}.layer_scale1.lambda1"]
    y = linear(normalised(x, t, f"{layer}.norm2"), f"{layer}.mlp.fc1")
    y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{layer}.mlp.fc2")
    return normalised(x + y * t[f"{layer}.layer_scale2.lambda1"], t, "layernorm")


def test_a_dinov2_folder_is_what_numpy_makes_of_it(folder, images, keras, tmp_path, capsys):
    path, tensors = folder(DINOV2)
    capsys.readouterr()
    model = pretrained(path)
    assert "weights from preset: 100.0% of" in capsys.readouterr().out
    expected = (images / 255 - MEAN) / STD
    assert np.allclose(prepared(model, images, keras), expected, rtol=1e-6, atol=1e-5)
    tokens = tokens_of(model, images, keras)
    assert tokens.shape == (3, 1 + REGISTERS + 16, WIDTH)
    assert np.allclose(tokens, dinov2(images, tensors), atol=1e-4)

    save_model(model, spec(path), tmp_path / "saved")
    again = load_model(tmp_path / "saved", trust=True).predict_on_batch(images)
    assert np.array_equal(again, model.predict_on_batch(images))


@pytest.mark.parametrize(
    ("config", "tokens", "other"),
    [(DINOV2, 19, 4 + 1 + REGISTERS), (DINOV3, 19, 4 + 1 + REGISTERS), (VIT, 17, None)],
    ids=["dinov2", "dinov3", "vit"],
)
def test_families_at_their_size_and_at_another(folder, images, keras, config, tokens, other):
    if config is DINOV3 and not hasattr(keras_hub.models, "DINOV3Backbone"):
        pytest.skip(f"keras-hub {keras_hub.__version__} has no DINOv3")
    path, _ = folder(config)
    model = pretrained(path)
    assert np.allclose(prepared(model, images, keras), (images / 255 - MEAN) / STD, rtol=1e-6, atol=1e-5)
    assert tokens_of(model, images, keras).shape == (3, tokens, WIDTH)
    if other is None:
        with pytest.raises(ConfigError, match=r"cannot be built for images of 16x16: it was made for 32x32"):
            pretrained(path, size=16)
    else:
        assert tokens_of(pretrained(path, size=16), images[:, :16, :16], keras).shape == (3, other, WIDTH)


def test_another_size_is_said_once(folder, capsys):
    path, _ = folder(DINOV2)
    registry.build(**spec(path))
    assert "was made for" not in capsys.readouterr().out
    for _ in range(2):
        registry.build(**spec(path, size=16))
    assert capsys.readouterr().out.count("model was made for images of 32x32; these are 16x16") == 1
    assert registry.model_card(f"hub/{path}").size == SIDE


def test_images_of_broken_patches_are_refused(folder):
    path, _ = folder(DINOV2)
    with pytest.raises(
        ConfigError, match=r"images of 36x36: it takes whole patches of 8 pixels; set image\.size=32 or 40"
    ):
        registry.build(**spec(path, size=36))


def test_scaling_that_is_not_there_is_not_guessed(folder, images, keras):
    path, _ = folder(DINOV2, processor=None)
    with pytest.raises(
        ConfigError, match=r"model has no preprocessor_config\.json, so nothing says how its images are"
    ):
        registry.build(**spec(path))
    model = pretrained(path, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])
    assert np.allclose(prepared(model, images, keras), images / 127.5 - 1, atol=1e-5)


def damage(path, what):
    config = json.loads((path / "config.json").read_text())
    if what == "tensor":
        write_safetensors(path / "model.safetensors", {"embeddings.cls_token": np.zeros((1, 1, WIDTH), np.float32)})
    elif what == "safetensors":
        (path / "model.safetensors").write_bytes(b"\0" * 20)
    elif what == "weights":
        (path / "model.safetensors").unlink()
    elif what == "family":
        (path / "config.json").write_text(json.dumps(config | {"model_type": "hibou"}))
    elif what == "setting":
        del config["hidden_size"]
        (path / "config.json").write_text(json.dumps(config))
    else:
        (path / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tensor", "is not available .*: download or save the folder again"),
        ("safetensors", "is not available .*: download or save the folder again"),
        ("weights", r"is not available \(`model\.safetensors` doesn't exist"),
        ("family", "KerasHub has no converter for .* `'hibou'`"),
        ("setting", r"is not available \('hidden_size'\)"),
        ("config", r"cannot read .*config\.json .*: download it again"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(folder, what, message):
    path, _ = folder(DINOV2)
    damage(path, what)
    with pytest.raises(ConfigError, match=message):
        pretrained(path)


def test_safetensors_is_not_installed(folder, monkeypatch):
    path, _ = folder(DINOV2)
    monkeypatch.setattr(keras_hub_presets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Hugging Face's layout, which needs safetensors: pip install safetensors"):
        registry.build(**spec(path))


def test_no_network(monkeypatch):
    def offline(preset):
        raise OSError("Name or service not known")

    monkeypatch.setattr(keras_hub_presets.hugging_face, "is_hugging_face", offline)
    message = (
        r"hf://me/model is not available \(Name or service not known\)\. .* at https://huggingface\.co/me/model and "
        r"log in: hf auth login\. .*hf download me/model --local-dir FOLDER"
    )
    with pytest.raises(ConfigError, match=message):
        registry.build(**spec("hf://me/model"))

"""A model in a file of one's own: built, checked, saved, and loaded by another process."""

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from kit import extensions
from kit.errors import ConfigError
from kit.models import registry, saved
from tests.own import CODE, name_in


@pytest.fixture
def named(tmp_path):
    """A function: the name, with its digest, of something in a file of that text."""
    return partial(name_in, tmp_path / "nets.py")


def test_it_is_built_and_loads_again_elsewhere(keras, named, tmp_path):
    spec = {"name": named("small_cnn"), "shape": (32, 32, 3), "outputs": 2, "activation": "softmax", "filters": [8]}
    model = registry.build(**spec)
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(0, 0.1, weight.shape))
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    run = tmp_path / "run"
    extensions.copy([spec["name"]], run / extensions.CODE)
    extensions.remember([spec["name"]])
    saved.save_model(model, spec, run / "fold0")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np; from kit.config import RuntimeSettings; from kit.runtime import devices\n"
        "devices.set_up(RuntimeSettings()); from pathlib import Path; from kit.models import saved\n"
        "model = saved.load_model(Path(sys.argv[1], 'run', 'fold0'))\n"
        "np.save(sys.argv[1] + '/p.npy', model.predict_on_batch(np.load(sys.argv[1] + '/images.npy')))\n"
        "model.save(sys.argv[1] + '/whole.keras')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=os.environ)
    expected = model.predict_on_batch(images)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-6)
    whole = keras.saving.load_model(tmp_path / "whole.keras")  # its layer is registered
    np.testing.assert_allclose(whole.predict_on_batch(images), expected, atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cnn", "def cnn(x): pass\n", r"cnn in .*nets\.py: missing a required argument: 'x': write it as `def NAME\("),
        ("cnn", "def cnn(*, shape, outputs, activation): pass\n", "cnn returned a NoneType, not a keras.Model"),
        (
            "cnn",
            "def cnn(*, shape, outputs, activation):\n    return 1 / 0\n",
            r"nets\.py, line 2: ZeroDivisionError: division by zero",
        ),
        (
            "wide",
            CODE + "def wide(**kwargs):\n    return small_cnn(**{**kwargs, 'outputs': 5})\n",
            r"from \(None, 32, 32, 3\) to \(None, 5\): expected \(None, 32, 32, 3\) to \(None, 1\)",
        ),
        (
            "broken",
            CODE
            + "class Bad(layers.Layer):\n    def call(self, x):\n        return x[:, 9, 9, 9, 9]\n"
            + "def broken(*, shape, outputs, activation):\n    return Bad()(keras.Input(shape))\n",
            r"nets\.py, line \d+: \w+",
        ),
        ("pcam_cnn", "pcam_cnn = max\n", r"nets\.py: pcam_cnn is a model of kit's own: rename it"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(name, text, message, keras, named):
    with pytest.raises(ConfigError, match=message) as raised:
        registry.build(named(name, text), shape=(32, 32, 3), outputs=1)
    assert "\n" not in str(raised.value)


@pytest.mark.once
def test_a_name_without_a_function(named):
    with pytest.raises(ConfigError, match=r"which function\? Write it as FILE\.py:NAME"):
        registry.model_card(named("small_cnn").rpartition(":")[0])
    with pytest.raises(ConfigError, match=r"has no small_cn; did you mean 'small_cnn'"):
        registry.model_card(named("small_cn"))


@pytest.mark.once
def test_a_model_of_a_package(keras, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = (
        EntryPoint("their_cnn", "stranger:small_cnn", "kit.models"),
        EntryPoint("pcam_cnn", "stranger:small_cnn", "kit.models"),
    )
    monkeypatch.setattr(extensions, "_entries", lambda kind: entries if kind == "model" else ())
    assert registry.build("their_cnn", shape=(32, 32, 3), outputs=1).output_shape == (None, 1)
    assert "their_cnn" in registry.list_models()
    with pytest.raises(ConfigError, match="the model 'pcam_cnn' is kit's own, and stranger:small_cnn registers one"):
        registry.model_card("pcam_cnn")

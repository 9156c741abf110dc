"""The last layer of a network starts as a regression on its features."""

import numpy as np
import pytest

from kit import pipeline
from kit.config import load_config
from kit.errors import ConfigError
from kit.models import registry
from kit.run import Run
from kit.runtime import devices
from kit.stages import initial_head
from kit.stages.fold import Fold
from kit.stages.initial_head import extractor
from kit.stages.model import build_model
from kit.stages.train import train
from kit.train import linear
from tests.backbones import registered
from tests.conftest import TINY

NETWORK = [*(s for s in TINY if not s.startswith("model")), "train.epochs=1", "train.schedule=constant"]


@pytest.fixture(scope="module", autouse=True)
def _backbones(keras):
    with registered():
        yield


def test_it_says_what_a_head_on_the_frozen_network_says(_toy_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(linear, "_choose", lambda *_: 1.0)  # these features say so little that the best C is the least
    weights, records = tmp_path / "tiny.weights.h5", tmp_path / "records"
    registry.build("tiny_map", shape=(32, 32, 3), outputs=1).get_layer("backbone").save_weights(weights)
    settings = [*NETWORK, f"model.weights={weights}"]
    frozen = ["model.name=features", "model.arguments={backbone: tiny_map, pool: mean}"]
    expected = pipeline.run("toy", _toy_folder, tmp_path / "frozen", records, [*settings, *frozen]).oof()
    still = ["model.name=tiny_map", "model.arguments={units: [], dropout: 0.5}", "train.learning_rate=1e-12"]
    start = ["train.initial_head=linear", "train.freeze_batch_norm=true"]
    run = pipeline.run("toy", _toy_folder, tmp_path / "run", records, [*settings, *still, *start])
    assert "starts from a linear head on" in capsys.readouterr().out
    found = run.oof().set_index("id").loc[expected["id"]]
    p = [column for column in expected if column.startswith("p_")]
    assert expected[p].std().min() > 0.01
    assert np.allclose(found[p], expected[p], atol=1e-3)


@pytest.mark.parametrize(("network", "kept"), [("tiny_levels", True), ("tiny_tokens", False)])
def test_features_of_the_frozen_run_are_used_where_they_are_the_same(network, kept, toy_records, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(initial_head, "extractor", lambda model: calls.append(model) or extractor(model))
    weights = tmp_path / "tiny.weights.h5"
    registry.build(network, shape=(32, 32, 3), outputs=1).get_layer("backbone").save_weights(weights)
    head = "model.arguments={units: [], dropout: 0, pool: levels}"
    config = load_config("toy", [*NETWORK, f"model.name={network}", f"model.weights={weights}", head, "folds=3"])
    folds = [[cell for cell in range(toy_records.cells) if cell % 3 == k] for k in range(3)]
    layers, device = [], devices.set_up(config.runtime)
    for first in (False, True):
        settings = config.model_copy(update={"frozen_first": first, "image": toy_records.image})
        fold = Fold(settings, toy_records, folds, 1, Run(tmp_path / "run").fold(1))
        model, _ = build_model(settings, toy_records.image, toy_records.labels, toy_records.task)
        initial_head.start_linear(model, model, fold, device)
        layers.append(model.get_layer("logits").get_weights())
    assert len(calls) == (1 if kept else 2)
    assert np.abs(layers[0][0]).max() > 0
    for own, frozen in zip(*layers, strict=True):
        assert np.allclose(own, frozen, rtol=1e-3, atol=1e-5)


def test_a_network_without_a_last_layer_is_refused(keras):
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image), name="mean_colour")
    with pytest.raises(ConfigError, match="mean_colour has none: set it to random"):
        extractor(model)


def test_a_recipe_for_pre_trained_weights_with_random_ones_is_remarked_on(toy_records, tmp_path, capsys):
    config = load_config("toy", [*NETWORK, "model.name=tiny_map", "model.weights=none", "train.initial_head=linear"])
    train(config, toy_records, Run(tmp_path / "run"), deadline=0.0)
    assert "the weights of tiny_map are random" in capsys.readouterr().out

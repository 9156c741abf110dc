import math
import os
from typing import get_args

import numpy as np
import pytest

from kit.config import Optimizer, Phase, TrainSettings
from kit.errors import ConfigError

# Which layers learn has nothing to do with the backend, and JAX compiles the initialiser of every shape of weights.
of_structure = pytest.mark.skipif(os.environ.get("KERAS_BACKEND") == "jax", reason="not of a backend, slow on JAX")


@pytest.fixture
def rates(keras):
    """A function: settings, phase and updates per epoch -> the learning rate of every update of the phase."""

    def of(train, phase, steps):
        from kit.train.optimize import make_schedule

        schedule = make_schedule(train, phase, steps)
        return [float(keras.ops.convert_to_numpy(schedule(n))) for n in range(phase.epochs * steps)]

    return of


@pytest.fixture
def step(keras):
    """A function: an optimiser, values and gradients of some variables -> their values after one update."""

    def after(optimizer, values, gradients):
        variables = [keras.Variable(np.array(value, np.float32)) for value in values]
        optimizer.build(variables)
        optimizer.apply([keras.ops.convert_to_tensor(np.array(g, np.float32)) for g in gradients])
        return [keras.ops.convert_to_numpy(variable.value) for variable in variables]

    return after


@pytest.fixture(scope="module")
def models(keras):
    """A function: name of a backbone -> an untrained model with it under a head of 8 units, each built once."""
    built = {}

    def model(name, side=64):
        from kit.models import registry

        if name not in built:
            built[name] = registry.build(name, shape=(side, side, 3), outputs=1, units=8)
        return built[name]

    return model


def constant(rate=1.0, **chosen):
    return TrainSettings(schedule="constant", **chosen), Phase(epochs=1, learning_rate=rate)


def test_exponential_is_the_nih_systems(rates):
    train = TrainSettings(
        schedule="exponential",
        warmup_epochs=8,
        hold_epochs=0,
        decay=0.8,
        start_learning_rate=2e-6,
        min_learning_rate=1e-6,
    )
    by_epoch = [2e-6, 1.425e-5, 2.65e-5, 3.875e-5, 5.1e-5, 6.325e-5, 7.55e-5, 8.775e-5]  # 1.225e-5 more each time
    by_epoch += [1e-4, 8.02e-5, 6.436e-5, 5.1688e-5]  # 99e-6 times 1, .8, .64 and .512, and 1e-6
    got = rates(train, Phase(epochs=12, learning_rate=1e-4), 3)
    assert got == pytest.approx(np.repeat(by_epoch, 3), rel=1e-5)


def test_exponential_holds(rates):
    train = TrainSettings(
        schedule="exponential", warmup_epochs=0, hold_epochs=2, decay=0.5, min_learning_rate=0, start_learning_rate=0
    )
    assert rates(train, Phase(epochs=5, learning_rate=0.8), 1) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.2])


def test_one_cycle_is_pytorchs(rates):
    # OneCycleLR(max_lr=1, total_steps=10): div_factor 25, final_div_factor 1e4, pct_start .3, cosine; so up until
    # step .3 * 10 - 1 = 2, down until step 9
    def between(start, end, share):
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    expected = [between(0.04, 1, n / 2) for n in range(2)] + [between(1, 0.04 / 1e4, (n - 2) / 7) for n in range(2, 10)]
    got = rates(TrainSettings(schedule="one_cycle"), Phase(epochs=5, learning_rate=1.0), 2)
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (max(got), got.index(max(got))) == (pytest.approx(1.0), 2)


def test_cosine_with_and_without_warmup(rates):
    train = TrainSettings(schedule="cosine", warmup_epochs=1, start_learning_rate=0.2)
    # four updates up from .2 to 1, then half a cosine over the other eight
    expected = [0.2, 0.4, 0.6, 0.8] + [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)]
    assert rates(train, Phase(epochs=3, learning_rate=1.0), 4) == pytest.approx(expected, abs=1e-6)
    expected = [(1 + math.cos(math.pi * n / 4)) / 2 for n in range(4)]
    train = TrainSettings(schedule="cosine", warmup_epochs=0)
    assert rates(train, Phase(epochs=2, learning_rate=1.0), 2) == pytest.approx(expected, abs=1e-6)
    # a phase shorter than the warm-up never comes down
    train = TrainSettings(schedule="cosine", warmup_epochs=5, start_learning_rate=0.0)
    assert rates(train, Phase(epochs=2, learning_rate=1.0), 2) == pytest.approx([0, 0.25, 0.5, 0.75], abs=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_and_plateau_begin_with_the_rate_itself(keras, schedule):
    from kit.train.optimize import make_schedule

    assert make_schedule(TrainSettings(schedule=schedule), Phase(epochs=2, learning_rate=0.3), 2) == 0.3


@pytest.mark.parametrize("name", get_args(Optimizer))
def test_every_optimiser_takes_a_step_down(step, name):
    from kit.train.optimize import make_optimizer

    train, phase = constant(0.1, optimizer=name)
    (value,) = step(make_optimizer(train, phase, 4), [[1.0, 2.0]], [[1.0, 1.0]])
    assert np.isfinite(value).all()
    assert (value < [1.0, 2.0]).all()
    # by default training begins with a rate of next to nothing: that must do no harm
    (value,) = step(make_optimizer(TrainSettings(optimizer=name), phase, 4), [[1.0, 2.0]], [[1.0, 1.0]])
    assert np.isfinite(value).all()


def test_weight_decay_and_clipping_and_other_arguments_reach_keras(step):
    from kit.train.optimize import make_optimizer

    train, phase = constant(0.5, optimizer="sgd", weight_decay=0.1)
    (value,) = step(make_optimizer(train, phase, 4), [[2.0]], [[0.0]])
    assert value == pytest.approx([2 - 0.5 * 0.1 * 2])
    train, phase = constant(1.0, optimizer="sgd", clip_norm=1.0)
    one, other = step(make_optimizer(train, phase, 4), [[0.0], [0.0]], [[3.0], [4.0]])  # a norm of 5 in all
    assert (one, other) == (pytest.approx([-0.6]), pytest.approx([-0.8]))
    train, phase = constant(1.0, optimizer="sgd", optimizer_arguments={"momentum": 0.9, "nesterov": True})
    (value,) = step(make_optimizer(train, phase, 4), [[0.0]], [[1.0]])
    assert value == pytest.approx([-1.9])  # m = -g; w + .9 m - g
    accumulating = make_optimizer(*constant(average="ema", ema_momentum=0.9), 4, parts=2)
    assert (accumulating.gradient_accumulation_steps, accumulating.use_ema) == (2, True)
    assert accumulating.ema_momentum**2 == pytest.approx(0.9)  # an average moves with every part of a batch


@pytest.mark.parametrize("arguments", [{"momentun": 0.9}, {"momentum": 7.0}])
def test_arguments_that_the_optimiser_does_not_take(keras, arguments):
    from kit.train.optimize import make_optimizer

    train, phase = constant(optimizer="sgd", optimizer_arguments=arguments)
    with pytest.raises(ConfigError, match=r"train\.optimizer_arguments of sgd"):
        make_optimizer(train, phase, 4)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_a_variable_with_a_tenth_of_the_rate_moves_a_tenth(step, decay):
    from kit.train.optimize import make_optimizer

    train, phase = constant(0.5, optimizer="sgd", weight_decay=decay)
    values, gradients = [[1.0, 2.0], [1.0, 2.0]], [[3.0, -1.0], [3.0, -1.0]]
    slow, fast = step(make_optimizer(train, phase, 4, rates=[0.1, 1.0]), values, gradients)
    assert slow - [1, 2] == pytest.approx((fast - [1, 2]) / 10, rel=1e-5)
    (plain,) = step(make_optimizer(train, phase, 4), values[:1], gradients[:1])
    assert fast == pytest.approx(plain)


@of_structure
@pytest.mark.parametrize(
    ("name", "trainable"), [("resnet50", 2_099_201), ("efficientnetb0", 1_312_769)]
)  # of the system that froze them under a head of 1024 units
def test_what_a_frozen_backbone_leaves_to_learn(keras, name, trainable):
    from kit.models import registry
    from kit.train.optimize import unfreeze

    model = registry.build(name, shape=(64, 64, 3), outputs=1, units=1024)
    everything = len(model.trainable_variables)
    unfreeze(model, "none")
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == trainable
    unfreeze(model, "all")
    assert len(model.trainable_variables) == everything


@of_structure
def test_the_last_layers_learn_and_no_others(models):
    from kit.train.optimize import unfreeze

    model = models("squeezenet")
    backbone = model.get_layer("backbone")
    unfreeze(model, "7 layers")  # two fire modules end the network: squeeze, two expands, concatenation each
    learns = {layer.name for layer in backbone.layers if layer.trainable and layer.weights}
    assert learns == {"fire9_squeeze1x1", "fire9_expand1x1", "fire9_expand3x3"} | {"fire8_expand1x1", "fire8_expand3x3"}
    assert model.get_layer("dense").trainable
    head = 512 * 8 + 8 + 8 + 1
    fire = 64 * 256 + 256 + 9 * 64 * 256 + 256  # what expands
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == head + 2 * fire + 512 * 64 + 64
    unfreeze(model, "1000 layers")  # more than there are: all
    assert all(layer.trainable for layer in backbone.layers)


@of_structure
@pytest.mark.parametrize(
    ("name", "largest", "first"),
    [
        ("mobilenet", [2, 4, 8, 16, 32], "conv_dw_12"),
        ("efficientnetb0", [2, 4, 8, 16, 32], "block6a_dwconv"),  # with maps of 1x1 inside every stage
        ("inception_v3", [1, 3, 7, 18, 39], None),  # with borders that shrink the maps as well
    ],
)
def test_stages_are_the_sizes_of_the_maps(models, name, largest, first):
    from kit.models.features import stages
    from kit.train.optimize import unfreeze

    model = models(name, 80 if name == "inception_v3" else 64)
    backbone = model.get_layer("backbone")
    unfreeze(model, "all")
    of = dict(zip([layer.name for layer in backbone.layers], stages(backbone), strict=True))
    learners = [layer for layer in backbone.layers if layer.trainable_variables]
    sizes = [{layer.output.shape[1] for layer in learners if of[layer.name] == stage} for stage in range(len(largest))]
    assert [max(size) for size in sizes] == largest
    unfreeze(model, "1 stages")
    learns = [layer.name for layer in backbone.layers if layer.trainable and layer.weights]
    assert first in (None, learns[0])
    unfreeze(model, f"{len(largest)} stages")
    assert all(layer.trainable for layer in learners)


def test_frozen_batch_statistics_stay_and_others_move(keras):
    from kit.runtime.keras_private import batch_norms
    from kit.train.optimize import unfreeze

    layers = keras.layers
    images = keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 2)), layers.BatchNormalization(name="nested_bn")])
    x = layers.BatchNormalization(name="bn1")(layers.Conv2D(2, 3, padding="same", name="conv1")(images))
    x = layers.BatchNormalization(name="bn2")(layers.Conv2D(2, 3, padding="same", name="conv2")(inner(x)))
    backbone = keras.Model(images, x, name="backbone")
    model = keras.Sequential([keras.Input((8, 8, 1)), backbone, layers.BatchNormalization(name="of_the_head")])
    norms = batch_norms(model)
    batch = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)

    def moved(what, freeze_batch_norm=False):
        unfreeze(model, what, freeze_batch_norm)
        before = [keras.ops.convert_to_numpy(norm.moving_mean) for norm in norms]
        model(batch, training=True)
        after = [keras.ops.convert_to_numpy(norm.moving_mean) for norm in norms]
        return {norm.name for norm, a, b in zip(norms, before, after, strict=True) if not np.array_equal(a, b)}

    assert moved("none") == {"of_the_head"}
    assert moved("2 layers") == {"bn2", "of_the_head"}
    assert moved("all") == {"bn1", "nested_bn", "bn2", "of_the_head"}
    assert moved("all", freeze_batch_norm=True) == {"of_the_head"}
    # nor do scale and offset learn: two convolutions and the head's own are left
    assert len(model.trainable_variables) == 6


def test_a_model_without_a_backbone_learns_as_a_whole(keras):
    from kit.models import registry
    from kit.train.optimize import rates_of, unfreeze

    model = registry.build("pcam_cnn", shape=(24, 24, 3), outputs=1, units=8)
    unfreeze(model, "all")
    with pytest.raises(ConfigError, match="has no backbone"):
        unfreeze(model, "2 stages")
    assert rates_of(model, 0.5) == [1.0] * len(model.trainable_variables)


@of_structure
def test_layer_decay_lowers_the_rate_stage_by_stage(models):
    from kit.train.optimize import rates_of, unfreeze

    model = models("squeezenet")
    unfreeze(model, "all")
    factors = dict(zip([v.path for v in model.trainable_variables], rates_of(model, 0.5), strict=True))
    head = [factor for path, factor in factors.items() if path.startswith(("dense/", "logits/"))]
    assert head == [1.0] * 4
    # 64 pixels: conv1 has 31, then come maps of 15 (fire 2, 3), 7 (4, 5) and 3 (6 to 9)
    for name, factor in (("fire9", 0.5), ("fire6", 0.5), ("fire5", 0.25), ("fire2", 0.125), ("conv1", 0.0625)):
        assert {f for path, f in factors.items() if name in path} == {factor}
    assert rates_of(model, 1.0) == [1.0] * len(factors)
    unfreeze(model, "1 stages")
    assert len(rates_of(model, 0.5)) == len(model.trainable_variables)

import time
from functools import partial

import numpy as np
import pytest

from kit.config import AugmentSettings, Phase, TrainSettings
from kit.errors import ConfigError, TrainingError

STEPS, SIDE = 4, 24
AUGMENT = AugmentSettings(horizontal_flip=True, rotation=10, brightness=0.1)


def batches(epoch, parts=1):
    """Batches that run on without end; which ones depends on the epoch alone. A bright image is a positive one."""
    while True:
        rng = np.random.default_rng(epoch)
        for _ in range(STEPS):
            y = rng.integers(0, 2, (8, 1)).astype("float32")
            noise = rng.integers(0, 60, (8, SIDE, SIDE, 3))
            x = (noise + 60 * y[:, :, None, None] + 40).astype("uint8")
            for image, label in zip(np.split(x, parts), np.split(y, parts), strict=True):
                yield ({"image": image, "label": label},)
        epoch += 1


class Killed(Exception):
    pass


def pcam_cnn(keras):
    from kit.models import registry

    return registry.build("pcam_cnn", shape=(SIDE, SIDE, 3), outputs=1, units=8)


def small(keras, norm=True, dropout=0.2, early=0.0):
    """A backbone of one convolution and its batch normalisation under a head: what is quick to compile.

    `early` is dropout before the normalisation, which then moves its statistics.
    """
    layers = keras.layers
    images = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    maps = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(2, 3, strides=4, activation="relu", name="conv")(maps)
    x = layers.Dropout(early)(x) if early else x
    backbone = keras.Model(maps, layers.BatchNormalization(name="bn")(x) if norm else x, name="backbone")
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 128, -1.0)(images)))
    return keras.Model(images, layers.Dense(1, activation="sigmoid", name="logits")(layers.Dropout(dropout)(x)))


def untimed(fitted):
    """The history without the seconds that each epoch took."""
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in fitted.history]


@pytest.fixture
def fit_once(keras, tmp_path, capsys):
    """A function: fit a fresh model into a folder, with a script of scores; dies in the epoch `dies`."""

    def once(
        name,
        train,
        scores=None,
        dies=None,
        seconds=None,
        larger_is_better=True,
        build=small,
        augment=AUGMENT,
        feed=batches,
        on_validate=lambda model: None,
        **more,
    ):
        from kit.train.fit import Feed, fit

        keras.utils.clear_session()
        keras.utils.set_random_seed(7)
        model = build(keras)
        capsys.readouterr()  # lines of an earlier fit that was killed

        def validate():
            done = state_epochs(tmp_path / name)
            if dies is not None and done == dies:
                raise Killed
            on_validate(model)
            batch = next(batches(1000))[0]
            value = float(model.predict_on_batch(batch["image"])[:, 0] @ (2 * batch["label"][:, 0] - 1))
            return {"val_loss": 0.0, "val_score": value if scores is None else scores[done]}

        fitted = fit(
            model,
            Feed(feed, STEPS, np.array([[0.0], [1.0]]), lambda e, step, parts: (f"e{e}s{step}",)),
            validate,
            monitor="val_score",
            larger_is_better=larger_is_better,
            task="binary",
            train=train,
            augment=augment,
            seed=3,
            state=tmp_path / name,
            deadline=None if seconds is None else time.monotonic() + seconds,
            **more,
        )
        return model, fitted, capsys.readouterr().out.splitlines()

    return once


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def state_epochs(folder):
    import json

    path = folder / "state.json"
    return len(json.loads(path.read_text())["history"]) if path.exists() else 0


@pytest.mark.parametrize(
    ("chosen", "scores", "rates"),
    [
        # half-way up, up, half-way down, down
        ({"schedule": "cosine", "warmup_epochs": 2, "learning_rate": 1e-2}, None, [5e-3, 1e-2, 5e-3, 0]),
        pytest.param(
            {"schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.2, "learning_rate": 1e-3},
            [0.9, 0.5, 0.5, 0.5, 0.5, 0.5],
            [1e-3, 1e-3, 1e-3, 2e-4, 2e-4, 4e-5],
            marks=[pytest.mark.once, pytest.mark.slow],
        ),
    ],
    ids=["cosine", "plateau"],
)
def test_a_killed_run_goes_on_to_the_same_weights_rates_and_history(fit_once, chosen, scores, rates):
    train = TrainSettings(epochs=len(rates), optimizer="adamw", weight_decay=0.01, **chosen)
    whole, fitted, lines = fit_once("whole", train, scores)
    with pytest.raises(Killed):
        fit_once("killed", train, scores, dies=2)
    again, resumed, last_lines = fit_once("killed", train, scores)
    assert len(lines) == len(rates)
    assert len(last_lines) == len(rates) - 2
    assert untimed(resumed) == untimed(fitted)
    assert same_weights(whole, again)
    assert [epoch["learning_rate"] for epoch in fitted.history] == pytest.approx(rates, abs=1e-6)


def test_validation_that_does_not_fit_in_memory_is_not_taken_for_a_batch(fit_once):
    def full(model):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.raises(TrainingError, match=r"validation does not fit in memory: lower predict.batch_size"):
        fit_once("x", TrainSettings(epochs=1), on_validate=full)


@pytest.mark.slow
@pytest.mark.once
def test_early_stopping_counts_on_after_a_kill(fit_once):
    train = TrainSettings(epochs=9, patience=3, schedule="constant")
    scores = [0.5, 0.9, 0.6, 0.7, 0.8, 1.0, 1.0, 1.0, 1.0]  # best in epoch 2, then three worse: stops after epoch 5
    with pytest.raises(Killed):
        fit_once("killed", train, scores, dies=3)
    _, resumed, _ = fit_once("killed", train, scores)
    assert ([epoch["val_score"] for epoch in resumed.history], resumed.finished) == (scores[:5], True)
    _, finished, lines = fit_once("killed", train, scores)  # nothing left to do
    assert (len(finished.history), lines) == (5, [])


@pytest.mark.once
def test_the_model_is_left_with_the_weights_of_the_best_epoch(fit_once):
    nan = float("nan")  # a score that is not defined is never better
    for larger, scores, epoch in [(True, [nan, 0.9, nan, 0.5], 1), (False, [nan, 0.5, 0.2, 0.9, nan], 2)]:
        train = TrainSettings(epochs=len(scores), schedule="constant")
        seen = []
        model, fitted, _ = fit_once(
            f"{larger}{scores}",
            train,
            scores,
            larger_is_better=larger,
            on_validate=lambda m, seen=seen: seen.append(m.get_weights()),
        )
        assert len(fitted.history) == len(seen) == len(scores)
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), seen[epoch], strict=True))


def test_it_learns_with_the_momentum_of_batch_normalisation_of_the_settings(fit_once):
    from kit.runtime.keras_private import batch_norms

    train = TrainSettings(epochs=12, schedule="constant", learning_rate=1e-2, batch_norm_momentum=0.5)
    model, fitted, _ = fit_once("x", train)
    assert fitted.history[-1]["loss"] < 0.5 * fitted.history[0]["loss"]
    assert {layer.momentum for layer in batch_norms(model)} == {0.5}


@pytest.mark.slow
@pytest.mark.once
def test_the_deadline_stops_between_epochs_and_phases_and_the_next_run_finishes(fit_once):
    train = TrainSettings(phases=(Phase(epochs=2, learning_rate=0.1), Phase(epochs=1, learning_rate=0.01)))
    for seconds, epochs in ((0.1, 1), (-1, 1), (0.1, 2)):  # with no time at all, no epoch is begun
        _, early, _ = fit_once("x", train, seconds=seconds, on_validate=lambda m: time.sleep(0.1))
        assert ([row["phase"] for row in early.history], early.finished) == ([0] * epochs, False)
    _, done, _ = fit_once("x", train)
    assert ([row["phase"] for row in done.history], done.finished) == ([0, 0, 1], True)


PHASES = (
    Phase(epochs=2, learning_rate=0.05, unfreeze="none"),
    Phase(epochs=3, learning_rate=0.01, layer_decay=0.5),
)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["ema", "swa"])
def test_phases_and_averages_killed_anywhere_go_on_to_the_same_end(fit_once, keras, average):
    train = TrainSettings(phases=PHASES, average=average, ema_momentum=0.8, swa_epochs=4)
    strong = average == "ema" and keras.backend.backend() != "jax"  # which would compile for too long
    augment = AugmentSettings(preset="strong") if strong else AugmentSettings()
    chosen = {"build": partial(small, early=0.3), "augment": augment}
    whole, fitted, lines = fit_once("whole", train, **chosen)
    with pytest.raises(Killed):
        fit_once("killed", train, dies=5 if average == "swa" else 3, **chosen)  # in the averaging; in the second phase
    again, resumed, _ = fit_once("killed", train, **chosen)
    assert repr(untimed(resumed)) == repr(untimed(fitted))  # of the average there is no loss: NaN is not NaN
    assert same_weights(whole, again)
    assert resumed.finished
    assert [row["phase"] for row in fitted.history] == [0, 0, 1, 1, 1, 1][: 6 if average == "swa" else 5]
    assert "epoch 3/5" in lines[2]  # counted over the phases


def test_a_phase_begins_with_the_best_weights_and_what_is_frozen_stays(fit_once, keras):
    seen, build = [], lambda keras: small(keras, dropout=0)
    train = TrainSettings(phases=PHASES, schedule="constant", optimizer="sgd")
    scores = [0.9, 0.1, 0.2, 0.3, 0.4]  # the first epoch is and stays the best
    kept, _, _ = fit_once(
        "x", train, scores, build=build, augment=AugmentSettings(), on_validate=lambda m: seen.append(m.get_weights())
    )
    keras.utils.set_random_seed(7)
    fresh = build(keras)
    names = [v.path for v in fresh.weights]
    for n, name in enumerate(names):
        backbone = name.startswith(("conv/", "bn/"))
        for epoch in (0, 1):
            assert np.array_equal(seen[epoch][n], fresh.get_weights()[n]) == backbone, name
        assert np.array_equal(kept.get_weights()[n], seen[0][n])
        if backbone:
            assert not np.array_equal(seen[2][n], seen[1][n])
    # the second phase set out from the first epoch: with the same data it is where a fit from there is
    from kit.train.fit import training_model
    from kit.train.objectives import make_objective
    from kit.train.optimize import make_optimizer, rates_of

    fresh.set_weights(seen[0])
    training = training_model(fresh, make_objective("binary", train.loss, np.array([[0.0]])), AugmentSettings(), 0)
    training.compile(make_optimizer(train, PHASES[1], STEPS, rates_of(fresh, 0.5)))
    training.fit(batches(2), steps_per_epoch=STEPS, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(seen[2], fresh.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_a_phase_that_cannot_be_is_refused_before_the_first(fit_once, tmp_path):
    train = TrainSettings(
        phases=(Phase(epochs=1, learning_rate=0.1), Phase(epochs=1, learning_rate=0.1, unfreeze="none"))
    )
    with pytest.raises(ConfigError, match="has no backbone"):
        fit_once("x", train, build=pcam_cnn)
    assert state_epochs(tmp_path / "x") == 0


def plain(keras):
    return small(keras, norm=False, dropout=0)


def test_the_moving_average_is_what_is_scored_and_kept(fit_once, keras):
    seen = []
    settings = {"epochs": 2, "schedule": "constant", "optimizer": "sgd", "learning_rate": 0.5}
    steps = fit_steps(keras, TrainSettings(**settings), 2 * STEPS)
    model, _, _ = fit_once(
        "x",
        TrainSettings(**settings, average="ema", ema_momentum=0.7),
        [0.1, 0.2],
        build=plain,
        augment=AugmentSettings(),
        on_validate=lambda m: seen.append(m.get_weights()),
    )
    average, expected = steps[0], []
    for n, values in enumerate(steps):
        average = [0.7 * a + 0.3 * v for a, v in zip(average, values, strict=True)] if n else values
        if (n + 1) % STEPS == 0:
            expected.append(average)
    assert len(expected) == len(seen) == 2
    for averages, weights in zip([*expected, expected[-1]], [*seen, model.get_weights()], strict=True):
        for a, b in zip(averages, weights, strict=True):
            assert b == pytest.approx(a, abs=1e-5)
    assert not np.allclose(steps[-1][0], model.get_weights()[0], atol=1e-5)


def fit_steps(keras, train, count):
    """The weights after each of so many steps of the same training, without any of kit's callbacks."""
    from kit.train.fit import training_model
    from kit.train.objectives import make_objective
    from kit.train.optimize import make_optimizer

    keras.utils.set_random_seed(7)
    model, feed, weights = plain(keras), batches(0), []
    training = training_model(model, make_objective("binary", train.loss, np.array([[0.0]])), AugmentSettings(), 0)
    training.compile(make_optimizer(train, train.all_phases[0], STEPS), jit_compile=False)
    for _ in range(count):
        training.train_on_batch(*next(feed))
        weights.append(model.get_weights())
    return weights


@pytest.mark.once
def test_the_stochastic_average_is_the_mean_of_the_last_epochs_of_the_last_phase(fit_once, keras):
    seen, scores = [], [0.9, 0.1, 0.2, 0.3, 0.4, 1.0]
    train = TrainSettings(phases=PHASES, average="swa", swa_epochs=4, schedule="constant")  # the phase has but three
    model, fitted, lines = fit_once("x", train, scores, on_validate=lambda m: seen.append(m.get_weights()))
    assert len(fitted.history) == len(seen) == 6
    assert "mean of the last 3 epochs" in lines[-1]
    names = [v.path for v in model.weights]
    for n, name in enumerate(names):
        if "moving" not in name:
            assert seen[5][n] == pytest.approx(np.mean([w[n] for w in seen[2:5]], axis=0), abs=1e-6), name
    # batch statistics: of what the convolution now gives for the next epoch's images, batch by batch
    model.set_weights(seen[5])
    conv = model.get_layer("backbone").get_layer("conv")
    feed = batches(5)
    maps = [keras.ops.convert_to_numpy(conv(next(feed)[0]["image"] / np.float32(128) - 1)) for _ in range(STEPS)]
    statistics = dict(zip(names, seen[5], strict=True))
    assert statistics["bn/moving_mean"] == pytest.approx(np.mean([m.mean((0, 1, 2)) for m in maps], axis=0), rel=1e-4)
    assert statistics["bn/moving_variance"] == pytest.approx(
        np.mean([m.var((0, 1, 2)) for m in maps], axis=0), rel=1e-3
    )


def test_a_batch_in_parts_is_the_whole_batch(fit_once):
    train = TrainSettings(
        epochs=2, optimizer="sgd", learning_rate=0.5, schedule="cosine", optimizer_arguments={"momentum": 0.9}
    )
    chosen = {"scores": [0.1, 0.2], "build": plain, "augment": AugmentSettings()}
    whole, fitted, _ = fit_once("whole", train, **chosen)
    parts, in_parts, _ = fit_once("parts", train.model_copy(update={"accumulate": 2}), **chosen)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=2e-6)
    for one, other in zip(untimed(fitted), untimed(in_parts), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def full_memory(keras, at_most, after=0):
    """A callback that fails as a device does when more than so many images come at once, `after` that many steps."""

    class ResourceExhaustedError(Exception):
        pass

    class Full(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if 8 * STEPS // self.params["steps"] > at_most and batch >= after:
                raise ResourceExhaustedError

    return Full()


@pytest.mark.slow
def test_a_batch_too_large_for_memory_is_halved_once(fit_once, keras):
    train = TrainSettings(epochs=2, optimizer="sgd", learning_rate=0.5)
    chosen = {"build": plain, "augment": AugmentSettings()}
    whole, _, _ = fit_once("whole", train, [0.1, 0.2], **chosen)
    full = full_memory(keras, 4, after=1)
    with pytest.raises(Killed):
        fit_once("x", train, dies=1, callbacks=[full], **chosen)
    halved, fitted, lines = fit_once("x", train, [0.1, 0.2], callbacks=[full], **chosen)
    assert (len(fitted.history), len(lines)) == (2, 1)  # went on with halves: not a word more of it
    for a, b in zip(whole.get_weights(), halved.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=2e-6)
    with pytest.raises(TrainingError, match="half a batch does not fit in memory either"):
        fit_once("y", train, callbacks=[full_memory(keras, 2)])
    with pytest.raises(TrainingError, match="a batch does not fit in memory: lower"):
        fit_once("z", train, callbacks=[full_memory(keras, 4)], most_parts=1)


@pytest.mark.slow
@pytest.mark.once
def test_halving_in_the_middle_keeps_the_optimisers_state(fit_once, keras):
    train = TrainSettings(epochs=4, optimizer="adam", learning_rate=0.05, schedule="plateau", plateau_patience=1)
    chosen = {"scores": [0.3, 0.2, 0.1, 0.4], "build": plain, "augment": AugmentSettings()}
    whole, expected, _ = fit_once("whole", train, **chosen)
    with pytest.raises(Killed):
        fit_once("x", train, dies=1, **chosen)  # and on a smaller device
    halved, fitted, lines = fit_once("x", train, callbacks=[full_memory(keras, 4)], **chosen)
    assert ["cut in half" in line for line in lines] == [True, False, False, False]
    for a, b in zip(whole.get_weights(), halved.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    assert [row["learning_rate"] for row in fitted.history] == pytest.approx(
        [row["learning_rate"] for row in expected.history]
    )


@pytest.mark.parametrize(
    ("together", "where"), [(1, r"step 3 on.*\(images e1s2\)"), (4, r"one of the steps 1 to 4 on.*e1s2")]
)
def test_a_loss_that_is_not_finite_stops_and_says_where(fit_once, tmp_path, together, where):
    def broken(epoch, parts):
        for n, (batch,) in enumerate(batches(epoch, parts), epoch * STEPS):
            yield ({**batch, "label": batch["label"] + (np.inf if n == STEPS + 2 else 0).__float__()},)

    train = TrainSettings(epochs=3, schedule="constant", learning_rate=0.125)
    with pytest.raises(TrainingError, match=f"loss is .* from epoch 2, {where}") as caught:
        fit_once("x", train, feed=broken, steps_per_execution=together)
    assert "0.125" in str(caught.value)
    assert state_epochs(tmp_path / "x") == 1


@pytest.mark.slow
@pytest.mark.once
def test_steps_that_are_executed_together_give_the_same(fit_once):
    train = TrainSettings(epochs=2)
    one, fitted, _ = fit_once("one", train, build=small)
    four, together, _ = fit_once("four", train, steps_per_execution=16)
    for a, b in zip(one.get_weights(), four.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    for a, b in zip(untimed(fitted), untimed(together), strict=True):
        assert a == pytest.approx(b, rel=1e-4)

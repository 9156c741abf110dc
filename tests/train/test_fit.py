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


@pytest.fixture
def fit_once(keras, tmp_path, capsys):
    """A function: fit a fresh model into a folder, with a script of scores; dies in the epoch `dies`, if given."""

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


@pytest.mark.parametrize("schedule", ["cosine", pytest.param("plateau", marks=pytest.mark.once)])
def test_a_killed_run_goes_on_to_the_same_weights_and_history(fit_once, schedule):
    train = TrainSettings(epochs=5, schedule=schedule, optimizer="adamw", weight_decay=0.01, plateau_patience=1)
    whole, fitted, lines = fit_once("whole", train)
    with pytest.raises(Killed):
        fit_once("killed", train, dies=3)
    again, resumed, last_lines = fit_once("killed", train)
    assert len(lines) == 5
    assert len(last_lines) == 2
    assert resumed.history == fitted.history
    assert same_weights(whole, again)


def test_validation_that_does_not_fit_in_memory_is_not_taken_for_a_batch(fit_once):
    def full(model):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with pytest.raises(TrainingError, match=r"validation does not fit in memory: lower predict.batch_size"):
        fit_once("x", TrainSettings(epochs=1), on_validate=full)


@pytest.mark.once
def test_early_stopping_counts_on_after_a_kill(fit_once):
    train = TrainSettings(epochs=9, patience=3, schedule="constant")
    scores = [0.5, 0.9, 0.6, 0.7, 0.8, 1.0, 1.0, 1.0, 1.0]  # best in epoch 2, then three worse: stops after epoch 5
    _, fitted, _ = fit_once("whole", train, scores)
    assert (len(fitted.history), fitted.finished) == (5, True)
    with pytest.raises(Killed):
        fit_once("killed", train, scores, dies=3)
    _, resumed, _ = fit_once("killed", train, scores)
    assert [epoch["val_score"] for epoch in resumed.history] == scores[:5]
    _, finished, lines = fit_once("killed", train, scores)  # nothing left to do
    assert (len(finished.history), lines) == (5, [])


@pytest.mark.once
def test_plateau_lowers_the_rate_as_it_would_have_without_a_kill(fit_once):
    train = TrainSettings(epochs=6, schedule="plateau", plateau_patience=2, plateau_factor=0.2, learning_rate=1e-3)
    scores = [0.9, 0.5, 0.5, 0.5, 0.5, 0.5]
    with pytest.raises(Killed):
        fit_once("killed", train, scores, dies=2)
    _, fitted, _ = fit_once("killed", train, scores)
    rates = [epoch["learning_rate"] for epoch in fitted.history]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 2e-4, 2e-4, 4e-5])


def test_cosine_warms_up_and_ends_at_nothing(fit_once):
    _, fitted, _ = fit_once("x", TrainSettings(epochs=4, schedule="cosine", warmup_epochs=2, learning_rate=1e-2))
    rates = [epoch["learning_rate"] for epoch in fitted.history]
    assert rates == pytest.approx([5e-3, 1e-2, 5e-3, 0], abs=1e-6)  # half-way up, up, half-way down, down


@pytest.mark.once
def test_the_model_is_left_with_the_weights_of_the_best_epoch(fit_once):
    nan, train = float("nan"), TrainSettings(epochs=3, schedule="constant")
    cases = [(True, [0.9, 0.1, 0.5], 0), (False, [0.5, 0.2, 0.9], 1), (True, [nan, 0.2, nan], 1)]
    for larger, scores, epoch in [*cases, (False, [nan, nan, 0.9], 2)]:  # a score that is not defined is never better
        seen = []
        model, fitted, _ = fit_once(
            f"{larger}{scores}",
            train,
            scores,
            larger_is_better=larger,
            on_validate=lambda m, seen=seen: seen.append(m.get_weights()),
        )
        assert len(fitted.history) == len(seen) == 3
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), seen[epoch], strict=True))


def test_it_learns(fit_once):
    _, fitted, _ = fit_once("x", TrainSettings(epochs=12, schedule="constant", learning_rate=1e-2))
    assert fitted.history[-1]["loss"] < 0.5 * fitted.history[0]["loss"]


@pytest.mark.once
def test_the_deadline_stops_between_epochs_and_the_next_run_finishes(fit_once):
    train = TrainSettings(epochs=3, schedule="constant")
    _, early, _ = fit_once("x", train, seconds=0.3)
    assert (len(early.history), early.finished) == (1, False)
    _, late, _ = fit_once("x", train, seconds=-1)  # no time at all: no epoch is begun
    assert (len(late.history), late.finished) == (1, False)
    _, done, _ = fit_once("x", train)
    assert (len(done.history), done.finished) == (3, True)


PHASES = (
    Phase(epochs=2, learning_rate=0.05, unfreeze="none"),
    Phase(epochs=3, learning_rate=0.01, layer_decay=0.5),
)


@pytest.mark.parametrize(
    ("average", "augment"),
    [
        pytest.param("none", AugmentSettings(preset="strong"), marks=pytest.mark.once),
        ("ema", AugmentSettings()),
        ("swa", AugmentSettings()),
    ],
)
def test_phases_and_averages_killed_anywhere_go_on_to_the_same_end(fit_once, average, augment):
    train = TrainSettings(phases=PHASES, average=average, ema_momentum=0.8, swa_epochs=4)
    chosen = {"build": partial(small, early=0.3), "augment": augment}
    whole, fitted, lines = fit_once("whole", train, **chosen)
    with pytest.raises(Killed):
        fit_once("killed", train, dies=5 if average == "swa" else 3, **chosen)  # in the averaging; in the second phase
    again, resumed, _ = fit_once("killed", train, **chosen)
    assert repr(resumed.history) == repr(fitted.history)  # of the average there is no loss: NaN is not NaN
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
    from kit.train.losses import make_loss
    from kit.train.optimize import make_optimizer, rates_of

    fresh.set_weights(seen[0])
    training = training_model(fresh, make_loss("binary", train.loss, np.array([[0.0]])), AugmentSettings(), 0)
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


@pytest.mark.once
def test_the_deadline_between_phases(fit_once):
    train = TrainSettings(phases=(Phase(epochs=1, learning_rate=0.1), Phase(epochs=1, learning_rate=0.01)))
    _, early, _ = fit_once("x", train, build=small, seconds=0.2, on_validate=lambda m: time.sleep(0.2))
    assert ([row["phase"] for row in early.history], early.finished) == ([0], False)
    _, done, _ = fit_once("x", train, build=small)
    assert ([row["phase"] for row in done.history], done.finished) == ([0, 1], True)


def plain(keras):
    return small(keras, norm=False, dropout=0)


def test_the_moving_average_is_what_is_scored_and_kept(fit_once, keras):
    steps, seen = [], []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append([keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables])

    train = TrainSettings(
        epochs=2, average="ema", ema_momentum=0.7, schedule="constant", optimizer="sgd", learning_rate=0.5
    )
    if keras.backend.backend() == "jax":  # which gives the values back at the end of an epoch only
        alone = TrainSettings(**{**train.model_dump(), "average": "none"})
        for n in range(2 * STEPS):
            steps.append(fit_steps(keras, alone, n + 1))
    model, _, _ = fit_once(
        "x",
        train,
        [0.1, 0.2],
        build=plain,
        augment=AugmentSettings(),
        on_validate=lambda m: seen.append(m.get_weights()),
        callbacks=[] if keras.backend.backend() == "jax" else [Record()],
    )
    average, expected = steps[0], []
    for n, values in enumerate(steps):
        average = [0.7 * a + 0.3 * v for a, v in zip(average, values, strict=True)] if n else values
        if (n + 1) % STEPS == 0:
            expected.append(average)
    assert len(expected) == len(seen) == 2
    for wanted, got in zip([*expected, expected[-1]], [*seen, model.get_weights()], strict=True):
        for a, b in zip(wanted, got, strict=True):
            assert b == pytest.approx(a, abs=1e-5)
    assert not np.allclose(steps[-1][0], model.get_weights()[0], atol=1e-5)


def fit_steps(keras, train, count):
    """The trainable values after so many steps of the same training, without any of the kit's callbacks."""
    from kit.train.fit import training_model
    from kit.train.losses import make_loss
    from kit.train.optimize import make_optimizer

    keras.utils.set_random_seed(7)
    model = plain(keras)
    training = training_model(model, make_loss("binary", train.loss, np.array([[0.0]])), AugmentSettings(), 0)
    training.compile(make_optimizer(train, train.all_phases[0], STEPS), jit_compile=False)
    training.fit(batches(0), steps_per_epoch=count, epochs=1, verbose=0, shuffle=False)
    return model.get_weights()


@pytest.mark.once
def test_the_stochastic_average_is_the_mean_of_the_last_epochs_of_the_last_phase(fit_once, keras):
    seen, scores = [], [0.9, 0.1, 0.2, 0.3, 0.4, 1.0]
    train = TrainSettings(phases=PHASES, average="swa", swa_epochs=4, schedule="constant")  # the phase has but three
    model, fitted, lines = fit_once("x", train, scores, build=small, on_validate=lambda m: seen.append(m.get_weights()))
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


@pytest.mark.parametrize("schedule", ["cosine", pytest.param("plateau", marks=pytest.mark.once)])
def test_a_batch_in_parts_is_the_whole_batch(fit_once, schedule):
    train = TrainSettings(
        epochs=2, optimizer="sgd", learning_rate=0.5, schedule=schedule, optimizer_arguments={"momentum": 0.9}
    )
    chosen = {"scores": [0.1, 0.2], "build": plain, "augment": AugmentSettings()}
    whole, fitted, _ = fit_once("whole", train, **chosen)
    parts, in_parts, _ = fit_once("parts", train.model_copy(update={"accumulate": 2}), **chosen)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=2e-6)
    for one, other in zip(fitted.history, in_parts.history, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def full_memory(keras, at_most, after=0):
    """A callback that fails as a device does when more than so many images come at once, `after` so many steps."""

    class ResourceExhaustedError(Exception):
        pass

    class Full(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if 8 * STEPS // self.params["steps"] > at_most and batch >= after:
                raise ResourceExhaustedError

    return Full()


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
        fit_once("y", train, callbacks=[full_memory(keras, 2, after=1)], build=small)
    with pytest.raises(TrainingError, match="a batch does not fit in memory: lower"):
        fit_once("z", train, callbacks=[full_memory(keras, 4, after=1)], build=small, most_parts=1)


@pytest.mark.once
def test_halving_in_the_middle_keeps_the_optimisers_state(fit_once, keras):
    train = TrainSettings(epochs=3, optimizer="adam", learning_rate=0.05)
    chosen = {"build": plain, "augment": AugmentSettings()}
    whole, expected, _ = fit_once("whole", train, [0.1, 0.2, 0.3], **chosen)
    with pytest.raises(Killed):
        fit_once("x", train, dies=1, **chosen)  # and on a smaller device
    halved, fitted, lines = fit_once("x", train, [0.1, 0.2, 0.3], callbacks=[full_memory(keras, 4)], **chosen)
    assert ["cut in half" in line for line in lines] == [True, False, False]
    for a, b in zip(whole.get_weights(), halved.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    assert [row["learning_rate"] for row in fitted.history] == pytest.approx(
        [row["learning_rate"] for row in expected.history]
    )


@pytest.mark.parametrize(
    ("together", "says"), [(1, r"step 3 on.*\(images e1s2\)"), (4, r"one of the steps 1 to 4 on.*e1s2")]
)
def test_a_loss_that_is_no_number_stops_and_says_where(fit_once, tmp_path, keras, together, says):
    def broken(epoch, parts):
        for n, (batch,) in enumerate(batches(epoch, parts), epoch * STEPS):
            yield ({**batch, "label": batch["label"] + (np.inf if n == STEPS + 2 else 0).__float__()},)

    train = TrainSettings(epochs=3, schedule="constant", learning_rate=0.125)
    with pytest.raises(TrainingError, match=f"loss is .* from epoch 2, {says}") as caught:
        fit_once("x", train, build=small, feed=broken, steps_per_execution=together)
    assert "0.125" in str(caught.value)
    assert state_epochs(tmp_path / "x") == 1


@pytest.mark.once
def test_steps_that_are_executed_together_give_the_same(fit_once):
    train = TrainSettings(epochs=2)
    one, fitted, _ = fit_once("one", train, build=small)
    four, together, _ = fit_once("four", train, build=small, steps_per_execution=16)
    for a, b in zip(one.get_weights(), four.get_weights(), strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    for a, b in zip(fitted.history, together.history, strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_the_momentum_of_batch_normalisation_is_that_of_the_settings(fit_once):
    from kit.runtime.keras_private import batch_norms

    model, _, _ = fit_once("x", TrainSettings(epochs=1, batch_norm_momentum=0.5), [0.1])
    norms = batch_norms(model)
    assert norms
    assert {layer.momentum for layer in norms} == {0.5}

import time

import numpy as np
import pytest

from kit.config import AugmentSettings, TrainSettings

STEPS, SIDE = 4, 24
AUGMENT = AugmentSettings(horizontal_flip=True, rotation=10, brightness=0.1)


def batches(epoch, parts=1):
    """Batches that run on without end; which ones depends on the epoch alone. A bright image is a positive one."""
    while True:
        rng = np.random.default_rng(epoch)
        for _ in range(STEPS):
            y = rng.integers(0, 2, (8, 1)).astype("float32")
            noise = rng.integers(0, 60, (8, SIDE, SIDE, 3))
            yield ({"image": (noise + 60 * y[:, :, None, None] + 40).astype("uint8"), "label": y},)
        epoch += 1


class Killed(Exception):
    pass


@pytest.fixture
def fit_once(keras, tmp_path):
    """A function: fit a fresh model into a folder, with a script of scores; dies in the epoch `dies`, if given."""

    def once(name, train, scores=None, dies=None, seconds=None, mode="max"):
        from kit.models import registry
        from kit.train.fit import Feed, Reporting, fit

        keras.utils.clear_session()
        keras.utils.set_random_seed(7)
        model = registry.build("pcam_cnn", shape=(SIDE, SIDE, 3), outputs=1, units=8)
        lines = []

        def validate():
            epoch = len(lines)
            if dies is not None and state_epochs(tmp_path / name) == dies:
                raise Killed
            batch = next(batches(1000))[0]
            value = float(model.predict_on_batch(batch["image"])[:, 0] @ (2 * batch["label"][:, 0] - 1))
            done = state_epochs(tmp_path / name)
            return {"val_loss": epoch * 0.0, "val_score": value if scores is None else scores[done]}

        fitted = fit(
            model,
            Feed(batches, STEPS, np.array([[0.0], [1.0]])),
            validate,
            monitor="val_score",
            mode=mode,
            task="binary",
            train=train,
            augment=AUGMENT,
            seed=3,
            state=tmp_path / name,
            deadline=None if seconds is None else time.monotonic() + seconds,
            reporting=Reporting(write=lines.append),
        )
        return model, fitted, lines

    return once


def state_epochs(folder):
    import json

    path = folder / "state.json"
    return len(json.loads(path.read_text())["history"]) if path.exists() else 0


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_a_killed_run_goes_on_to_the_same_weights_and_history(fit_once, schedule):
    train = TrainSettings(epochs=5, schedule=schedule, optimizer="adamw", weight_decay=0.01, plateau_patience=1)
    whole, fitted, lines = fit_once("whole", train)
    for dies in (1, 3):
        with pytest.raises(Killed):
            fit_once("killed", train, dies=dies)
    again, resumed, last_lines = fit_once("killed", train)
    assert len(lines) == 5
    assert len(last_lines) == 2
    assert resumed.history == fitted.history
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))


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


def test_a_score_that_is_better_when_small_and_one_that_is_not_defined(fit_once):
    nan = float("nan")
    train = TrainSettings(epochs=3, schedule="constant")
    for mode, scores, epoch in (("min", [0.5, 0.2, 0.9], 2), ("max", [nan, 0.2, nan], 2), ("min", [nan, nan, 0.9], 3)):
        best, fitted, _ = fit_once(f"{mode}{scores}", train, scores, mode=mode)
        assert len(fitted.history) == 3
        until, _, _ = fit_once(
            f"until {mode}{scores}", train.model_copy(update={"epochs": epoch}), [0.1] * (epoch - 1) + [0.5]
        )
        assert all(np.array_equal(a, b) for a, b in zip(best.get_weights(), until.get_weights(), strict=True))


def test_the_model_is_left_with_the_weights_of_the_best_epoch(fit_once):
    train = TrainSettings(epochs=2, schedule="constant")
    best, _, _ = fit_once("one", train.model_copy(update={"epochs": 1}), [0.5])
    model, fitted, _ = fit_once("two", train, [0.9, 0.1])
    assert [epoch["val_score"] for epoch in fitted.history] == [0.9, 0.1]
    assert all(np.array_equal(a, b) for a, b in zip(best.get_weights(), model.get_weights(), strict=True))


def test_it_learns(fit_once):
    _, fitted, _ = fit_once("x", TrainSettings(epochs=12, schedule="constant", learning_rate=3e-3))
    assert fitted.history[-1]["loss"] < 0.5 * fitted.history[0]["loss"]


def test_the_deadline_stops_between_epochs_and_the_next_run_finishes(fit_once):
    train = TrainSettings(epochs=3, schedule="constant")
    _, early, _ = fit_once("x", train, seconds=0.3)
    assert (len(early.history), early.finished) == (1, False)
    _, late, _ = fit_once("x", train, seconds=-1)  # no time at all: no epoch is begun
    assert (len(late.history), late.finished) == (1, False)
    _, done, _ = fit_once("x", train)
    assert (len(done.history), done.finished) == (3, True)

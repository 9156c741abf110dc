"""The learning-rate range test."""

import numpy as np
import pandas as pd
import pytest

from kit.config import AugmentSettings, TrainSettings
from kit.errors import TrainingError


def curve_of(losses, low=1e-7, high=1.0):
    return pd.DataFrame({"rate": np.geomspace(low, high, len(losses)), "smoothed": losses, "loss": losses})


def test_the_suggestion_is_where_the_loss_falls_most_steeply(keras):
    from kit.train.rates import suggested_rate

    powers = np.linspace(-7, 0, 141)
    falls = 1 / (1 + np.exp(4 * (powers + 3)))  # half-way down at 1e-3
    losses = np.where(powers < -1, falls, 5.0)  # and diverges from .1 on
    assert suggested_rate(curve_of(losses)) == pytest.approx(1e-3, rel=0.3)
    spike = losses.copy()
    spike[40] = 3.0  # one step's recovery from a bad batch is no descent
    assert suggested_rate(curve_of(spike)) == pytest.approx(1e-3, rel=0.3)
    with pytest.raises(TrainingError, match="does not fall at any learning rate"):
        suggested_rate(curve_of(np.linspace(1, 2, 50)))
    with pytest.raises(TrainingError, match="does not fall at any learning rate"):
        suggested_rate(curve_of([]))


@pytest.mark.parametrize("parts", [1, 2])
def test_an_easy_problem_gets_a_rate_that_learns(keras, parts):
    from kit.models import registry
    from kit.train.objectives import of_labels
    from kit.train.rates import find_rate

    def batches():
        rng = np.random.default_rng(0)
        while True:
            y = rng.integers(0, 2, (16 // parts, 1)).astype("float32")
            bright = rng.integers(0, 60, (len(y), 24, 24, 3)) + 120 * y[:, :, None, None]
            yield ({"image": bright.astype("uint8"), "label": y},)

    keras.utils.set_random_seed(1)
    model = registry.build("pcam_cnn", shape=(24, 24, 3), outputs=1, units=8, dropout=0.0)
    train = TrainSettings(optimizer="sgd", schedule="cosine", accumulate=parts)

    def loss(y, p):
        return keras.losses.binary_crossentropy(y, p)

    curve, rate = find_rate(model, batches(), of_labels(loss), train, AugmentSettings(), 0, high=10.0, steps=60)
    assert list(curve) == ["rate", "loss", "smoothed"]
    assert curve["rate"].is_monotonic_increasing
    assert curve["rate"].iloc[0] == pytest.approx(1e-7)
    assert curve["smoothed"].iloc[0] == pytest.approx(curve["loss"].iloc[0])  # corrected for its start
    assert (curve["smoothed"].iloc[:-1] <= 4 * curve["smoothed"].cummin().iloc[:-1]).all()
    assert 1e-4 < rate < 1
    assert curve["smoothed"].min() < 0.5 * curve["smoothed"].iloc[5]


def test_the_command_draws_the_curve(toy_records, tmp_path, capsys):
    from PIL import Image

    from kit.cli import main
    from tests.conftest import TINY

    out = tmp_path / "lr.png"
    sets = [part for override in TINY for part in ("--set", override)]
    assert main(["lr-find", "toy", "--records", str(toy_records.directory), "--out", str(out), *sets]) == 0
    output = capsys.readouterr().out
    with Image.open(out) as image:
        assert (image.format, image.size[0] > 600) == ("PNG", True)
    curve = pd.read_csv(out.with_suffix(".csv"))
    assert 10 < len(curve) <= 100
    assert "--set train.learning_rate=" in output
    assert curve["rate"].min() < float(output.split("train.learning_rate=")[1].split()[0]) < curve["rate"].max()

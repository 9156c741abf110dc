"""The network of a whole decision says what kit.predict and kit.evaluate say in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.config.predict import PredictSettings
from kit.decisions import Calibration, Decision, Prior
from kit.errors import ConfigError
from kit.evaluate.decision import send
from kit.models import registry
from kit.predict.predict import raw_of

LABELS = ("a", "b", "c")
_share = st.floats(0, 1, width=32)


def curves(*each):
    """A calibration by these curves."""
    return Calibration.model_validate({"kind": each[0]["kind"], "curves": each * (3 // len(each))})


PLATT = {"kind": "platt", "slope": 0.4, "intercept": 0.7}
BETA = {"kind": "beta", "a": 0.8, "b": 1.9, "intercept": -0.3}
ISOTONIC = {"kind": "isotonic", "p": (0.1, 0.3, 0.3, 0.8), "q": (0.0, 0.2, 0.6, 1.0)}
UNCHANGED = {"kind": "unchanged"}
CALIBRATIONS = [
    Calibration(),
    Calibration(kind="temperature", temperature=2.5),
    Calibration(kind="temperature", temperature=0.4, exclusive=True),
    curves(PLATT),
    curves(BETA),
    curves(ISOTONIC),
    curves(PLATT, UNCHANGED, PLATT),
]


@pytest.mark.parametrize("calibration", CALIBRATIONS, ids=lambda c: f"{c.kind}{'-exclusive' * c.exclusive}")
@pytest.mark.parametrize("prior", [None, Prior(trained=(0.2, 0.0, 0.5), test=(0.4, 0.3, 0.1))], ids=["", "prior"])
@given(p=st.lists(st.tuples(_share, _share, _share), min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_calibration_and_prior(keras, calibration, prior, p):
    from kit.export.whole import Sent

    raw = np.array(p, np.float32)
    if calibration.exclusive:
        raw = (raw + 1e-3) / (raw + 1e-3).sum(axis=1, keepdims=True)
    found = keras.ops.convert_to_numpy(Sent(calibration, prior)(raw))
    assert np.allclose(found, send(calibration, prior, raw.astype(np.float64)), atol=2e-6)


def _models(count):
    return [registry.build("pcam_cnn", shape=(32, 32, 3), outputs=3, units=8) for _ in range(count)]


def _decision(views):
    return Decision(task="multilabel", labels=LABELS, views=views, calibration=CALIBRATIONS[1], thresholds={})


@pytest.mark.parametrize("views", ["none", "mirror", "flips", "dihedral"])
def test_mean_over_folds_and_views(keras, views):
    from kit.export.whole import whole

    models, decision = _models(2), _decision(views)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    kind, by = raw_of("multilabel"), PredictSettings(tta=views)
    raw = kind.fused([kind.of_images(model, images, by) for model in models], by)
    expected = send(decision.calibration, None, raw.astype(np.float64))
    assert np.allclose(whole(models, decision).predict(images, verbose=0), expected, atol=1e-5)
    assert np.allclose(whole(models, decision, any_size=True).predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(96, 64), (32, 32), (33, 200), (20, 27), (31, 64), (500, 411)])
def test_images_of_any_size_become_those_of_the_model(keras, shape):
    from kit.config import ImageSettings
    from kit.data.pixels.images import conform
    from kit.export.whole import Conformed

    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    found = keras.ops.convert_to_numpy(Conformed((32, 32))(image[None]))[0]
    assert found.dtype == np.uint8 and found.shape == (32, 32, 3)
    differences = np.abs(found.astype(int) - conform(image, ImageSettings(size=32)))
    assert differences.max() <= 1 and differences.mean() < 0.2


def test_views_that_are_no_turns_are_refused(keras):
    from kit.export.whole import whole

    with pytest.raises(ConfigError, match="the views crops are made outside the network"):
        whole(_models(1), _decision("crops"))

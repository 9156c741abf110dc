"""Every room has an entry for every task, or refuses it in one clear line."""

import numpy as np
import pytest

from kit.config import ImageSettings, LossSettings, load_config
from kit.errors import ConfigError
from kit.tasks import TASKS, find_task

LEARNT = sorted(name for name, task in TASKS.items() if task.activation)


def test_unknown_tasks_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown task 'binari'; did you mean 'binary'"):
        find_task("binari")


@pytest.mark.parametrize("name", LEARNT)
def test_a_task_has_a_loss(keras, name):
    from kit.train.losses import make_loss

    y, p = np.eye(2, dtype=np.float32), np.full((2, 2), 0.5, np.float32)
    losses = keras.ops.convert_to_numpy(make_loss(name, LossSettings(), y)(keras.ops.array(y), keras.ops.array(p)))
    assert losses == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_a_model_or_says_that_there_is_none(keras, name):
    from kit.stages.model import build_model

    config = load_config("toy", ["model.arguments={units: 4}"])
    if TASKS[name].activation is None:
        with pytest.raises(ConfigError, match=f"no model for {name} yet: choose another target"):
            build_model(config, ImageSettings(size=32), ["a", "b"], name)
        return
    model, spec = build_model(config, ImageSettings(size=32), ["a", "b"], name)
    assert spec["activation"] == TASKS[name].activation
    p = model.predict_on_batch(np.zeros((1, 32, 32, 3), np.uint8))
    assert (p.sum() == pytest.approx(1)) or not TASKS[name].exclusive


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_competitions_have_is_one(name):
    from kit.competitions import competition_names, find_competition
    from kit.evaluate.metrics import METRICS

    targets = [target for comp in competition_names() for target in find_competition(comp).targets.values()]
    for target in targets:
        assert target.task in ("", *TASKS)
        if target.task == name:
            assert (target.metric in METRICS) == (TASKS[name].prediction == "probabilities")

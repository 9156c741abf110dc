"""Every room has an entry for every task, or refuses it in one clear line."""

import numpy as np
import pytest

from kit.config import ImageSettings, LossSettings, load_config
from kit.errors import ConfigError
from kit.tasks import TASKS, find_task

OF_LABELS = sorted(name for name, task in TASKS.items() if task.prediction == "probabilities")
PREDICTIONS = sorted({task.prediction for task in TASKS.values()})


def test_unknown_tasks_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown task 'binari'; did you mean 'binary'"):
        find_task("binari")


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_task_has_a_loss(keras, name):
    from kit.train.losses import make_loss

    y, p = np.eye(2, dtype=np.float32), np.full((2, 2), 0.5, np.float32)
    losses = keras.ops.convert_to_numpy(make_loss(name, LossSettings(), y)(keras.ops.array(y), keras.ops.array(p)))
    assert losses == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_an_objective(keras, name):
    from kit.train.objectives import make_objective

    assert make_objective(name, LossSettings(), np.eye(2, dtype=np.float32)).losses
    if TASKS[name].prediction == "boxes":
        with pytest.raises(ConfigError, match=r"train.loss is of labels: a network of the task detection has a loss"):
            make_objective(name, LossSettings(name="focal"), np.eye(2, dtype=np.float32))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_a_model(keras, name):
    from kit.stages.model import build_model

    boxes = TASKS[name].prediction == "boxes"
    arguments = "{backbone: pcam_cnn, channels: 8, depth: 1}" if boxes else "{units: 4}"
    config = load_config("toy", [f"model.name={'fcos' if boxes else 'pcam_cnn'}", f"model.arguments={arguments}"])
    model, spec = build_model(config, ImageSettings(size=32), ["a", "b"], name)
    assert spec["activation"] == TASKS[name].activation
    predicted = model.predict_on_batch(np.zeros((1, 32, 32, 3), np.uint8))
    p = predicted["logits"] if boxes else predicted
    assert p.shape[-1] == 2 and ((p.sum() == pytest.approx(1)) or not TASKS[name].exclusive)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_rooms_have_an_entry_for_every_kind_of_prediction(keras, prediction):
    from kit import tables
    from kit.data.records import targets
    from kit.evaluate import validation
    from kit.predict import merging, predict
    from kit.stages import check, current, ensemble, score
    from kit.submit import submission
    from kit.train import objectives

    for entries in (
        tables._FAULTS,
        targets._FORMATS,
        validation._VALUES,
        merging._OVER_FOLDS,
        predict._RAW,
        check._OF_KIND,
        current._SETTINGS,
        ensemble._BLENDS,
        score._KINDS,
        submission._FORMATS,
        objectives._OBJECTIVES,
    ):
        assert prediction in entries


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_competitions_have_is_one(name):
    from kit.competitions import competition_names, find_competition
    from kit.evaluate.metrics import METRICS

    targets = [target for comp in competition_names() for target in find_competition(comp).targets.values()]
    for target in targets:
        assert target.task in ("", *TASKS)
        if target.task == name:
            assert METRICS[target.metric].needs == TASKS[name].prediction

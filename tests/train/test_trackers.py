import pytest

from kit.errors import ConfigError
from kit.train.trackers import open_trackers


def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    (log,) = open_trackers(["tensorboard"], "kit-toy", "fold 1/2", tmp_path)
    for epoch, loss in enumerate([0.5, 0.25]):
        log({"loss": loss, "val_auc": 1 - loss}, epoch)
    (folder,) = [path.parent for path in tmp_path.rglob("events.out.tfevents.*")]
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert events.Tags()["scalars"] == ["loss", "val_auc"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 0.5), (1, 0.25)]
    assert [event.value for event in events.Scalars("val_auc")] == [0.5, 0.75]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch, name):
    module = "tensorboard.compat.proto.event_pb2" if name == "tensorboard" else name
    monkeypatch.setitem(__import__("sys").modules, module, None)  # as if it were not there
    with pytest.raises(ConfigError, match=rf"runtime\.trackers: {name} is not installed: pip install {name}"):
        open_trackers([name], "kit-toy", "fold 1/2", tmp_path)
    assert open_trackers([], "kit-toy", "fold 1/2", tmp_path) == []

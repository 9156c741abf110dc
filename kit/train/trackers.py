"""Trackers of every epoch's values: TensorBoard, Weights & Biases, trackio. All are extras, none is ever required."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kit.errors import ConfigError

Tracker = Callable[[dict[str, float], int], None]


def open_trackers(names: Sequence[str], project: str, title: str, folder: Path) -> list[Tracker]:
    """For each of `names` a function of an epoch's values and its number, counted from 0.

    `folder` is where local files go; with WANDB_MODE=offline, Weights & Biases writes nowhere else. Raises ConfigError
    for a package that is not installed.
    """
    openers = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    trackers = []
    for name in names:
        try:
            trackers.append(openers[name](project, title, folder))
        except ImportError as error:
            raise ConfigError(f"runtime.trackers: {name} is not installed: pip install {name}") from error
    return trackers


def _tensorboard(project: str, title: str, folder: Path) -> Tracker:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder / "tensorboard"))

    def track(values: dict[str, float], epoch: int) -> None:
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        writer.add_event(Event(step=epoch, wall_time=time.time(), summary=Summary(value=points)))
        writer.flush()

    return track


def _wandb(project: str, title: str, folder: Path) -> Tracker:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(project=project, name=title, dir=str(folder), reinit="create_new")
    return lambda values, epoch: run.log(values, step=epoch)


def _trackio(project: str, title: str, folder: Path) -> Tracker:
    import trackio

    run = trackio.init(project=project, name=title, resume="allow")
    return lambda values, epoch: run.log({**values, "epoch": epoch})

"""Who else is told of every epoch: TensorBoard, Weights & Biases, trackio. All are extras, none is ever required."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kit.errors import ConfigError

Log = Callable[[dict[str, float], int], None]


def open_trackers(names: Sequence[str], project: str, title: str, folder: Path) -> list[Log]:
    """For each of `names` a function that takes the values of an epoch and its number, counted from 0.

    `folder` is where local files go. Weights & Biases is told by its own WANDB_MODE=offline to stay there. Raises
    ConfigError for a package that is not installed.
    """
    openers = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    made = []
    for name in names:
        try:
            made.append(openers[name](project, title, folder))
        except ImportError as error:
            raise ConfigError(f"runtime.trackers: {name} is not installed: pip install {name}") from error
    return made


def _tensorboard(project: str, title: str, folder: Path) -> Log:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder / "tensorboard"))

    def log(values: dict[str, float], epoch: int) -> None:
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        writer.add_event(Event(step=epoch, wall_time=time.time(), summary=Summary(value=points)))
        writer.flush()

    return log


def _wandb(project: str, title: str, folder: Path) -> Log:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(project=project, name=title, dir=str(folder), reinit="create_new")
    return lambda values, epoch: run.log(values, step=epoch)


def _trackio(project: str, title: str, folder: Path) -> Log:
    import trackio

    run = trackio.init(project=project, name=title, resume="allow")
    return lambda values, epoch: run.log({**values, "epoch": epoch})

"""What a task is. Whatever else differs between tasks is in one file or table per room, keyed by the task's name."""

from dataclasses import dataclass
from typing import Literal

from kit.errors import ConfigError, nearest


@dataclass(frozen=True)
class Task:
    """A kind of question about an image, and what an answer looks like.

    `activation` is that of the network's outputs, one per label. Of `exclusive` labels (classes) exactly one is true
    and their probabilities sum to 1. A `prediction` is a row of `probabilities`, or lists of `boxes` with scores.
    """

    name: str
    activation: Literal["sigmoid", "softmax"]
    exclusive: bool = False
    prediction: Literal["probabilities", "boxes"] = "probabilities"


TASKS = {
    task.name: task
    for task in (
        Task("binary", "sigmoid"),
        Task("multilabel", "sigmoid"),
        Task("multiclass", "softmax", exclusive=True),
        Task("detection", "sigmoid", prediction="boxes"),
    )
}


def find_task(name: str) -> Task:
    """The task of that name; raises ConfigError, with the nearest names, for an unknown one."""
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]

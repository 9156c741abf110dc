"""What kit knows about a competition: plain values, without state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.config import Source
    from kit.data.table.examples import Examples

# The metrics of decisions: what is sent for them is 0 or 1 for each label, not a probability.
SENT_AS_DECISIONS = ("macro_f1", "balanced_accuracy", "quadratic_kappa")


@dataclass(frozen=True)
class Target:
    """One of the things that can be learnt from the data of a competition.

    `task` names one of `kit.tasks.TASKS`; it and `labels` are empty where they depend on the data. `metric` names one
    of `kit.evaluate.metrics.METRICS`, that of the leaderboard where there is one, or one in the same file of one's own,
    FILE.py:NAME; `metric_options` are its options. `columns` is the format of the submission (column -> label); None
    where no leaderboard takes this target: a submission has a column for each label.
    `means` are further means of the metric over some of the labels, by name. `frame` is the side, in pixels, of the
    square image that boxes refer to in the competition's tables and submissions; None: the image itself.
    """

    task: str
    labels: tuple[str, ...]
    metric: str
    columns: Mapping[str, str] | None = None
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    frame: int | None = None
    metric_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Competition:
    """A competition, or another set of labelled images.

    `read` turns the raw folder into examples. The setting `target` chooses among `targets`; the first is the default,
    and where its labels depend on the data, `target` may also name one of them.
    `settings` are the further fields of `kit.config.Source` that it reads. `slug` is Kaggle's; a dataset's starts with
    its owner. `id_column` is that of the submission; `sample` is the path of the sample submission below the data root
    (None: there is none, the data itself holds the test split back). `make` writes the raw folder of a synthetic
    competition.
    """

    name: str
    title: str
    slug: str | None
    targets: Mapping[str, Target]
    read: "Callable[[Path, Source], Examples]"
    settings: tuple[str, ...] = ()
    images: str = ""  # the public set that its images are part of, by which networks may have been pre-trained on them
    id_column: str = "id"
    sample: str | None = None
    make: Callable[[Path], None] | None = None
    domain: str = ""  # what images show, where networks were pre-trained on that: chest (X-rays) or tissue
    chosen: str = ""  # the target; empty: the first

    @property
    def target(self) -> Target:
        """The chosen target."""
        return self.targets[self.chosen or next(iter(self.targets))]

    @property
    def leaderboard(self) -> bool:
        """Whether Kaggle scores this target: `slug` is a competition's, not a dataset's, and there is a format."""
        return bool(self.slug and "/" not in self.slug and self.target.columns)

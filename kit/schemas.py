"""The JSON files of a run as types: `scores.json`, `folds.json`, `ensemble.json`, explanations; `decision.json` in
kit.decisions.

An undefined number, such as the ROC AUC of a label of which only one class occurs, is None (null).
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from kit.tasks import TASKS

Number = int | float | None
Metrics = dict[str, dict[str, dict[str, Number]]]  # labels | average | classes -> name -> metric -> value


class Schema(BaseModel):
    """A frozen model that forbids unknown keys; fields that were not set are left out of its JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def as_json(self) -> dict[str, Any]:
        """The model as values that JSON can hold."""
        return self.model_dump(mode="json", exclude_unset=True)


def defined(values: Any) -> Any:
    """The same values with None for NaN, which JSON does not have."""
    if isinstance(values, dict):
        return {key: defined(value) for key, value in values.items()}
    if isinstance(values, list):
        return [defined(value) for value in values]
    return None if isinstance(values, float) and values != values else values


class Interval(Schema):
    """A percentile interval over resampled groups."""

    low: Number
    high: Number
    resamples: int
    confidence: float


class Limits(Schema):
    """The ends of an interval."""

    low: Number
    high: Number


class LabelScore(Limits):
    """The metric of one label, with its interval."""

    value: Number


class BoxReport(Schema):
    """What boxes are measured by, each with its interval: of each label, and the mean of the labels."""

    labels: dict[str, dict[str, LabelScore]]
    mean: dict[str, LabelScore]


class Subgroup(Schema):
    """The metric in one part of the rows; `small`: no label has 30 rows of its rarer class there."""

    column: str
    part: str
    rows: int
    value: Number
    small: bool


class Deviation(Schema):
    """How far probabilities are from observed frequencies: adaptive ECE, log loss in nats, Brier score."""

    error: Number
    log_loss: Number
    brier: Number


class CalibrationReport(Schema):
    """Deviations by calibrator, each fold calibrated by the others; reliability diagrams of the labels."""

    cross_fitted: dict[str, Deviation]
    reliability: dict[str, dict[str, list[float]]]


class SetScores(Schema):
    """The scores of one set of rows, whatever is predicted."""

    metric: str
    rows: int
    groups: int
    value: Number
    interval: Interval
    labels: dict[str, LabelScore]
    subgroups: list[Subgroup]


class ClassScores(SetScores):
    """The scores of probabilities; `means` are means of the metric over some of the labels, by name."""

    delong: Limits | None = None
    means: dict[str, Number] = {}
    accuracy: Number
    metrics: Metrics


class BoxSetScores(SetScores):
    """The scores of boxes: the metric of those that are kept, and whatever else boxes are measured by."""

    report: BoxReport


class TestScores(ClassScores):
    """The scores of a labelled test set; where it shares patients with training, also the value without them."""

    __test__ = False  # for pytest, which would collect it

    groups_also_in_training: int
    value_without_them: Number = None


class BoxTestScores(BoxSetScores):
    """As `TestScores`, of boxes."""

    groups_also_in_training: int
    value_without_them: Number = None


class Cluster(Schema):
    """A cluster of images that look alike: its value by a model that saw none of them, and out of fold."""

    looks: str  # by what it differs most from the others, in standard deviations
    rows: int
    groups: int
    value: Number
    out_of_fold: Number


class LeftOutClusters(Limits):
    """What a change of source may cost: the value where each cluster is predicted by a head fitted on the others.

    `difference` is that to the value out of fold, with its interval; `within` and `within_out_of_fold` are means of the
    clusters' own values, which other scales of probabilities from one cluster to the next do not change.
    """

    value: Number
    out_of_fold: Number
    difference: Number
    within: Number
    within_out_of_fold: Number
    clusters: list[Cluster]
    frozen: bool = False  # of the run of the frozen network that goes before this one


class Scores(ClassScores):
    """`scores.json`: the out-of-fold scores, and those of the test set where it has labels."""

    folds: dict[int, Number]
    fold_mean: Number
    fold_sd: Number
    fold_metrics: dict[int, dict[str, dict[str, Number]]]
    calibration: CalibrationReport
    warnings: list[str]
    note: str
    test: TestScores | None = None
    left_out_clusters: LeftOutClusters | None = None


class BoxScores(BoxSetScores):
    """`scores.json` of a task with boxes, each fold under the decision that the others lead to.

    `on_the_images_that_chose_it` is the value under the run's decision, which is optimistic.
    """

    on_the_images_that_chose_it: Number
    folds: dict[int, Number]
    fold_mean: Number
    fold_sd: Number
    warnings: list[str]
    note: str
    test: BoxTestScores | None = None


class Comparison(Limits):
    """A run against the first: the difference of their values with its interval, and how often the run is better."""

    run: str
    value: Number
    difference: Number
    better: Number


class Quantised(Limits):
    """What 8-bit integers cost, on out-of-fold `images`, each by the one fold's model that has not seen it.

    The metric of both and the difference with its interval; the change of a probability, and the share of images on
    which the decision is another.
    """

    metric: str
    images: int
    float32: Number
    int8: Number
    difference: Number
    confidence: float
    mean_change: Number
    largest_change: Number
    other_decisions: Number


class BlendScore(Schema):
    """The worth of a blend: nested, on the rows it was fitted on (optimistic), and its gain over the plain one."""

    nested: Number
    low: Number
    high: Number
    optimistic: Number
    gain: Number
    gain_low: Number
    gain_high: Number
    better: Number
    sure: bool


AnyScores = Scores | BoxScores


def schema_of_scores(content: Any) -> type[Scores] | type[BoxScores]:
    """What the content of a `scores.json` should be."""
    return BoxScores if isinstance(content, dict) and "report" in content else Scores


class Folds(Schema):
    """`folds.json`: the cells of each fold, and fingerprints of the data they divide.

    `training`, `test` and `image` are fingerprints (kit.data.records.manifest).
    """

    format_version: int
    training: str
    test: str
    image: str
    task: str
    labels: tuple[str, ...]
    cells: int
    folds: list[list[int]]
    examples: str | None = None  # SHA-256 of `examples.parquet`; absent in runs of older versions

    @model_validator(mode="after")
    def _is_split(self) -> "Folds":
        if sorted(cell for fold in self.folds for cell in fold) != list(range(self.cells)):
            raise ValueError("every cell is in one fold")
        if not self.labels or len(set(self.labels)) < len(self.labels) or self.task not in TASKS:
            raise ValueError("labels are names, each once, of a task that exists")
        return self


class TrainingState(Schema):
    """`state.json` of a fold that is being trained: how far it is, and which files of weights belong to it.

    `phases` are complete; `parts`: into how many lack of memory cuts batches, `saved_parts`: how many when last saved.
    """

    history: tuple[dict[str, int | float], ...] = ()
    best: str | None = None
    weights: tuple[str, ...] = ()
    sha256: dict[str, str] = {}  # of these files, by name
    phases: int = 0
    finished: bool = False
    parts: int = 1
    saved_parts: int = 1


class EnsembleReport(Schema):
    """`ensemble.json`: the blends that were compared, and the chosen one."""

    metric: str
    runs: list[str]
    blends: dict[str, BlendScore]
    correlation: dict[str, dict[str, Number]]
    chosen: str
    reason: str
    weights: dict[str, float] | None
    metadata: list[str]
    base: str = "mean"  # the blend over which the others' gain is
    repeats: dict[str, Number] = {}  # of repeats of a run, which are averaged: each one's own score
    gate: str | None = None  # the classification run by which boxes may be weighed


class ExplanationCheck(Schema):
    """How far maps can be trusted: a value against that of maps that say nothing (`reference`), on so many images.

    `passed` is None where the images are too few to tell; `sentence` says what was found.
    """

    name: str
    unit: str
    value: float
    reference: float | None
    passed: bool | None
    images: int
    sentence: str


class ExplanationScores(Schema):
    """`scores.json` of a folder of explanations: what maps they are, and their checks."""

    run: str
    method: str
    folds: str  # own: of the one model that has not seen the image; mean: over all
    checks: list[ExplanationCheck]


class Explanation(Schema):
    """A picture of a folder of explanations: a map over an image, for a label; the rest is as in kit.evaluate.cases.

    `largest` is the highest value of the map before it was scaled: a part of the logit, or (occlusion) of the score.
    """

    id: str
    label: str
    file: str
    kind: str
    p: Number
    truth: str | None
    decision: str | None
    largest: float


class Explanations(Schema):
    """`explanations.json`: the pictures of a folder, in their order."""

    pictures: list[Explanation]

"""The JSON files of a run as types: `scores.json`, `decision.json`, `folds.json`, `ensemble.json`.

An undefined number, such as the ROC AUC of a label of which only one class occurs, is None (null).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, model_validator

from kit.config import BoxSettings
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


class Unchanged(Schema):
    """The curve of a label that keeps its probabilities."""

    kind: Literal["unchanged"]


class Platt(Schema):
    """sigmoid(slope · logit(p) + intercept)."""

    kind: Literal["platt"]
    slope: FiniteFloat
    intercept: FiniteFloat


class Isotonic(Schema):
    """Linear between the points (p, q), constant beyond them."""

    kind: Literal["isotonic"]
    p: tuple[FiniteFloat, ...]
    q: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _as_many(self) -> "Isotonic":
        if not self.p or len(self.p) != len(self.q) or list(self.p) != sorted(self.p):
            raise ValueError("p ascends, and has as many points as q")
        return self


class Beta(Schema):
    """sigmoid(a · ln p - b · ln(1 - p) + intercept)."""

    kind: Literal["beta"]
    a: FiniteFloat
    b: FiniteFloat
    intercept: FiniteFloat


Curve = Annotated[Unchanged | Platt | Isotonic | Beta, Field(discriminator="kind")]


class Calibration(Schema):
    """A fitted calibrator: a `temperature` for all labels, or a curve for each label; `none` has neither.

    Labels that are `exclusive` are rescaled to sum to 1.
    """

    kind: Literal["none", "temperature", "platt", "isotonic", "beta"] = "none"
    exclusive: bool = False
    temperature: PositiveFloat | None = None
    curves: tuple[Curve, ...] = ()


class Prior(Schema):
    """The labels' shares in the training set and in the population of the test set."""

    trained: tuple[float, ...]
    test: tuple[float, ...]


class Threshold(Schema):
    """The threshold of a label by a rule, and its worth: on the rows that chose it, and on folds that did not."""

    rule: str
    threshold: Number
    on_the_rows_that_chose_it: dict[str, Number]
    cross_validated: dict[str, Number] | None


class ClassFactors(Schema):
    """Factors for the classes' probabilities that maximise the balanced accuracy of argmax, and their worth.

    They are `applied` where, cross-validated, they beat plain argmax by more than two standard errors.
    """

    factors: dict[str, float] | None = None
    balanced_accuracy_of_argmax: Number
    balanced_accuracy_on_the_rows_that_chose_them: Number = None
    balanced_accuracy_cross_validated: Number = None
    applied: bool = False


class Decision(Schema):
    """`decision.json`: how the mean of the folds' raw outputs becomes what is sent or shown.

    `calibration` comes first, then the change of `prior`; the thresholds cut the result. `labels` are in the order of
    the network's outputs, `views` names the test-time augmentation (kit.predict.views).
    """

    task: str
    labels: tuple[str, ...]
    views: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"]
    calibration: Calibration
    prior: Prior | None = None
    thresholds: dict[str, Threshold]
    classes: ClassFactors | None = None

    @model_validator(mode="after")
    def _of_its_labels(self) -> "Decision":
        count, curved = len(self.labels), self.calibration.kind not in ("none", "temperature")
        if not count or len(set(self.labels)) < count:
            raise ValueError("labels are names, each once")
        if (self.calibration.kind == "temperature") != (self.calibration.temperature is not None):
            raise ValueError("temperature is that of the calibration of this name")
        if len(self.calibration.curves) != count * curved:
            raise ValueError("calibration has a curve for each label")
        if self.prior and {len(self.prior.trained), len(self.prior.test)} != {count}:
            raise ValueError("prior has a share for each label")
        if not {*self.thresholds, *((self.classes and self.classes.factors) or ())} <= {*self.labels}:
            raise ValueError("thresholds and factors are those of its labels")
        return self


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


class BoxRule(Schema):
    """What becomes of the boxes of a label, and its worth: on the images that chose it, and on folds that did not.

    The score is multiplied by the image's probability to the power of `gate`; boxes with less than `cut` (`fused_cut`:
    of boxes fused over folds, None: the same) are dropped, the sides of the others multiplied by `shrink`.
    """

    cut: FiniteFloat
    fused_cut: FiniteFloat | None = None
    shrink: float = Field(1.0, gt=0, allow_inf_nan=False)
    gate: float = Field(0.0, ge=0, allow_inf_nan=False)
    on_the_images_that_chose_it: Number
    nested: Number = None
    strategies: dict[str, BlendScore] = {}


class BoxDecision(Schema):
    """`decision.json` of a task with boxes: how they are merged, and a rule for those of each label.

    `labels` are in the network's order, `views` names its test-time views; the values are means over the labels.
    """

    task: str
    labels: tuple[str, ...]
    views: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"]
    merge: BoxSettings
    rules: dict[str, BoxRule]
    on_the_images_that_chose_it: Number
    nested: Number

    @model_validator(mode="after")
    def _of_its_labels(self) -> "BoxDecision":
        if not self.labels or len(set(self.labels)) < len(self.labels) or {*self.rules} != {*self.labels}:
            raise ValueError("labels are names, each once, and there is a rule for each label")
        return self


AnyScores = Scores | BoxScores
AnyDecision = Decision | BoxDecision


def schema_of_scores(content: Any) -> type[Scores] | type[BoxScores]:
    """What the content of a `scores.json` should be."""
    return BoxScores if isinstance(content, dict) and "report" in content else Scores


def schema_of_decision(content: Any) -> type[Decision] | type[BoxDecision]:
    """What the content of a `decision.json` should be."""
    return BoxDecision if isinstance(content, dict) and "rules" in content else Decision


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
    gate: str | None = None  # the classification run by which boxes may be weighed

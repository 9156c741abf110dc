"""`decision.json` of a run as types: what turns raw predictions into what is sent or shown."""

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, model_validator

from kit.config import BoxSettings
from kit.schemas import BlendScore, Number, Schema


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


class CaseRule(Schema):
    """How predictions of the images of a case become one: the images of a `part` (such as a side) are averaged first.

    Where the rule was tuned, `metric` told which is best: the value of each rule on the very cases, and the `nested`
    one, of folds whose rule the others chose.
    """

    rule: Literal["mean", "max", "noisy_or", "logit"]
    part: str | None = None
    metric: str | None = None
    on_the_cases_that_chose_it: dict[str, Number] = {}
    nested: Number = None


class Decision(Schema):
    """`decision.json`: how the mean of the folds' raw outputs becomes what is sent or shown.

    Where images are parts of `cases`, these come first. Then come `calibration` and the change of `prior`; the
    thresholds cut the result. `labels` are in the order of the network's outputs, `views` names the test-time
    augmentation (kit.predict.views), `sends` what a submission has.
    """

    task: str
    labels: tuple[str, ...]
    views: Literal["none", "mirror", "flips", "dihedral", "crops", "scales"]
    calibration: Calibration
    prior: Prior | None = None
    thresholds: dict[str, Threshold]
    classes: ClassFactors | None = None
    cases: CaseRule | None = None
    sends: Literal["probabilities", "decisions"] = "probabilities"

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


AnyDecision = Decision | BoxDecision


def schema_of_decision(content: Any) -> type[Decision] | type[BoxDecision]:
    """What the content of a `decision.json` should be."""
    return BoxDecision if isinstance(content, dict) and "rules" in content else Decision

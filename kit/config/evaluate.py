"""`evaluate`: how predictions are scored, calibrated and turned into decisions."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, field_validator

from kit.config.base import Settings
from kit.errors import ConfigError, nearest


class _Grammar(NamedTuple):
    """The numbers a threshold rule takes: how many, from where to where, and how to write them."""

    fewest: int
    most: int
    low: float
    high: float
    usage: str


_RULES = {
    "f1": _Grammar(0, 0, 0, 0, "f1"),
    "youden": _Grammar(0, 0, 0, 0, "youden"),
    "balanced_accuracy": _Grammar(0, 0, 0, 0, "balanced_accuracy"),
    "mcc": _Grammar(0, 0, 0, 0, "mcc"),
    "kappa": _Grammar(0, 0, 0, 0, "kappa"),
    "fbeta": _Grammar(1, 1, 1e-6, 1e6, "fbeta:BETA, such as fbeta:2"),
    "sensitivity_at_specificity": _Grammar(
        1, 1, 0, 1, "sensitivity_at_specificity:S, such as sensitivity_at_specificity:0.95"
    ),
    "specificity_at_sensitivity": _Grammar(
        1, 1, 0, 1, "specificity_at_sensitivity:S, such as specificity_at_sensitivity:0.95"
    ),
    "cost": _Grammar(2, 2, 0, 1e9, "cost:FP,FN, the costs of a false positive and a false negative, such as cost:1,5"),
    "prevalence": _Grammar(0, 1, 0, 1, "prevalence, or prevalence:SHARE, such as prevalence:0.1"),
}


def parse_rule(rule: str) -> tuple[str, tuple[float, ...]]:
    """The name and the numbers of a threshold rule: `cost:1,5` is ("cost", (1.0, 5.0)).

    Raises ConfigError for an unknown name (with the nearest ones), and for numbers that the rule does not take.
    """
    name, _, text = rule.partition(":")
    if name not in _RULES:
        raise ConfigError(f"there is no threshold rule {name!r}{nearest(name, _RULES)}")
    grammar = _RULES[name]
    try:
        numbers = tuple(float(number) for number in text.split(",")) if text else ()
    except ValueError:
        numbers = (float("nan"),)  # outside every range
    in_range = all(grammar.low <= number <= grammar.high for number in numbers)
    if not (grammar.fewest <= len(numbers) <= grammar.most and in_range):
        raise ConfigError(f"threshold rule {rule!r}: write {grammar.usage}")
    return name, numbers


class EvaluateSettings(Settings):
    """`evaluate`: confidence intervals, thresholds and calibration."""

    resamples: int = Field(2000, ge=100)  # of the bootstrap, over groups
    confidence: float = Field(0.95, gt=0, lt=1)  # level of the intervals
    # What the threshold of each label maximises out of fold: f1, fbeta:BETA, youden, balanced_accuracy, mcc, kappa,
    # sensitivity_at_specificity:S, specificity_at_sensitivity:S, cost:FP,FN, prevalence or prevalence:SHARE. metric:
    # what serves the competition's metric, f1 where that takes probabilities.
    threshold: str = "metric"
    # What is sent, and scored: probabilities, or decisions (0 or 1, by the thresholds). auto: what the metric takes.
    send: Literal["auto", "probabilities", "decisions"] = "auto"
    # Calibration of the submitted probabilities, fitted out of fold. With a single label only isotonic can change the
    # ROC AUC: it makes ties.
    calibration: Literal["none", "temperature", "platt", "isotonic", "beta"] = "none"
    # The share of positives of each label in the test set, where it is known to differ from training: submitted
    # probabilities are corrected for it.
    test_prevalence: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    # What an image without any box, true or predicted, counts in rsna_mean_average_precision. The competition's page
    # does not say; the leaderboard's scores are possible only if such images are left out.
    empty_images: Literal["left_out", "one", "zero"] = "left_out"
    # How predictions of the images of a case (columns.case) become one: their mean, the largest, noisy_or (1 - the
    # product of 1 - p), the mean of their logits; tuned: the best of these out of fold, reported nested.
    case_rule: Literal["tuned", "mean", "max", "noisy_or", "logit"] = "tuned"
    # A column of the example table, such as the side: images of a case that agree in it are averaged before the rule.
    case_part: str | None = None
    # Columns of the example table by whose values scores are broken down; ages are banded, absent columns skipped.
    subgroups: tuple[str, ...] = ("sex", "age", "view_position")

    @field_validator("threshold")
    @classmethod
    def _is_rule(cls, rule: str) -> str:
        try:
            if rule != "metric":
                parse_rule(rule)
        except ConfigError as error:  # pydantic expects a ValueError, and says which setting it was
            raise ValueError(str(error)) from error
        return rule

"""A run whose images are parts of cases: its tables of cases, as its decision has them. Needs no Keras."""

from typing import NamedTuple

import pandas as pd

from kit.config import Config
from kit.decisions import AnyDecision, CaseRule, Decision
from kit.evaluate.metrics import Metric
from kit.evaluate.per_case import by_case, choose_rule, examples_of_cases, has_cases
from kit.run import Run
from kit.tasks import find_task

_WORDS = {
    "mean": "the mean of {}",
    "max": "the largest of {}",
    "noisy_or": "the noisy-or of {}",
    "logit": "the mean logit of {}",
}


class Scored(NamedTuple):
    """What is scored: predictions of images or, where these are parts of cases, of cases, with their example table.

    `nested` are out of fold, each fold by the rule that the others choose, `oof` by the run's `rule`; without cases
    they are the same. `test` is the mean over the folds.
    """

    nested: pd.DataFrame
    oof: pd.DataFrame
    test: pd.DataFrame
    examples: pd.DataFrame
    rule: CaseRule | None = None

    def by_plain_rule(self, predictions: pd.DataFrame, images: pd.DataFrame, exclusive: bool) -> pd.DataFrame:
        """Further predictions of images, as those of cases by a rule that no row chose: that named, or the mean."""
        if self.rule is None:
            return predictions
        plain = CaseRule(rule="mean" if self.rule.metric else self.rule.rule, part=self.rule.part)
        return by_case(predictions, images, plain, exclusive)

    def words(self) -> str:
        """How cases are made of images, for people."""
        if self.rule is None:
            return ""
        what = f"the means of each {self.rule.part}" if self.rule.part else "its images"
        tuned = "; a fold's cases by the rule that the other folds chose" if self.rule.metric else ""
        return f"Scored are {len(self.oof)} cases, each by {_WORDS[self.rule.rule].format(what)}{tuned}."


def what_is_scored(run: Run, config: Config, metric: Metric, test: pd.DataFrame) -> Scored:
    """The tables of a run, with the rule that the settings name or that is tuned; `test`: means of its test images."""
    oof, examples = run.oof(), run.examples()
    if not has_cases(examples):
        return Scored(oof, oof, test, examples)
    exclusive, settings = metric.columns.exclusive, config.evaluate
    rule, nested = choose_rule(oof, examples, metric, settings.case_rule, settings.case_part)
    of_cases, of_test = (by_case(table, examples, rule, exclusive) for table in (oof, test))
    return Scored(nested, of_cases, of_test, examples_of_cases(examples, exclusive), rule)


def scored_oof(run: Run, config: Config, metric: Metric) -> pd.DataFrame:
    """The out-of-fold predictions that are scored: of cases nested, each fold by the rule that the others choose."""
    return what_is_scored(run, config, metric, run.test().head(0)).nested


def as_decided(run: Run, decision: AnyDecision, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of images as those of what the run scores: of cases, by the rule of its decision."""
    if not isinstance(decision, Decision) or decision.cases is None:
        return predictions
    return by_case(predictions, run.examples(), decision.cases, find_task(run.folds.task).exclusive)


def scored_examples(run: Run) -> pd.DataFrame:
    """The example table of what the run scores: images, or cases."""
    examples = run.examples()
    return examples_of_cases(examples, find_task(run.folds.task).exclusive) if has_cases(examples) else examples

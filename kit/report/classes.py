"""The sections on probabilities: how well they rank, what the decision makes of them, whether they can be believed."""

from kit.decisions import Decision
from kit.report.calibration import calibration
from kit.report.cuts import decisions
from kit.report.judged import Judged
from kit.report.page import Section
from kit.report.ranking import curves, tables_of
from kit.schemas import Scores


def sections(oof: Judged, test: Judged | None, scores: Scores, decision: Decision) -> list[Section]:
    """All that is said of probabilities; `test` are those of labelled test images."""
    return [
        Section("How well it ranks", "ranking", [*curves(oof, test), *tables_of(scores)]),
        Section("What it decides", "decision", decisions(oof, decision)),
        Section("Can the probabilities be believed?", "calibration", calibration(oof, scores.calibration, decision)),
    ]

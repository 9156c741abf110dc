"""What a run shows of itself in a notebook."""

import pytest

from kit.run import Run

pytestmark = pytest.mark.once


def test_a_run_without_scores(tmp_path):
    run = Run(tmp_path / "<b>")
    assert repr(run) == f"<Run {tmp_path}/<b>: scores none yet>"
    assert "&lt;b&gt;" in run._repr_html_() and "<b>" not in run._repr_html_()
    assert not run.is_complete


def test_a_damaged_run_shows_why(tmp_path):
    run = Run(tmp_path)
    run.scores_path.write_text("[")
    assert "cannot be read" in repr(run) and "scores.json" in repr(run)

"""The page of explanations."""

import numpy as np

from kit.report import explanations
from kit.report.explanations import Boxes, Shown
from kit.report.page import as_html
from kit.schemas import ExplanationCheck, ExplanationScores

NONE = np.empty((0, 5))


def check(passed):
    return ExplanationCheck(
        name="deletion", unit="area", value=0.5, reference=0.4, passed=passed, images=9, sentence="It did not fall."
    )


def case(boxes=NONE, **more):
    image, heat = np.full((8, 8, 1), 99, np.uint8), np.eye(4, dtype=np.float32)
    values = {"kind": "worst", "caption": "<script>\nid", "wrong": True, "maps": {"first": heat}} | more
    return Shown(image, boxes=Boxes(boxes, boxes), **values)


def html(*cases, checks=()):
    scores = ExplanationScores(run="r", method="gradcam", folds="own", checks=list(checks))
    return as_html(explanations.page("Title", scores, cases))


def test_a_check_that_fails_is_a_warning():
    assert 'class="warning">A check failed (deletion). It did not fall.' in html(case(), checks=[check(False)])
    assert 'class="warning"' not in html(case(), checks=[check(True), check(None)])
    assert "No check was made." in html(case())


def test_what_comes_from_data_stays_text_and_kinds_are_sections():
    page = html(case(), case(kind="false positive", wrong=None))
    assert "<script>" not in page
    assert "The worst predictions" in page
    assert 'id="false-positive"' in page
    assert "orange" not in page
    assert "orange" in html(case(np.array([[0.1, 0.1, 0.5, 0.5, 0.9]])))


def test_an_overlay_shows_the_map_and_boxes():
    image, heat = np.full((8, 8, 1), 99, np.uint8), np.zeros((4, 4), np.float32)
    plain = explanations.overlay(image, heat, Boxes(NONE, NONE))
    assert plain.shape == (256, 256, 3)
    assert (plain == 99).all()
    heat[0, 0] = 1
    assert explanations.overlay(image, heat, Boxes(NONE, NONE))[16, 16, 0] > 150  # bright yellow
    box = np.array([[0.25, 0.25, 0.5, 0.5, 1.0]])
    assert tuple(explanations.overlay(image, heat * 0, Boxes(box, NONE))[64, 128]) == (0, 158, 115)

"""A model card says what was measured, and what a label holds stays text."""

import pandas as pd

from kit.config import load_config
from kit.evaluate.decision import decide
from kit.evaluate.metrics import find_metric
from kit.evaluate.score import OPTIMISM, Yardstick, score
from kit.report.card import Facts, card
from kit.report.markdown import text as escaped
from kit.report.page import number

NASTY = "<script>|*x*"


def test_a_card():
    ids = [f"i{n}" for n in range(40)]
    truth = [float(n % 2) for n in range(40)]
    examples = pd.DataFrame(
        {"id": ids, "split": "train", "group": [f"g{n // 2}" for n in range(40)], f"y_{NASTY}": truth}
    )
    p = [0.8 * y + 0.005 * n for n, y in enumerate(truth)]
    oof = pd.DataFrame({"id": ids, "fold": [n // 20 for n in range(40)], f"p_{NASTY}": p})
    config = load_config("toy", ["evaluate.resamples=100"])
    metric = find_metric("roc_auc")
    scores = score(
        oof, oof.iloc[:0].drop(columns="fold"), examples, Yardstick(metric, False, config.evaluate, {}, OPTIMISM)
    )
    decision = decide(oof, examples, "binary", False, config.evaluate)
    facts = Facts("toy: first", config, scores, decision, examples, [("net", "somewhere", "MIT")], {})
    text = card(facts)
    assert "| out of fold | roc_auc | 1.000 | 1.000 to 1.000 | 40 |" in text.replace("\\", "")
    assert "| train | 40 | 20 |" in text and "| net | somewhere | MIT |" in text
    assert "<script" not in text.replace(r"\<", "") and r"\<script\>\|\*x\*" in text
    assert "must not be used" in text
    assert "Groups (patients, slides) are never in two folds" in text and "group of its own" not in text
    assert f"| {escaped(NASTY)} | 20 | 50.0 % |" in text
    error = scores.calibration.cross_fitted["none"].error
    assert f"off from observed frequencies by {number(error)}" in text
    cut = decision.thresholds[NASTY].threshold
    assert f"| {escaped(NASTY)} | {cut:.3g} |" in text
    alone = card(facts._replace(examples=examples.assign(group=ids), networks=[]))
    assert "Every image counts as a group of its own" in alone and "trained from scratch" in alone
    assert "never in two folds" not in alone

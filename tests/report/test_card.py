"""A model card says what was measured, and what a label holds stays text."""

import pandas as pd

from kit.config import load_config
from kit.evaluate.decision import decide
from kit.evaluate.metrics import find_metric
from kit.evaluate.score import OPTIMISM, Yardstick, score
from kit.report.card import Facts, card

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

"""What is shown within an epoch."""

import io
import sys

import pytest

pytestmark = pytest.mark.once


@pytest.fixture
def clock(monkeypatch, keras):
    from kit.train import bar

    now = [100.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    return now


def epoch(bar, clock, steps, seconds, executed=1):
    """An epoch of steps that take so long, of which `executed` at a time are seen."""
    bar.on_epoch_begin(2)
    for step in range(executed - 1, steps, executed):
        clock[0] += seconds * executed
        bar.on_train_batch_end(step, {"loss": 0.5})
    bar.on_epoch_end(2)


def test_a_log_gets_a_line_every_half_minute(clock, capsys, monkeypatch):
    from kit.train.bar import Bar

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    epoch(Bar("fold 1/5", 100, before=3, total=20), clock, 100, 1.0, executed=5)
    assert capsys.readouterr().out.splitlines() == [
        "fold 1/5  epoch 6/20  step 30/100  1 steps/s  loss 0.5  1.2 min left in the epoch",
        "fold 1/5  epoch 6/20  step 60/100  1 steps/s  loss 0.5  0.7 min left in the epoch",
        "fold 1/5  epoch 6/20  step 90/100  1 steps/s  loss 0.5  0.2 min left in the epoch",
    ]


def test_a_short_epoch_says_nothing_in_a_log(clock, capsys, monkeypatch):
    from kit.train.bar import Bar

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    epoch(Bar("fold 1/5", 20, before=0, total=2), clock, 20, 1.0)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar_that_goes_away(keras, monkeypatch):
    from kit.train.bar import Bar

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar("fold 1/5", 4, before=0, total=2)
    bar.on_epoch_begin(0)
    for step in range(4):
        bar.on_train_batch_end(step, {"loss": 0.25})
        bar.bar.refresh()
    assert "fold 1/5  epoch 1/2: 100%" in terminal.getvalue() and "loss 0.25" in terminal.getvalue()
    bar.on_epoch_end(0)
    assert bar.bar is None and terminal.getvalue().rstrip(" \r").count("\n") == 0

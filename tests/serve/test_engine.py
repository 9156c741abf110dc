"""Which requests the engine answers together."""

import queue
import threading
import time

from kit.serve.engine import gathered


def filled(*jobs):
    waiting = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    return waiting


def test_what_waits_is_taken_up_to_a_batch():
    waiting = filled(*range(1, 6))
    assert gathered(waiting, 0, 4, 1, 0.0) == ([0, 1, 2, 3], False)
    assert gathered(waiting, 0, 4, 1, 0.0) == ([0, 4, 5], False)


def test_those_who_are_expected_are_waited_for():
    waiting = filled("b")
    threading.Timer(0.05, waiting.put, ["c"]).start()
    assert gathered(waiting, "a", 8, 3, 60.0) == (["a", "b", "c"], False)


def test_nobody_else_is_waited_for():
    began = time.monotonic()
    assert gathered(filled(), "a", 8, 1, 60.0) == (["a"], False)
    assert gathered(filled("b"), "a", 2, 9, 60.0) == (["a", "b"], False)
    assert time.monotonic() - began < 30
    assert gathered(filled(), "a", 8, 2, 0.01) == (["a"], False)


def test_the_end_ends_a_batch():
    assert gathered(filled("b", None), "a", 8, 8, 60.0) == (["a", "b"], True)

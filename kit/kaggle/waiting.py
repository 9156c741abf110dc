"""Waiting for Kaggle."""

from collections.abc import Callable, Iterator

OUTAGE = {None, 500, 502, 503, 504}  # HTTP statuses of trouble that passes; None: there was no answer


def pauses(sleep: Callable[[float], None], seconds: float) -> Iterator[int]:
    """Numbers from 0 on, with a growing pause before each but the first, until `seconds` have been waited."""
    waited, pause, n = 0.0, 5.0, 0
    yield n
    while waited < seconds:
        sleep(pause)
        waited, pause, n = waited + pause, min(60.0, pause * 1.5), n + 1
        yield n

"""What reading images tells beside their pixels: oddities that reject none of them, counted over a whole job.

Readers call `remark`; whoever reads many images does so within `counted`, and says once what was counted.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_COUNTERS: dict[int, Counter[str]] = {}  # those of the blocks that the process is in


def remark(what: str) -> None:
    """Count an image: `what` goes on from a number, such as "DICOMs whose RescaleSlope is 0: read as without"."""
    with _LOCK:
        for counter in _COUNTERS.values():
            counter[what] += 1


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each remark was made in the block, by any thread of this process."""
    counter: Counter[str] = Counter()
    with _LOCK:
        _COUNTERS[id(counter)] = counter
    try:
        yield counter
    finally:
        with _LOCK:
            del _COUNTERS[id(counter)]

"""Waiting for Kaggle, through the trouble that a server has now and then."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from kit.kaggle.http import KaggleError, passes

if TYPE_CHECKING:
    from kit.kaggle.client import Kaggle

log = logging.getLogger(__name__)
T = TypeVar("T")
LAG = 10 * 60.0  # seconds for which a list may not show yet what has been done
_HIDDEN = (403, 404)  # HTTP statuses of what cannot be seen: not yet, for a moment, or never again
_QUIET = 120.0  # seconds of those before they are mentioned: after a push they are usual


def pauses(sleep: Callable[[float], None], seconds: float) -> Iterator[int]:
    """Numbers from 0 on, with a growing pause before each but the first, until `seconds` have been waited."""
    waited, pause, n = 0.0, 5.0, 0
    yield n
    while waited < seconds:
        sleep(pause)
        waited, pause, n = waited + pause, min(60.0, pause * 1.5), n + 1
        yield n


def looks(
    kaggle: "Kaggle", sleep: Callable[[float], None], seconds: float, look: Callable[[], T], patience: float = LAG
) -> Iterator[T]:
    """What `look` returns, again and again with growing pauses, for so many seconds; trouble is waited out.

    A login that runs out is renewed once. Raises KaggleError for a login that is refused, for what cannot be seen (403,
    404) over `patience` seconds without a break, and where the last look failed: what was not seen may be there.
    """
    waited, trouble, renewable = 0.0, "", False
    failure: KaggleError | None = None  # of the last look
    since: tuple[float, float] | None = None  # when what cannot be seen began: by the pauses, and by the clock

    def counting(pause: float) -> None:
        nonlocal waited
        waited += pause
        sleep(pause)

    for _ in pauses(counting, seconds):
        try:
            value = look()
        except KaggleError as error:
            since = (since or (waited, time.monotonic())) if error.status in _HIDDEN else None
            hidden = max(waited - since[0], time.monotonic() - since[1]) if since else 0.0
            if error.status == 401 and renewable:  # it worked before: a login by `kaggle auth login` lasts 12 hours
                kaggle.renew()
                renewable = False
            elif error.status in _HIDDEN:
                if hidden >= patience:
                    raise
            elif not passes(error.status):
                raise
            if str(error) != trouble and (error.status not in _HIDDEN or hidden > _QUIET):
                log.info(f"{error}; still waiting")
                trouble = str(error)
            failure = error
            continue
        trouble, since, renewable, failure = "", None, True, None
        yield value
    if failure:
        raise failure

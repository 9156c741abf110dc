"""Many calls on all cores, each in a process of its own, and a bar that also a log file can show."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from kit.errors import DataError

_WORTH_A_PROCESS = 300  # images; for fewer, starting another one takes longer than the work


def count_workers(images: int, wanted: int | None = None) -> int:
    """How many processes to use: what was asked for, else one per core that we may use and that the work is worth."""
    return wanted or min(joblib.cpu_count(), 1 + images // _WORTH_A_PROCESS)


def in_processes(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """The results of `function(*call)` as they are done; one worker is this process itself.

    `calls` is only taken from as workers get free. What a call raises is raised here; DataError when a worker dies.
    joblib's workers do not import the caller's main module again: scripts need no `if __name__ == "__main__"`.
    """
    options: dict[str, Any] = {"backend": "sequential"}
    if workers > 1:
        options = {"backend": "loky", "initializer": _end_with, "initargs": (os.getpid(),)}
    pool = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1, **options)
    try:
        yield from pool(joblib.delayed(function)(*call) for call in calls)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, most likely killed for want of memory: run again, what is finished is kept; "
            "if it dies again, use fewer --workers"
        ) from error
    finally:
        # They hold memory, and are not left to end by themselves: a call that comes just then waits for ever.
        if workers > 1:
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def _end_with(parent: int) -> None:
    """Make this worker end with its parent: one that is killed with a lock in hand would leave it waiting for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def progress_bar(what: str, unit: str, total: int | None, done: int = 0, **more: Any) -> Any:
    """A tqdm bar with rate and time left; in a log, instead of a terminal, a line every half minute."""
    log: dict[str, Any] = {} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 30, "delay": 30}
    return tqdm(desc=what, unit=unit, total=total, initial=done, **{**log, **more})

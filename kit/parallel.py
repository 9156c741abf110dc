"""Calls spread over processes, and a progress bar that also works in a log file."""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

from kit.errors import ConfigError, WorkerDied

T = TypeVar("T")
MOST_WORKERS = 16 * (os.cpu_count() or 1)
_PER_WORKER = 300  # images; with fewer, starting a process takes longer than the work


def count_workers(images: int, requested: int | None = None) -> int:
    """How many processes to use: those requested, else one for each usable core, but no more than the work is worth."""
    import joblib  # here and below: light commands do without

    if requested is not None and not 1 <= requested <= MOST_WORKERS:
        raise ConfigError(f"{requested} worker processes: this machine can run 1 to {MOST_WORKERS}")
    return requested or min(joblib.cpu_count(), 1 + images // _PER_WORKER)


def in_processes(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[Any]:
    """The results of `function(*call)` in the order in which they are ready; one worker is this process itself.

    `calls` is consumed as workers become free. An error of a call is raised here; so is WorkerDied, when a worker dies.
    The workers do not import the caller's main module: scripts need no `if __name__ == "__main__"`.
    """
    import joblib
    from joblib.externals.loky import get_reusable_executor

    options: dict[str, Any] = {"backend": "sequential"}
    if workers > 1:
        options = {"backend": "loky", "initializer": _end_with, "initargs": (os.getpid(),)}
    pool = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1, **options)
    try:
        with _workers_without_interrupts():
            results = pool(joblib.delayed(function)(*call) for call in calls)
        yield from results
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a worker process died, most likely for lack of memory: run again (finished work is kept), "
            "and if one dies again, with fewer --workers"
        ) from error
    finally:
        # They hold memory. Left to end by themselves, they would make a call that comes at that moment wait forever.
        if workers > 1:
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


@contextmanager
def _workers_without_interrupts() -> Iterator[None]:
    """In the block, loky starts processes that Ctrl-C, sent to all by a terminal, does not reach: this one ends them.

    They inherit that the signal is blocked at that moment, which loky has no option for. It stays so until loky has
    noted the process.
    """
    from joblib.externals.loky.backend import fork_exec

    real, has_masks = fork_exec.fork_exec, hasattr(signal, "pthread_sigmask")

    def blocked(*arguments: Any, **options: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return real(*arguments, **options)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()) if has_masks else None
    fork_exec.fork_exec = blocked if has_masks else real
    try:
        yield
    finally:
        fork_exec.fork_exec = real
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """End this worker with its parent: if that is killed while it holds a lock, the worker would wait forever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ahead(elements: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The elements, which a thread takes while up to `depth` of them wait. What it raises is raised here."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stopped, end = threading.Event(), object()

    def take() -> None:
        try:
            for element in elements:
                ready.put((element, None))
                if stopped.is_set():
                    return
            ready.put((end, None))
        except BaseException as error:
            ready.put((end, error))

    thread = threading.Thread(target=take, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            element, error = ready.get()
            if error is not None:
                raise error
            if element is end:
                return
            yield element
    finally:
        stopped.set()
        # The garbage collector may close this generator in that thread.
        while thread.is_alive() and thread is not threading.current_thread():
            with suppress(queue.Empty):  # it may wait for room
                ready.get(timeout=0.01)


def progress_bar(what: str, unit: str, total: int | None, done: int = 0, **more: Any) -> Any:
    """A tqdm bar with rate and time left; outside of a terminal, a line every half minute."""
    log: dict[str, Any] = {} if sys.stderr.isatty() else {"mininterval": 30, "maxinterval": 30, "delay": 30}
    return tqdm(desc=what, unit=unit, total=total, initial=done, **{**log, **more})

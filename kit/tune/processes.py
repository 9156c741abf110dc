"""Helper processes of a search, which run trials of the same study. They end with the process that started them."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def helpers(arguments: Sequence[str], count: int, deadline: float | None) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that run `kit search ARGUMENTS` as helpers 1, 2, ...; those still running after the block end.

    `deadline` (seconds of `time.monotonic()`) is passed on as the hours that are left.
    """
    hours = [] if deadline is None else ["--hours", str(max(0.0, deadline - time.monotonic()) / 3600)]
    command = [sys.executable, "-m", "kit", "search", *arguments, *hours, "--helper"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for n in range(1, count + 1):  # nothing is written to their standard input: see `end_with_parent`
            processes.append(subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE))
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()


def wait_for(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all helpers have ended by themselves."""
    for process in processes:
        if code := process.wait():
            log.info(f"a helper process ended with exit code {code}; its trial is run again here")


def end_with_parent() -> None:
    """End this process, a helper, as soon as the process that started it is gone, however it ended."""

    def watch() -> None:
        os.read(0, 1)  # returns once the other end of standard input is closed, also by a kill
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()

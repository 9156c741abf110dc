"""The session that this process runs in: on Kaggle, on Colab or local; its mounts, time limit and memory."""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kit.errors import ConfigError

# The variable moves Kaggle's folders elsewhere: to run on one's own machine what a kernel will run.
KAGGLE_INPUT = Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"), "input")

LOGIN = (
    "make a token at https://www.kaggle.com/settings (Generate New Token) and put it into ~/.kaggle/access_token, "
    "or set KAGGLE_API_TOKEN; an older key works too, as ~/.kaggle/kaggle.json"
)


def session_kind() -> Literal["kaggle", "colab", "local"]:
    """Where this process runs."""
    # Kaggle first: its images, built from Colab's, set Colab's variables too.
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "local"


def scratch() -> Path | None:
    """Where large temporary files go, where files beside a run would be kept or uploaded; None in a local session."""
    return None if session_kind() == "local" else Path(tempfile.gettempdir())


def find_mount(slug: str, root: Path = KAGGLE_INPUT) -> Path | None:
    """The folder where Kaggle mounts a competition's files, or a dataset's ("owner/name"); None when there is none.

    The layout of 2026 comes first, then the older one, in which the folder is the name alone.
    """
    kind = "datasets" if "/" in slug else "competitions"
    candidates = (root / kind / slug, root / slug.split("/")[-1])
    return next((folder for folder in candidates if folder.is_dir()), None)


def session_hours_left(proc: Path = Path("/proc")) -> float | None:
    """How many hours are left before Kaggle or Colab ends the session, less a quarter of an hour for writing results.

    Kaggle allows 12 hours, 9 on a TPU; Colab at most 12. None for a local session or one of unknown age.
    """
    limits = {"kaggle": 9 if any(name.startswith("TPU_") for name in os.environ) else 12, "colab": 12}
    try:
        uptime = float((proc / "uptime").read_text().split()[0])
        started = int((proc / "1" / "stat").read_text().rsplit(")", 1)[1].split()[19])  # the container's first process
    except (OSError, ValueError, IndexError):
        return None
    limit, age = limits.get(session_kind()), uptime - started / os.sysconf("SC_CLK_TCK")
    return None if limit is None else limit - age / 3600 - 0.25


class Deadline(float):
    """When to stop, in seconds of `time.monotonic()`; it remembers how long the epochs of each phase take."""

    def __init__(self, at: float) -> None:
        self.longest: dict[int, float] = {}  # seconds, by phase

    def took(self, phase: int, seconds: float) -> None:
        """Remember how long an epoch of that phase took."""
        self.longest[phase] = max(seconds, self.longest.get(phase, 0.0))

    def allows_another(self, phase: int) -> bool:
        """Whether another epoch of that phase, as long as the longest so far, would end in time.

        One of a new phase is assumed to take three times the longest of the others: a backward pass costs about twice a
        forward pass, and it may train layers that were frozen.
        """
        seconds = self.longest.get(phase, 3 * max(self.longest.values(), default=0.0))
        return time.monotonic() + seconds <= self


def deadline(max_hours: float | None) -> Deadline | None:
    """When to stop: in `max_hours`, by default in time for the end of the session; None where it has no end.

    Raises ConfigError for hours that are none.
    """
    if max_hours is not None and not 0 <= max_hours < float("inf"):
        raise ConfigError(f"max_hours = {max_hours}: hours are a number, 0 or above")
    hours = session_hours_left() if max_hours is None else max_hours
    return None if hours is None else Deadline(time.monotonic() + 3600 * hours)


def mounted(name: str, root: Path = KAGGLE_INPUT) -> Iterator[Path]:
    """Paths that end in `name`, up to six folders deep in Kaggle's mounts, the shallowest first."""
    if root.is_dir():  # an unbounded search would list every image of a competition
        yield from (path for depth in range(1, 7) for path in sorted(root.glob("*/" * depth + name)))


def adopt_output(run: Path, root: Path = KAGGLE_INPUT) -> Path | None:
    """Copy the same run directory, recognised by its last three folders, from the mounted output of another session.

    Returns where it was; None when there is none or `run` exists already.
    """
    tail = "/".join(run.absolute().parts[-3:])
    source = None if run.exists() else next((path.parent for path in mounted(f"{tail}/config.yaml", root)), None)
    if source:
        part = run.with_name(f".part-{run.name}")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        part.rename(run)
    return source


def memory_gib() -> float:
    """This machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may still take: what Linux calls available, within the container's limit.

    Memory that only caches files counts as free. Half of the machine's memory where the system reports nothing.
    """
    try:
        free = int(re.search(r"MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text())[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        return int(memory_gib() * 2**29)
    try:  # cgroup version 2; version 1 has no such files
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = re.search(r"^file (\d+)", (cgroup / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used) + int(cached[1] if cached else 0))


def hints() -> list[str]:
    """What to do before `kit submit` can work here, one line per step."""
    if session_kind() == "kaggle":
        return []
    steps = [] if find_spec("kaggle") else ["to submit from here: pip install kaggle six"]
    if kaggle_login() is None:
        steps.append(f"to submit from here, log in to Kaggle: {LOGIN}")
    return steps


def kaggle_login() -> str | None:
    """Where a Kaggle token or key is, without reading or checking it; None when there is none."""
    return next(iter(logins()), None)


def logins() -> list[str]:
    """Where Kaggle tokens and keys are, without reading or checking them; its client uses the first, and only that."""
    home = Path.home() / ".kaggle"
    other = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"), "kaggle")
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR", home if home.is_dir() else other))
    tokens = (home / "access_token", home / "access_token.txt")
    keys = (config / "kaggle.json", home / "credentials.json")
    return [
        *(f"${name}" for name in ("KAGGLE_API_TOKEN",) if os.environ.get(name)),
        *(str(path) for path in tokens if path.is_file()),
        *(f"${name}" for name in ("KAGGLE_KEY",) if os.environ.get(name)),
        *(str(path) for path in keys if path.is_file()),
    ]

"""Kaggle, Colab or local: which one this is, and where the raw files of a competition are mounted."""

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

# The variable moves Kaggle's folders elsewhere: to try on one's own machine what a kernel will find.
KAGGLE_INPUT = Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"), "input")


LOGIN = (
    "make a token at https://www.kaggle.com/settings (Generate New Token) and put it into ~/.kaggle/access_token, "
    "or set KAGGLE_API_TOKEN"
)


def host_name() -> Literal["kaggle", "colab", "local"]:
    """Where this process runs. Kaggle is asked first: its images, built from Colab's, set Colab's variables too."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "local"


def scratch() -> Path | None:
    """Where to put large files that nobody wants to keep: on a host that keeps or uploads what lies beside a run."""
    return None if host_name() == "local" else Path(tempfile.gettempdir())


def find_mount(slug: str, root: Path = KAGGLE_INPUT) -> Path | None:
    """The folder where Kaggle mounts a competition's files, or a dataset's ("owner/name"); None where there is none.

    The layout of 2026 is looked for first, then the older one, in which the name alone is the folder.
    """
    kind = "datasets" if "/" in slug else "competitions"
    candidates = (root / kind / slug, root / slug.split("/")[-1])
    return next((folder for folder in candidates if folder.is_dir()), None)


def session_hours_left(proc: Path = Path("/proc")) -> float | None:
    """What is left of a session that its host ends by itself, less a quarter of an hour to write what is finished.

    Kaggle gives 12 hours, 9 on a TPU; Colab 12 at most. None where nobody ends it, or where its age is not known.
    """
    limits = {"kaggle": 9 if any(name.startswith("TPU_") for name in os.environ) else 12, "colab": 12}
    try:
        uptime = float((proc / "uptime").read_text().split()[0])
        started = int((proc / "1" / "stat").read_text().rsplit(")", 1)[1].split()[19])  # the container's first process
    except (OSError, ValueError, IndexError):
        return None
    limit, age = limits.get(host_name()), uptime - started / os.sysconf("SC_CLK_TCK")
    return None if limit is None else limit - age / 3600 - 0.25


class Deadline(float):
    """When to stop, in seconds of `time.monotonic()`; it remembers how long epochs take, of every phase of training."""

    def __init__(self, at: float) -> None:
        self.longest: dict[int, float] = {}  # seconds, by phase

    def took(self, phase: int, seconds: float) -> None:
        """An epoch of that phase took so long."""
        self.longest[phase] = max(seconds, self.longest.get(phase, 0.0))

    def allows_another(self, phase: int) -> bool:
        """Whether an epoch of that phase, of the longest so far, would end in time.

        Of a phase not seen yet it is thrice that of the others: a step backward costs about twice a step forward.
        """
        seconds = self.longest.get(phase, 3 * max(self.longest.values(), default=0.0))
        return time.monotonic() + seconds <= self


def deadline(max_hours: float | None) -> Deadline | None:
    """When to stop: in so many hours, or (None) in time for this host's session; None where nobody ends it."""
    hours = session_hours_left() if max_hours is None else max_hours
    return None if hours is None else Deadline(time.monotonic() + 3600 * hours)


def mounted(name: str, root: Path = KAGGLE_INPUT) -> Iterator[Path]:
    """Paths that end in `name`, up to six folders deep in Kaggle's mounts, the shallowest first."""
    if root.is_dir():  # a search without bounds would list every image of a competition
        yield from (path for depth in range(1, 7) for path in sorted(root.glob("*/" * depth + name)))


def adopt_output(run: Path, root: Path = KAGGLE_INPUT) -> Path | None:
    """Copy the same run directory, known by its last three folders, from the mounted output of another session.

    Returns where it came from; None when there is none, or `run` is there already.
    """
    tail = "/".join(run.absolute().parts[-3:])
    before = None if run.exists() else next((path.parent for path in mounted(f"{tail}/config.yaml", root)), None)
    if before:
        part = run.with_name(f".part-{run.name}")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(before, part)
        part.rename(run)
    return before


def memory_gib() -> float:
    """This machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may still take: what Linux calls available, within the container's limit.

    Memory that only caches files counts as free. Half of the machine's memory where the system does not say.
    """
    try:
        free = int(re.search(r"MemAvailable:\s+(\d+) kB", (proc / "meminfo").read_text())[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        return int(memory_gib() * 2**29)
    try:  # version 2; version 1 has no such files
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        cached = re.search(r"^file (\d+)", (cgroup / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used) + int(cached[1] if cached else 0))


def hints() -> list[str]:
    """What to do, in a person's words, before `kit submit` can work here."""
    if host_name() == "kaggle":
        return []
    found = [] if find_spec("kaggle") else ["to submit from here: pip install 'kit[kaggle]'"]
    if kaggle_login() is None:
        found.append(f"to submit from here, log in to Kaggle: {LOGIN}")
    return found


def kaggle_login() -> str | None:
    """Where a Kaggle token or key lies, without reading or checking it; None when there is none."""
    for variable in ("KAGGLE_API_TOKEN", "KAGGLE_KEY"):
        if os.environ.get(variable):
            return f"${variable}"
    home = Path.home() / ".kaggle"
    other = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"), "kaggle")
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR", home if home.is_dir() else other))
    places = (home / "access_token", home / "access_token.txt", config / "kaggle.json", home / "credentials.json")
    return next((str(path) for path in places if path.is_file()), None)

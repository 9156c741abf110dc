"""Kaggle, Colab or local: which one this is, and where the raw files of a competition are mounted."""

import os
import re
import sys
from pathlib import Path
from typing import Literal

KAGGLE_INPUT = Path("/kaggle/input")


def host_name() -> Literal["kaggle", "colab", "local"]:
    """Where this process runs. Kaggle is asked first: its images, built from Colab's, set Colab's variables too."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
        return "kaggle"
    if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "local"


def find_mount(slug: str, root: Path = KAGGLE_INPUT) -> Path | None:
    """The folder where Kaggle mounts a competition's files, or a dataset's ("owner/name"); None where there is none.

    The layout of 2026 is looked for first, then the older one, in which the name alone is the folder.
    """
    kind = "datasets" if "/" in slug else "competitions"
    candidates = (root / kind / slug, root / slug.split("/")[-1])
    return next((folder for folder in candidates if folder.is_dir()), None)


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


def kaggle_login() -> str | None:
    """Where a Kaggle token or key lies, without reading or checking it; None when there is none."""
    for variable in ("KAGGLE_API_TOKEN", "KAGGLE_KEY"):
        if os.environ.get(variable):
            return f"${variable}"
    home = Path.home() / ".kaggle"
    config = Path(os.environ.get("KAGGLE_CONFIG_DIR", home))
    places = (home / "access_token", home / "access_token.txt", config / "kaggle.json", home / "credentials.json")
    return next((str(path) for path in places if path.is_file()), None)

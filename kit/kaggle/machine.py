"""A Kaggle session imitated: runs a script as Kaggle does, in an environment that holds no kit.

Mounts lie under a temporary root, in the new layout or the old; the network is off, inputs cannot be written, and only
what is left in the working folder comes back. What a process must not do is refused by an audit hook in every Python it
starts, so that this also holds for root.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Files = dict[str, bytes]
_LOOK = 0.2  # seconds between two looks at a session's memory
_INTERNET = "tmp/internet"  # below the root: what the script tried to reach
_GUARD = f"""
import os, sys
ROOT = os.environ["KIT_KAGGLE_ROOT"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        address = args[0] if event == "socket.getaddrinfo" else args[-1]
        if event == "socket.getaddrinfo" or isinstance(address, tuple):  # else one of this machine's own
            with open(ROOT + "/{_INTERNET}", "a") as file:
                print(address, file=file)
            raise OSError(f"the internet is off ({{event}} {{address}})")
    paths = []
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] is not None and args[2] & WRITES:
        paths = args[:1]
    elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"):
        paths = args[:1]
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = args[:2]
    for path in paths:
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
        if path.startswith(ROOT + "/") and not path.startswith((ROOT + "/working", ROOT + "/tmp", ROOT + "/shared")):
            raise PermissionError(f"read-only: {{path}}")

sys.addaudithook(guard)
"""


@dataclass(frozen=True)
class Ran:
    """What a session left: exit code, log, files of the working folder, seconds, and the most memory it took (bytes).

    `stopped` says why it was ended early (memory, time), and `internet` what the script tried to reach.
    """

    code: int
    log: str
    output: Files
    seconds: float
    memory: int
    stopped: str = ""
    internet: tuple[str, ...] = ()


def make_python(folder: Path) -> Path:
    """A Python environment with the packages of this one, and without kit (unless somebody installs it there)."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    places = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    places += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    folders = [_without_kit(Path(path), folder / f"packages{n}") for n, path in enumerate(dict.fromkeys(places))]
    (site / "packages.pth").write_text("\n".join([*map(str, folders), "import kaggle_guard", ""]))
    # Not as sitecustomize.py: some systems have one of their own, and only the first counts.
    (site / "kaggle_guard.py").write_text(_GUARD)
    return folder / "bin" / "python"


def _without_kit(packages: Path, folder: Path) -> Path:
    """A folder of links to installed packages but kit; its .pth files, of editable ones, do not count where it lies."""
    folder.mkdir()
    for path in packages.iterdir() if packages.is_dir() else ():
        if path.name != "kit" and not path.name.startswith("kit-"):
            (folder / path.name).symlink_to(path)
    return folder


def mount(root: Path, layout: str, kind: str, name: str) -> Path:
    """Where a competition, a dataset owner/name or a model version is mounted, in the `new` layout or the `old`."""
    if layout == "new":
        return root / "input" / kind / name
    return root / "input" / (name.partition("/")[2] if kind == "models" else name.split("/")[-1])


def run_script(
    python: Path, root: Path, layout: str, source: str, mounts: Mapping[str, Files], competition: tuple[str, Path]
) -> tuple[int, str, Files]:
    """Run a kernel's script; returns exit code, log and the files in its working folder (`run_session`)."""
    ran = run_session(python, root, layout, source, mounts, competition)
    return ran.code, ran.log, ran.output


def run_session(
    python: Path,
    root: Path,
    layout: str,
    source: str,
    mounts: Mapping[str, Files],
    competition: tuple[str, Path],
    variables: Mapping[str, str] | None = None,
    most_memory: float = float("inf"),
    most_seconds: float = float("inf"),
) -> Ran:
    """Run a kernel's script, until it needs more memory (bytes) or seconds than it may.

    `mounts` has the files of datasets (owner/name) and of versions of models (owner/model/framework/variation/number);
    `competition` is the slug of a competition, or of a dataset owner/name, and the folder with its raw files.
    `variables` of the environment are set besides Kaggle's own.
    """
    shutil.rmtree(root, ignore_errors=True)
    for name, content in mounts.items():
        folder = mount(root, layout, "models" if name.count("/") == 4 else "datasets", name)
        folder.mkdir(parents=True)
        for file, data in content.items():
            if file.endswith(".zip"):  # as Kaggle does
                shutil.unpack_archive(_written(root / "tmp" / file, data), folder / file.removesuffix(".zip"))
            else:
                _written(folder / file, data)
    slug, data_folder = competition
    shutil.copytree(data_folder, mount(root, layout, "datasets" if "/" in slug else "competitions", slug))
    script = _written(root / "src" / "script.py", source.encode())
    for name in ("working", "tmp"):
        (root / name).mkdir(exist_ok=True)
    before = _tree(root / "input")
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(root / "tmp"),
        "TMPDIR": str(root / "tmp"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "COLAB_RELEASE_TAG": "release",  # Kaggle's images are built from Colab's
        "KIT_KAGGLE_ROOT": str(root),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **(variables or {}),
    }
    code, log, seconds, memory, stopped = _watched(
        [str(python), str(script)], root / "working", environment, most_memory, most_seconds
    )
    assert _tree(root / "input") == before, "the inputs were changed"
    output = {str(path.relative_to(root / "working")): path for path in sorted((root / "working").rglob("*"))}
    reached = root / _INTERNET
    internet = tuple(dict.fromkeys(reached.read_text().splitlines())) if reached.exists() else ()
    contents = {name: path.read_bytes() for name, path in output.items() if path.is_file()}
    return Ran(code, log, contents, seconds, memory, stopped, internet)


def _watched(
    command: list[str], folder: Path, environment: dict[str, str], most_memory: float, most_seconds: float
) -> tuple[int, str, float, int, str]:
    """Exit code, output, seconds, most memory of the processes together, and why they were ended, if they were."""
    begun, memory, stopped = time.monotonic(), 0, ""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None and not stopped:
                memory = max(memory, _memory_of(process.pid))
                too_long = time.monotonic() - begun > most_seconds
                stopped = "memory" if memory > most_memory else "time" if too_long else ""
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - begun
        log.seek(0)
        return process.returncode, log.read().decode("utf-8", "replace"), seconds, memory, stopped


def _memory_of(group: int) -> int:
    """Bytes of memory that the processes of a group have together; 0 where the system does not say."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _tree(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*"))

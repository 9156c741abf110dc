"""A Kaggle session imitated: runs a pushed script as Kaggle does, in an environment that holds no kit.

Mounts lie under a temporary root, in the new layout or the old; the network is off, inputs cannot be written, and only
what is left in the working folder comes back. What a process must not do is refused by an audit hook in every Python it
starts, so that this also holds for root.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.kaggle.stub import Files

GUARD = """
import os, sys
ROOT = os.environ["KIT_KAGGLE_ROOT"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"the internet is off ({event} {args[-1]})")
    paths = []
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] is not None and args[2] & WRITES:
        paths = args[:1]
    elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"):
        paths = args[:1]
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = args[:2]
    for path in paths:
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
        if path.startswith(ROOT + "/") and not path.startswith((ROOT + "/working", ROOT + "/tmp")):
            raise PermissionError(f"read-only: {path}")

sys.addaudithook(guard)
"""


def make_python(folder: Path) -> Path:
    """A Python environment with the packages of this one, and without kit (unless somebody installs it there)."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    # A folder that a .pth file names is not searched for further .pth files: so kit, installed editable, stays out.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\nimport kaggle_guard\n")
    # Not as sitecustomize.py: some systems have one of their own, and only the first counts.
    (site / "kaggle_guard.py").write_text(GUARD)
    return folder / "bin" / "python"


def mount(root: Path, layout: str, kind: str, name: str) -> Path:
    """Where a competition, or a dataset owner/name, is mounted: the `new` layout of 2026, or the `old` one."""
    return root / "input" / (f"{kind}/{name}" if layout == "new" else name.split("/")[-1])


def run_script(
    python: Path, root: Path, layout: str, source: str, datasets: dict[str, Files], competition: tuple[str, Path]
) -> tuple[int, str, Files]:
    """Run a kernel's script; returns exit code, log and the files in its working folder.

    `competition` is the slug of a competition, or of a dataset owner/name, and the folder with its raw files.
    """
    shutil.rmtree(root, ignore_errors=True)
    for name, files in datasets.items():
        folder = mount(root, layout, "datasets", name)
        folder.mkdir(parents=True)
        for file, content in files.items():
            if file.endswith(".zip"):  # as Kaggle does
                shutil.unpack_archive(_written(root / "tmp" / file, content), folder / file.removesuffix(".zip"))
            else:
                _written(folder / file, content)
    slug, data = competition
    shutil.copytree(data, mount(root, layout, "datasets" if "/" in slug else "competitions", slug))
    script = _written(root / "src" / "script.py", source.encode())
    (root / "working").mkdir()
    (root / "tmp").mkdir(exist_ok=True)
    before = _tree(root / "input")
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(root / "tmp"),
        "TMPDIR": str(root / "tmp"),
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        "COLAB_RELEASE_TAG": "release",  # Kaggle's images are built from Colab's
        "KIT_KAGGLE_ROOT": str(root),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    done = subprocess.run(
        [python, script],
        cwd=root / "working",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert _tree(root / "input") == before, "the inputs were changed"
    output = {str(path.relative_to(root / "working")): path for path in sorted((root / "working").rglob("*"))}
    return done.returncode, done.stdout, {name: path.read_bytes() for name, path in output.items() if path.is_file()}


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _tree(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*"))

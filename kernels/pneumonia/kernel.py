# Written by scripts/make_notebooks.py from kit/kaggle/kernel.py, which is what `kit submit` pushes: edit that.
"""A Kaggle kernel of kit: installs it from the attached wheel, without internet, and runs a competition.

`kit kaggle push` fills in the capitals and sends this one file; in Colab it is the same, after `pip install`. It leaves
submission.csv, oof.parquet, scores.json and the run directory in the output folder, and fails loudly.
"""

import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

COMPETITION = "pneumonia"  # or another config's name
WHEEL = ""  # its file name and SHA-256; without them any attached kit-*.whl, or the kit that is installed
SHA256 = ""
RUN_ID = ""
HOURS = None  # of training; None: what the session leaves
SETTINGS: list[str] = []  # such as "folds=3"
DATA = ""  # the raw files: OWNER/NAME of an attached dataset, or a folder; "": the competition's own mount

ROOT = pathlib.Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"))
OUTPUT = ROOT / "working" if ROOT.is_dir() else pathlib.Path.cwd()


def install():
    """Make `import kit` work; exits when the wheel is not there, or not the one this kernel was written for."""
    mounts, name = ROOT / "input", WHEEL or "kit-*.whl"
    found = [path for deep in range(1, 5) for path in sorted(mounts.glob("*/" * deep + name))]
    if not found and not WHEEL and importlib.util.find_spec("kit"):
        return
    if not found:
        print(*(path for deep in (1, 2, 3) for path in sorted(mounts.glob("*/" * deep))), sep="\n")
        sys.exit(f"{name} is not attached; what is there is listed above")
    if SHA256 and hashlib.sha256(found[0].read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{found[0]} is not the wheel this kernel was written for: an old version of its dataset is mounted")
    wheels = [str(path) for path in found[0].parent.glob("*.whl")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"]
    sys.path[:0] = [name for name in wheels if subprocess.call([*pip, name])]  # pure Python needs no pip
    importlib.invalidate_caches()


def main():
    """Run the competition; returns the exit code."""
    install()
    from kit.cli import main as kit
    from kit.runtime.session import find_mount

    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    if kit(["doctor", COMPETITION, *settings]):
        return 2
    run = OUTPUT / "runs" / COMPETITION / "kernel"
    words = ["--run", run] if HOURS is None else ["--run", run, "--max-hours", HOURS]
    words += ["--data", find_mount(DATA) or DATA] if DATA else []
    code = kit(["run", COMPETITION, *settings, *map(str, words)])
    made = [run / name for name in ("submission.csv", "oof.parquet", "scores.json") if (run / name).is_file()]
    for path in made:
        shutil.copy(path, OUTPUT)
    results = [path for path in run.rglob("*") if path.suffix in (".csv", ".json", ".parquet", ".yaml")]
    results += [OUTPUT / path.name for path in made]
    sums = {str(path.relative_to(OUTPUT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in results}
    summary = {"run_id": RUN_ID, "finished": code == 0, "sha256": sums}
    (OUTPUT / "kernel.json").write_text(json.dumps(summary, indent=1))
    print(f"kit: exit code {code}, run {RUN_ID or run}", flush=True)
    return 0 if code == 3 and made else code  # out of time: what is trained is scored, and can be submitted


if __name__ == "__main__":
    sys.exit(main())

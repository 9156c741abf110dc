# Written by scripts/make_notebooks.py from kit/kaggle/kernel.py, which is what `kit submit` pushes: edit that.
"""A Kaggle kernel of kit: installs it from the attached wheel, without internet, and runs a competition.

`kit kaggle push` replaces the line PLAN and sends this one file; in Colab it is the same, after `pip install`. It
leaves submission.csv, oof.parquet, scores.json, report.html and the run directory in the output, and fails loudly.
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

# competition: a config's name · wheel, sha256: name and SHA-256 of kit's wheel (empty: the kit that is installed) ·
# hours: of training (None: what the session leaves) · settings: such as "folds=3" · data: the raw files, OWNER/NAME of
# a dataset or a folder (empty: where the competition is mounted) · packages: other wheels, with their SHA-256
PLAN = {'competition': 'pcam', 'wheel': '', 'sha256': '', 'run_id': '', 'hours': None, 'settings': [], 'data': ''}

ROOT = pathlib.Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"))
OUTPUT = ROOT / "working" if ROOT.is_dir() else pathlib.Path.cwd()


def install(wheel, sha256, packages):
    """Make `import kit` work; exits when a wheel is not attached, or is not the one this kernel was written for."""
    if wheel:
        paths = [attached(name, sha) for name, sha in {wheel: sha256, **packages}.items()]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"]
        sys.path[:0] = [path for path in paths if subprocess.call([*pip, path])]  # pure Python runs without pip
        importlib.invalidate_caches()
    elif not importlib.util.find_spec("kit"):
        sys.exit("kit is not installed, and this kernel knows no wheel: `kit kaggle bundle COMP` writes one that does")


def attached(name, sha256):
    """The path of the attached wheel of that name and SHA-256; exits when there is none."""
    paths = [path for depth in range(1, 5) for path in sorted((ROOT / "input").glob("*/" * depth + name))]
    sums = {hashlib.sha256(path.read_bytes()).hexdigest(): str(path) for path in paths}
    if not paths:
        print(*(path for depth in (1, 2, 3) for path in sorted((ROOT / "input").glob("*/" * depth))), sep="\n")
        sys.exit(f"{name} is not attached; what is attached is listed above")
    other = f"{paths[0]} (SHA-256 {next(iter(sums))}, not {sha256}) is not the wheel this kernel was written for: "
    return sums.get(sha256) or sys.exit(other + "an old version of its dataset is mounted, or another one")


def main(competition, wheel, sha256, run_id, hours, settings, data, packages=()):
    """Run the competition; returns the exit code."""
    install(wheel, sha256, dict(packages))
    from kit.cli import main as kit
    from kit.runtime.session import find_mount

    config = [competition, *(word for setting in settings for word in ("--set", setting))]
    if kit(["doctor", *config]):
        return 2
    run = OUTPUT / "runs" / competition / "kernel"
    options = ["--run", run] if hours is None else ["--run", run, "--max-hours", hours]
    options += ["--data", find_mount(data) or data] if data else []
    code = kit(["run", *config, *map(str, options)])
    names = ("submission.csv", "oof.parquet", "scores.json", "report.html")
    results = [run / name for name in names if (run / name).is_file()]
    suffixes = (".csv", ".html", ".json", ".parquet", ".png", ".py", ".yaml")
    written = [path for path in run.rglob("*") if path.suffix in suffixes]
    written += [pathlib.Path(shutil.copy(path, OUTPUT)) for path in results]
    sums = {str(path.relative_to(OUTPUT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
    summary = {"run_id": run_id, "finished": code == 0, "sha256": sums}
    (OUTPUT / "kernel.json").write_text(json.dumps(summary, indent=1))
    print(f"kit: exit code {code}, run {run_id or run}", flush=True)
    return 0 if code == 3 and results else code  # out of time: what is trained is scored, and can be submitted


if __name__ == "__main__":
    sys.exit(main(**PLAN))

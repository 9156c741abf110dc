"""PCam on Kaggle: installs kit from the attached wheel and runs the competition. Written for one wheel by `kit kaggle`.

Leaves submission.csv, oof.parquet, scores.json and the run directory in /kaggle/working. Fails loudly.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys

COMPETITION = "pcam"
WHEEL = ""  # the file's name, SHA-256 and the run's id are filled in when the kernel is pushed
SHA256 = ""
RUN_ID = ""
HOURS = 11.5
SETTINGS = []

INPUT, OUTPUT = pathlib.Path("/kaggle/input"), pathlib.Path("/kaggle/working")


def main():
    wheel = next(INPUT.rglob(WHEEL), None)
    if wheel is None:
        print(*sorted(INPUT.rglob("*"))[:50], sep="\n")
        sys.exit(f"{WHEEL} is not attached")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{wheel} is not the wheel this kernel was written for: an old version of the dataset is mounted")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"]
    if subprocess.call([*pip, *map(str, wheel.parent.glob("*.whl"))]):
        sys.path.insert(0, str(wheel))  # no pip: a wheel of pure Python can be imported as it is
    from kit.cli import main as kit

    kit(["doctor"])
    run = OUTPUT / "runs" / COMPETITION / "kernel"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    code = kit(["run", COMPETITION, "--run", str(run), "--max-hours", str(HOURS), *settings])
    for name in ("submission.csv", "oof.parquet", "scores.json"):
        if (run / name).exists():
            shutil.copy(run / name, OUTPUT / name)
    (OUTPUT / "run_id.txt").write_text(RUN_ID)
    print(f"kit: exit code {code}, run {RUN_ID}", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

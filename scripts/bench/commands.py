"""How much processor time each command takes that is expected to be light: medians of three, user and system.

python scripts/bench/commands.py            # makes a small run of the toy competition first (a minute)
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from kit.cli import command_names

TINY = ["folds=2", "image.size=32", "model.arguments={units: 8}", "train.epochs=1", "evaluate.resamples=2000"]
SAMPLE = "data/sample_submission.csv"
LIGHT = [  # arguments, seconds at most
    (["--help"], 0.2),
    *(([name, "--help"], 0.2) for name in command_names()),
    (["scroe"], 0.2),
    (["ledger"], 1),
    (["score", "nowhere"], 1),
    (["run", "toyy"], 1),
    (["models"], 1),
    (["models", "resnet"], 1),
    (["competitions"], 1),
    (["settings"], 1),
    (["submission", "check", "toy", "run/submission.csv", "--sample", SAMPLE], 1),
    (["records", "info", "nowhere"], 1),
    (["score", "run"], 2),
]


def seconds(arguments: list[str], folder: Path) -> float:
    """Processor time of one call."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-m", "kit", *arguments], cwd=folder, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seconds(["run", "toy", "--run", "run", *(word for setting in TINY for word in ("--set", setting))], folder)
        if not (folder / SAMPLE).exists():
            sys.exit("the toy run failed: try `kit demo`")
        for arguments, limit in LIGHT:
            show(" ".join(arguments), [seconds(arguments, folder) for _ in range(3)], limit)
        again = []
        for _ in range(3):
            (folder / "run" / "scored.json").unlink()
            again.append(seconds(["score", "run"], folder))
        show("score run (scored anew)", again, 2)


def show(what: str, values: list[float], limit: float) -> None:
    middle = statistics.median(values)
    print(f"{middle:6.2f} s  (at most {limit:g})  kit {what}{'   TOO LONG' if middle > limit else ''}", flush=True)


if __name__ == "__main__":
    main()

"""Kit installed from a wheel, and the files of docs/extending.md: what a user has outside the repository."""

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").partition("\n## A config\n")[0]
BLOCK = re.compile(r"```(?:python|yaml|toml)\n(# ([\w.]+)\n.*?)```", re.DOTALL)


def blocks() -> dict[str, str]:
    """The files that the page shows, by name; their first line is the name."""
    return {name: text for text, name in BLOCK.findall(PAGE)}


def moles_on_kaggle() -> str:
    """`moles.py` of the page as a competition on Kaggle, scored by the metric of the page, in the same file."""
    files = blocks()
    metric = files["metrics.py"].partition("def ")
    text = files["moles.py"].replace("import pandas", "import numpy as np\nimport pandas")
    text = text.replace("COMPETITION =", f"{''.join(metric[1:])}\n\nCOMPETITION =")
    return text.replace("slug=None", 'slug="moles-2026"').replace('"roc_auc"', '"moles.py:pfbeta"')


def write_data(root: Path) -> None:
    """A raw folder of photographs in which colour is the label."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    for n in range(60):
        image = rng.integers(0, 100, (48, 48, 3), np.uint8) + np.uint8([0, 0, 100 * (n // 2 % 2)])
        cv2.imwrite(str(root / "images" / f"m{n}.png"), image)
    train = [f"m{n},p{n // 2},{n // 2 % 2}" for n in range(48)]
    (root / "train.csv").write_text("\n".join(["id,patient,label", *train]) + "\n")
    (root / "sample_submission.csv").write_text("\n".join(["id,label", *(f"m{n},0" for n in range(48, 60))]) + "\n")


def install_wheel(folder: Path) -> Path:
    """The site-packages of a new environment with kit's wheel, and with the packages of this one but not its kit."""
    source = folder / "source"
    for name in ("kit", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    (source / "kit" / "configs").unlink(missing_ok=True)  # of an installation from here
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", folder / "dist", source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv").glob("lib/python3*/site-packages"))
    zipfile.ZipFile(*(folder / "dist").glob("kit-*.whl")).extractall(packages)
    (packages / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return packages

"""The walls of the design, read from the imports in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kit

ROOT = Path(kit.__file__).parent

# room -> what it must not import (anywhere in a file, also inside functions)
FORBIDDEN = {
    "competitions": {"keras", "tensorflow", "jax", "kit.models", "kit.train", "kit.predict", "kit.records"},
    "data": {"keras", "kit.competitions", "kit.models", "kit.train", "kit.predict", "kit.evaluate", "kit.submit"},
    "models": {"tensorflow", "kit.data", "kit.competitions", "kit.train", "kit.predict", "kit.evaluate", "kit.submit"},
    "train": {"tensorflow", "kit.data", "kit.competitions", "kit.predict", "kit.submit"},
    "predict": {"tensorflow", "kit.competitions", "kit.train", "kit.submit"},
    "evaluate": {"keras", "tensorflow", "kit.data", "kit.models", "kit.train", "kit.predict", "kit.submit"},
    "submit": {"keras", "tensorflow", "kit.data.records.manifest", "kit.models", "kit.train", "kit.predict"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_room_keeps_its_walls(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        through = {n for n in imports(path) for f in FORBIDDEN[room] if n == f or n.startswith(f + ".")}
        assert not through, f"{path.name} imports {through}"


def test_kaggles_client_is_known_in_one_room_only():
    for path in ROOT.rglob("*.py"):
        known = {name.split(".")[0] for name in imports(path)} & {"kaggle", "kagglesdk", "requests"}
        assert not known or path.parent.name == "kaggle", f"{path} imports {known}"


def test_pipeline_can_be_read_in_one_sitting():
    assert len((ROOT / "pipeline.py").read_text().splitlines()) < 200


def test_a_worker_of_the_records_build_starts_light():
    code = (
        "import sys, kit.data.records.shards, kit.data.pixels.look; "
        "print({'tensorflow', 'keras', 'pandas', 'sklearn', 'pydicom'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

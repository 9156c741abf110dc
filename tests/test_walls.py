"""The walls of ARCHITECTURE.md, held against the imports in the source."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kit
from kit.tasks import TASKS

ROOT = Path(kit.__file__).parent
ARCHITECTURE = (ROOT.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
FILES = sorted(ROOT.rglob("*.py"))
KERNEL = ROOT / "kaggle" / "kernel.py"  # pasted alone where kit is not installed yet, and calls the command from there
GROUND = {
    "boxes",
    "config",
    "competition",
    "decisions",
    "delimited",
    "errors",
    "extensions",
    "files",
    "fold_files",
    "headlines",
    "lazy",
    "log",
    "parallel",
    "run",
    "schemas",
}
GROUND |= {"tables", "tasks"}
RUN_FILES = {"config.yaml", "environment.json", "folds.json", "oof.parquet", "test.parquet", "scores.json"}
RUN_FILES |= {"decision.json", "submission.csv", "ensemble.json", "history.csv", "done.json"}
RUN_FILES |= {"clusters.parquet", "clustered.json", "model.json", "model.weights.h5", "boosted.json"}


def walls() -> dict[str, tuple[set[str], set[str]]]:
    """room -> (rooms it may import, libraries it may use), in the order of the table."""
    table = re.search(r"<!-- walls -->\n(.*?)<!-- /walls -->", ARCHITECTURE, re.DOTALL)[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return {
        room.strip("`"): ({name.strip("`") for name in rooms.split()}, {*libs.split()}) for room, rooms, libs in rows
    }


WALLS = walls()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Modules that a file imports, as dotted names; without those under TYPE_CHECKING."""
    names = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update({str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy":
            names.update(ast.literal_eval(argument) for argument in node.args)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return names


def rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in imports(path) if name.startswith("kit.")]
    return {part[1] for part in parts if (ROOT / part[1]).is_dir() or (ROOT / f"{part[1]}.py").is_file()}


def test_every_room_has_its_walls():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {path.stem for path in ROOT.glob("*.py")}
    assert packages - {"__init__", "__main__"} == {*WALLS} | GROUND


def test_arrows_never_rise():
    order = list(WALLS)
    for room, (below, _) in WALLS.items():
        assert all(order.index(other) > order.index(room) for other in below), room


@pytest.mark.parametrize("room", [*WALLS, *sorted(GROUND)])
def test_a_room_keeps_its_walls(room):
    allowed = {room, *GROUND, *(WALLS[room][0] if room in WALLS else ())}
    files = [path for path in FILES if room_of(path) == room]
    assert files
    for path in set(files) - {KERNEL}:
        assert rooms_imported(path) <= allowed, f"{path.name} imports {rooms_imported(path) - allowed}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path):
    walled = {library for _, libraries in WALLS.values() for library in libraries}
    used = {name.split(".")[0] for name in imports(path)} & walled
    allowed = WALLS[room_of(path)][1] if room_of(path) in WALLS else set()
    assert used <= allowed, f"{path} uses {used - allowed}"


def test_there_is_no_import_circle():
    modules = {".".join(("kit", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    arrows = {name: (imports(path) & modules.keys()) - {name, "kit"} for name, path in modules.items()}
    # A package imports its modules, and they are found through it: that is no circle.
    arrows = {name: {to for to in below if not name.startswith(f"{to}.")} for name, below in arrows.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way[way.index(name) :], name))}"
        if name not in done:
            for below in sorted(arrows[name]):
                visit(below, (*way, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


def test_the_names_in_a_run_directory_are_known_in_one_place():
    for path in FILES:
        if path in (ROOT / "run.py", ROOT / "fold_files.py", KERNEL):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
        spelled = {node.value for node in texts if isinstance(node.value, str)} & RUN_FILES
        assert not spelled, f"{path} spells {spelled}"


def test_no_file_but_one_compares_the_name_of_a_task():
    for path in FILES:
        if path == ROOT / "tasks.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            names = {side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)}
            assert not names & {*TASKS}, f"{path}, line {node.lineno}: {ast.unparse(node)}"


def test_files_can_be_read_in_one_sitting():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}
    assert lines[ROOT / "pipeline.py"] <= 150


def test_a_worker_of_the_records_build_starts_light():
    code = (
        "import sys, kit.data.records.shards, kit.data.pixels.look; "
        "print({'tensorflow', 'keras', 'pandas', 'sklearn', 'pydicom'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

"""Small makers of data, shared by all tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from kit import log
from kit.competitions import toy
from kit.config import Config, DataSettings, ImageSettings, RuntimeSettings, Source, load_config
from kit.data.records.build import build_records
from kit.data.records.manifest import Records
from kit.data.table.examples import validate
from kit.run import Run
from kit.runtime import devices
from tests.outside import install_wheel

log.show()

REAL = Path(os.environ.get("KIT_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))

# What a toy run needs at the least: two folds of two epochs of a narrow model on 32x32 images. Tracing Adam's updates
# takes a third of such a run, and several steps at a time trace them twice; momentum has a state to resume from, too.
TINY = [
    "folds=2",
    "image.size=32",
    "model.name=pcam_cnn",
    "model.arguments={units: 8}",
    "train.phases=[]",
    "train.epochs=2",
    "train.batch_size=16",
    "train.optimizer=sgd",
    "train.optimizer_arguments={momentum: 0.9}",
    "runtime.steps_per_execution=1",
    "predict.batch_size=64",
    "evaluate.resamples=100",
]


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory):
    """Where kit keeps in mind which code was named on this machine: not this user's own."""
    os.environ["KIT_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    del os.environ["KIT_HOME"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of an environment in which kit is installed from its wheel."""
    return install_wheel(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def keras():
    """Keras on the backend that $KERAS_BACKEND names, set up as the kit does it."""
    devices.set_up(RuntimeSettings())
    import keras

    return keras


@pytest.fixture(scope="session")
def _toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "data"
    toy.make(root, train=120, test=30)
    return root


@pytest.fixture
def toy_root(_toy_folder: Path, tmp_path: Path) -> Path:
    """A raw folder in the PCam layout with 120 train and 30 test patches; the test's own copy, to be broken at will."""
    return Path(shutil.copytree(_toy_folder, tmp_path / "raw"))


@pytest.fixture(scope="session")
def toy_records(_toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Records of the toy folder at 32 pixels; not to be changed."""
    examples = validate(toy.COMPETITION.read(_toy_folder, Source()), 0)
    out = tmp_path_factory.mktemp("records") / "toy"
    return build_records("toy", examples, _toy_folder, out, ImageSettings(size=32), DataSettings())


# Files of few and long tests: they come first, so that no process is left alone with one of them at the end.
LONG = (
    "test_pipeline",
    "test_distribution",
    "test_notebooks",
    "test_real",
    "test_search",
    "test_runtime",
    "test_kernel",
    "test_fit",
    "test_build",
)


# Networks that take seconds to build: what is asked of every model is asked of these by `make test-all`.
HUGE = ("convnext_base", "convnext_large", "convnext_xlarge", "densenet169", "densenet201", "inception_resnet_v2")
HUGE += tuple(f"efficientnetb{n}" for n in range(3, 8)) + tuple(f"efficientnetv2{size}" for size in "sml")
HUGE += ("nasnet_large", "nasnet_mobile", "resnet101", "resnet101v2", "resnet152", "resnet152v2")


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all others as they were; tests of huge networks are slow."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        if any(f"[{name}]" in item.name for name in HUGE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def toy_run(keras, _toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the toy folder: two folds of an epoch, calibrated, records beside it; not to be changed."""
    from kit import pipeline

    folder = tmp_path_factory.mktemp("toy_run")
    settings = [*TINY, "train.epochs=1", "evaluate.calibration=platt"]
    return pipeline.run("toy", _toy_folder, folder / "toy", settings=settings, report=False)


@pytest.fixture
def tiny() -> Config:
    """The toy config, cut down to seconds."""
    return load_config("toy", TINY)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory):
    """A function: name of a real data set -> its folder, laid out as on Kaggle; skips when the images are not here."""
    script = REAL / "lay_out.py"
    if not script.exists():
        pytest.skip(f"no real images: set KIT_REAL_DATA to their folder (looked in {REAL})")
    root = tmp_path_factory.mktemp("real")

    def lay_out(name: str) -> Path:
        if not (root / name).exists():
            subprocess.run([sys.executable, script, root, name], check=True, stdout=subprocess.DEVNULL)
        return root / name

    return lay_out

"""kit: from a folder of medical images to an honest score and a checked submission.

In a notebook, `import kit; kit.run("pcam", data=..., run=...)` does what `kit run` does, with the same arguments and
files, and `kit.serve(run)` shows the page of `kit serve`. Single stages are the functions of `kit.pipeline`, the file
to read first; they take what `kit.load_config` and `kit.open_records` return, and a `kit.Run`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "2026.12"
__all__ = ["Predictor", "Run", "__version__", "load_config", "open_records", "pipeline", "run", "serve"]

_HOMES = {
    "Predictor": "kit.predict.predictor",
    "Run": "kit.run",
    "load_config": "kit.config",
    "open_records": "kit.data.records.manifest",
}


def __getattr__(name: str) -> Any:
    # Resolved on first use: `import kit` must load neither pandas nor TensorFlow nor Keras (and takes milliseconds).
    if name == "pipeline":
        return importlib.import_module("kit.pipeline")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`kit.run(...)` runs a competition, `kit.serve(run)` shows its page: importing the module kit/run.py, or the room
    kit/serve, must not put it in the function's place.
    """

    @property
    def run(self) -> Any:
        return importlib.import_module("kit.pipeline").run

    @run.setter
    def run(self, module: ModuleType) -> None:
        pass

    @property
    def serve(self) -> Any:
        return importlib.import_module("kit.serve.notebook").serve

    @serve.setter
    def serve(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package

"""kit: from a folder of medical images to an honest score and a checked submission.

In a notebook the stages are functions: `import kit; kit.run("pcam", data=..., run=...)`. They take the same
arguments and write the same files as the `kit` command. `kit/pipeline.py` is the file to read first.
"""

from typing import Any

__version__ = "0.1.0"

_STAGES = ("examples", "build_records", "train", "predict", "score", "write_submission", "run")
__all__ = ["__version__", *_STAGES]  # noqa: PLE0604 - names resolved on first use, below


def __getattr__(name: str) -> Any:
    # Resolved on first use: `import kit` must load neither pandas nor TensorFlow nor Keras (and takes milliseconds).
    if name in _STAGES:
        from kit import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'kit' has no attribute {name!r}")

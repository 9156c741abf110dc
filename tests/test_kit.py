import subprocess
import sys
import time

import pytest

import kit

HEAVY = ("tensorflow", "keras", "jax", "pandas", "sklearn")


def test_import_is_light_and_fast():
    code = f"import kit, sys; print([m for m in {HEAVY} if m in sys.modules])"
    started = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took = time.perf_counter() - started
    assert result.stdout.strip() == "[]"
    assert took < 0.3 + _bare_start(), "import kit takes more than 0.3 s"


def _bare_start() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.perf_counter() - started


def test_light_commands_load_no_keras():
    code = (
        "import sys, kit.pipeline, kit.submit.submission, kit.evaluate.score\n"
        "print([m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_stages_are_functions_of_the_package():
    from kit import pipeline

    assert all(getattr(kit, name) is getattr(pipeline, name) for name in kit.__all__ if name != "__version__")


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = kit.nope

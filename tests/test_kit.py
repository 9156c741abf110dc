import subprocess
import sys
import time

import pytest

import kit

HEAVY = ("tensorflow", "keras", "jax", "pandas", "sklearn", "kaggle", "kagglesdk", "requests")


def test_import_is_light_and_fast():
    code = f"import kit, sys; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    # the fastest of three, so that a busy machine does not count
    assert min(seconds("import kit") for _ in range(3)) < 0.3 + min(seconds("") for _ in range(3))


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def test_light_commands_load_no_keras():
    code = (
        "import sys, kit.pipeline, kit.submit.submission, kit.evaluate.score\n"
        "print([m for m in ('tensorflow', 'keras', 'jax') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_what_the_package_offers():
    from kit import config, pipeline
    from kit.data.records import manifest as records

    assert kit.run is pipeline.run
    assert kit.load_config is config.load_config
    assert kit.open_records is records.open_records
    assert kit.pipeline is pipeline


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = kit.nope


def test_paths_may_be_texts_in_the_home_directory(toy_root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    toy_root.rename(tmp_path / "data")
    config = kit.load_config("toy", {"image": {"size": 32}})
    examples = kit.pipeline.list_examples(config, "~/data")
    records = kit.pipeline.build_records(config, examples, "~/data", "~/records", workers=1)
    assert records.directory == tmp_path / "records"
    assert len(kit.open_records("~/records").table) == 150
    assert kit.Run("~/runs/a").directory == tmp_path / "runs" / "a"

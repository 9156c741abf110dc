"""What is printed, on any terminal."""

import io
import logging
import os
import subprocess
import sys

import pytest

from kit import log


@pytest.mark.once
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_characters_that_a_terminal_lacks_are_replaced(monkeypatch, encoding):
    buffers = {}
    for name in ("stdout", "stderr"):
        buffers[name] = io.BytesIO()
        monkeypatch.setattr(sys, name, io.TextIOWrapper(buffers[name], encoding=encoding, errors="strict"))
    log.show()
    logging.getLogger("kit.x").info("M\xfcller \u80ba")
    print("M\xfcller \u80ba", file=sys.stderr, flush=True)
    expected = "M\xfcller \u80ba\n".encode(encoding, "backslashreplace")
    assert {name: buffer.getvalue() for name, buffer in buffers.items()} == dict.fromkeys(buffers, expected)


@pytest.mark.once
@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_command_over_names_that_the_terminal_lacks(tmp_path, setting):
    for name in ("b\xf6sartig/M\xfcller.png", "gutartig/\u80ba.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no image")
    command = [sys.executable, "-m", "kit", "examples", "folders", "--data", tmp_path, "--check"]
    environment = {**os.environ, **setting, "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "unreadable 2: b\\xf6sartig/M\\xfcller.png" in done.stdout

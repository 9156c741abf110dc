"""Ctrl-C and SIGTERM at any moment: exit code 130, one line, no traceback, no process left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kit
from kit.cli._stopping import LINE, stoppable
from tests.conftest import TINY

pytestmark = [pytest.mark.once, pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")]

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(kit.__file__).parents[1])}
WAYS = [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True)]  # to the whole group, or the parent
READY = "import sys, kit.cli; print('ready', flush=True); kit.cli.entry()"


def start(arguments, folder):
    """A `kit` command in a process group of its own, after its first imports."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", READY, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, text=True, start_new_session=True, **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


def group_is_empty(group):
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def stop(process, number, whole_group):
    """Send the signal, as `kill` does or, to the whole group, as a terminal does; what was printed as an error."""
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert group_is_empty(process.pid)
    return [line for line in errors.splitlines() if line and "\r" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 2, 4, 7])
def test_a_run_can_be_stopped_at_any_moment(moment, toy_root, tmp_path):
    settings = [word for setting in [*TINY, "train.epochs=50"] for word in ("--set", setting)]
    process = start(["run", "toy", "--data", toy_root, "--run", "runs/a", *settings], tmp_path)
    time.sleep(0.02 + 0.2 * moment**2)  # from the imports over the records to the training
    errors = stop(process, *WAYS[moment % 3])
    assert (process.returncode, errors) == (130, [LINE])
    assert not list(tmp_path.rglob(".part-[0-9]*"))  # files that are half written


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(3))
def test_workers_end_with_the_command(moment, tmp_path):
    from PIL import Image

    for n in range(40):
        (tmp_path / "data" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.effect_noise((1500, 1500), 50).save(tmp_path / "data" / "ab"[n % 2] / f"{n}.png")
    options = ["--workers", 3, "--set", "target=a"]
    process = start(["records", "build", "folders", "--data", "data", "--out", "r", *options], tmp_path)
    time.sleep(1 + 0.4 * moment)
    if process.poll() is not None:
        process.communicate()  # a fast machine has built them
    else:
        errors = stop(process, *WAYS[moment % 3])
        assert process.returncode in (130, 0)
        assert [line for line in errors if not line.startswith("records:")] == [LINE] * (process.returncode == 130)


def test_the_second_signal_ends_it_at_once(tmp_path):
    code = """
import sys, time
from kit import cli
def hang(arguments):
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        print("tidying", flush=True)
        time.sleep(60)
import kit.cli.models
kit.cli.models.call = hang
cli.entry()
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, "models"], env=ENVIRONMENT, text=True, **pipes) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "tidying\n"
        process.send_signal(signal.SIGINT)  # of the same press
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, LINE + "\n")


def test_an_interrupt_that_a_destructor_swallows_is_raised_again():
    class Odd:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stoppable(alone=False):
        Odd()
        time.sleep(5)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_that_an_interrupt_became_is_a_stop(monkeypatch, capsys):
    from kit import cli
    from kit.cli import models

    def call(arguments):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None

    monkeypatch.setattr(models, "call", call)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == LINE + "\n"

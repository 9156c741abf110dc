"""Output that nobody reads, that is closed, or that does not fit: no command ends in a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kit

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(kit.__file__).parents[1])}
COMMANDS = [["--help"], ["models"], ["ledger"], ["settings"], ["competitions"], ["score", "nowhere"], ["nope"]]


def shell(line: str, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    kit_command = [sys.executable, "-m", "kit", *command]
    script = ["bash", "-o", "pipefail", "-c", line, "kit", *kit_command]
    return subprocess.run(script, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


@pytest.mark.once
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_seen_enough_ends_it_quietly(command, tmp_path):
    # the reader is gone before anything is written
    done = shell('"$@" 2>&1 | true; echo "${PIPESTATUS[0]}"', command, tmp_path)
    assert done.stderr == ""
    assert int(done.stdout.split()[-1]) in (0, 2, 141)


@pytest.mark.once
def test_the_exit_code_says_that_the_output_was_not_read(tmp_path):
    done = shell('"$@" | sleep 0; echo "${PIPESTATUS[0]}"', ["models"], tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("141", "")


@pytest.mark.once
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(closed, tmp_path):
    assert shell(f'"$@" {closed}; echo "code $?"', ["models"], tmp_path).stdout.endswith("code 0\n")
    assert shell(f'"$@" {closed}; echo "code $?"', ["score", "nowhere"], tmp_path).stdout.endswith("code 2\n")


@pytest.mark.once
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_to_a_full_disk(tmp_path):
    done = shell('"$@" > /dev/full', ["models"], tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("kit: ") and "No space left on device" in done.stderr


@pytest.mark.once
def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path):
    code = (
        "import os; from kit.cli import _streams; _streams.open_closed(); "
        "os.write(3, b'%d' % (os.open('x', os.O_CREAT) > 2))"
    )
    script = ["bash", "-c", '"$@" 3>&1 >&- 2>&- <&-', "kit", sys.executable, "-c", code]
    done = subprocess.run(script, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "1"

"""Starting and stopping: ports, packages, what is said of an open address, notebooks, and the end of the process."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import kit
from kit.cli import main
from kit.errors import ConfigError
from kit.predict.packed import pack
from kit.serve import notebook, server
from tests.serve.conftest import ask, serving
from tests.serve.test_app import png, told

pytestmark = pytest.mark.once


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}"):
            server.start(run, server.Options(port=port), server.Server)
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid"):
        server.start(run, server.Options(host="no.such.host.invalid"), server.Server)


def test_packages_that_are_missing(run, monkeypatch):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install starlette uvicorn markdown-it-py"):
        server.start(run, server.Options(), server.Server)


def test_a_run_that_is_none(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "yes"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False)])
def test_loopback(host, yes):
    assert server.is_loopback(host) is yes


def test_an_open_address_is_said_and_shows_no_images_of_the_run(run):
    with serving(run.directory, host="0.0.0.0") as up:
        assert "no password" in server.opens(up) and str(up.port) in server.opens(up)
        assert ask(f"http://127.0.0.1:{up.port}/api/model", headers={"Host": "a.machine"}).content["examples"] == []


def test_check_answers_and_ends(run, capsys):
    assert main(["serve", str(run), "--check"]) == 0
    assert "it works" in capsys.readouterr().out


def test_an_exported_file_answers_the_same(run, served, tmp_path):
    path = tmp_path / "toy.kit.zip"
    pack(run, path)
    with serving(path) as up:
        (one,), (other,) = (ask(f"{each.address}api/predict", png(3)).content["images"] for each in (up, served))
        assert told(one) == pytest.approx(told(other)[0], abs=1e-6) or told(one)[1] == told(other)[1]
        model = ask(f"{up.address}api/model").content
    assert (model["run"], model["examples"]) == ("toy", []) and "toy" in model["card"]


def test_in_a_notebook(run):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith("kit-")}

    others = threads()
    page = kit.serve(str(run), examples=[])
    try:
        assert isinstance(page, notebook.Shown) and ask(f"{page.address}api/predict", png(0)).status == 200
        assert f'src="{page.address}"' in page._repr_html_()
        assert "frame-ancestors" not in ask(page.address).headers["content-security-policy"]
    finally:
        own = threads() - others
        page.stop()
    with pytest.raises(OSError):
        ask(page.address)
    for thread in own:
        thread.join(10)
    assert {thread.name.split("_")[0] for thread in own} == {"kit-answer", "kit-engine", "kit-readers", "kit-serve"}
    assert not any(thread.is_alive() for thread in own)


def exists(process):
    return Path(f"/proc/{process}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_killed_leaves_nothing(run, tmp_path, number):
    """No file of what was being sent, and no process."""
    command = [sys.executable, "-m", "kit", "serve", str(run), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        address = next(line for line in process.stdout if line.startswith("open ")).split()[1]
        assert ask(f"{address}api/predict", png(0)).status == 200
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert children
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\nabc")
            process.send_signal(number)
            assert process.wait(20) == (0 if number == signal.SIGTERM else -signal.SIGKILL)  # Ctrl-C is how it ends
    finally:
        process.kill()
        process.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(map(exists, children)):
        time.sleep(0.1)
    assert not [*filter(exists, children)]
    assert [
        path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".py"
    ] == []  # TensorFlow writes code there

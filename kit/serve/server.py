"""A run behind an address: a server in a thread, from the loaded model to the last request."""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import joblib

from kit.errors import ConfigError
from kit.predict.packed import ENDING, opened
from kit.predict.predictor import Predictor
from kit.run import Run
from kit.serve.limits import Limits

if TYPE_CHECKING:
    from kit.serve.service import Service

PORT = 7860
LOOPBACK = "127.0.0.1"
_NAMES = ("localhost", "127.0.0.1", "::1")  # by which a server on loopback may be called
_PACKAGES = ("starlette", "uvicorn", "markdown_it")
_MOST_READERS = 8
_CONNECTIONS = 512  # that are open at a time


@dataclass(frozen=True)
class Options:
    """Where to listen, what may be sent, and which images to offer (None: the run's own, on loopback alone)."""

    host: str = LOOPBACK
    port: int = PORT
    limits: Limits = field(default_factory=Limits)
    examples: list[Path] | None = None
    folds: Sequence[int] | None = None
    trust: bool = False
    framed: bool = False  # whether other pages, such as notebooks, may hold the page
    any_name: bool = False  # whether it may be called by any name: behind a proxy, as Colab's


class Server:
    """A page that is up: `address` is where. `stop` ends it, and so does the end of the process."""

    def __init__(self, service: "Service", listening: socket.socket, options: Options) -> None:
        import uvicorn

        from kit.serve.app import application

        names = _NAMES if is_loopback(options.host) and not options.any_name else None
        self._service, self._socket = service, listening
        self.host, self.port = listening.getsockname()[:2]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"http://{shown}:{self.port}/"
        config = uvicorn.Config(
            application(service, names, options.framed),
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            timeout_keep_alive=30,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), name="kit-serve", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._server.started:
            self.stop()
            raise ConfigError(f"the server at {self.address} did not start")

    def wait(self) -> None:
        """Return when the server has ended; a KeyboardInterrupt comes through."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """End the server, its processes and its thread."""
        self._server.should_exit = True
        self._thread.join(10)
        self._service.close()
        self._socket.close()


S = TypeVar("S", bound=Server)


def start(source: Run | Path | str, options: Options, kind: type[S]) -> S:
    """Open a run, or a file that `kit export` wrote, warm it up, and serve it by a server of that kind.

    Raises ConfigError where packages are missing or the port is taken, and what opening the predictor raises.
    """
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        pip = " ".join(package.replace("markdown_it", "markdown-it-py") for package in missing)
        raise ConfigError(f"kit serve needs packages that are not installed: pip install {pip}")
    listening = _listening(options.host, options.port)  # first: loading takes a while
    try:
        service = _service(source, options)
    except BaseException:
        listening.close()
        raise
    return kind(service, listening, options)


@contextmanager
def serving(source: Run | Path | str, options: Options) -> Iterator[Server]:
    """`start`, for the length of a block."""
    server = start(source, options, Server)
    try:
        yield server
    finally:
        server.stop()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def opens(server: Server) -> str:
    """What listening there opens, in words; empty for loopback."""
    if is_loopback(server.host):
        return ""
    return (
        f"Everyone who can reach port {server.port} of this machine can send images and read what the model says of "
        "them. There is no password, and what is sent is not encrypted. Stop it when you are done."
    )


def _service(source: Run | Path | str, options: Options) -> "Service":
    from kit.serve.facts import facts_of
    from kit.serve.service import Service

    run_path = source.directory if isinstance(source, Run) else Path(source)
    name = run_path.resolve().name.removesuffix(ENDING)
    with opened(run_path) as run:
        predictor = Predictor.open(run, options.folds, options.trust)
        facts = facts_of(run, name, options.examples, own=is_loopback(options.host))
    service = Service(predictor, facts, options.limits, min(joblib.cpu_count(), _MOST_READERS))
    try:
        service.warm_up()
    except BaseException:
        service.close()
        raise
    return service


def _listening(host: str, port: int) -> socket.socket:
    listening = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere it would let two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason: Any = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({reason}): choose another --port or --host"
        ) from error
    return listening

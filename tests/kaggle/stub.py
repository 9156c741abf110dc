"""A stub of Kaggle for tests, which the real client talks to when this is its proxy.

It keeps datasets, kernels and submissions as Kaggle does (a dataset becomes ready after some looks, a kernel goes from
queued to running to complete, a submission from pending to complete), can be made to fail in each way, and refuses
CONNECT, so that nothing can reach the real hosts. Standard library only.
"""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.kaggle.stub_code import USER, CodeCalls, Files

__all__ = ["TOKEN", "USER", "Files", "Stub"]
TOKEN = "planted-token-5f1e"  # (looked for in everything that is written)


@dataclass
class Fault:
    """What goes wrong with a call, `times` times: an HTTP status with a message, or the connection.

    `lost`: it is done, and the reply is lost · `reset`: it is not done, and no reply comes · `truncated`: half of the
    body comes · `html`: a page instead of JSON · `slow`: it takes a second · `inside`: an error `code` within an answer
    that says 200 · `json`: the message is the answer.
    """

    kind: int | str
    message: str = "injected"
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Kernel:
    """A kernel's versions: the source of each, and what came of running it."""

    sources: list[str] = field(default_factory=list)
    lag: int = 0  # looks that do not show the newest yet
    requests: list[dict[str, Any]] = field(default_factory=list)
    looks: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    results: dict[int, tuple[int, str, Files]] = field(default_factory=dict)


class Stub(CodeCalls):
    """The server; `with Stub(...) as stub` runs it.

    `run_kernel(source, mounts)` gives a kernel's exit code, log and output files; `mounts` has the files of the
    datasets and models that it attaches (`CodeCalls.mounts`).
    """

    def __init__(self, run_kernel: Callable[[str, dict[str, Files]], tuple[int, str, Files]] | None = None) -> None:
        super().__init__()
        self.run_kernel = run_kernel or (lambda source, datasets: (0, "nothing was run", {}))
        self.calls: list[str] = []
        self.connects: list[str] = []
        self.waited: list[float] = []  # seconds, slept by a client whose sleep appends here
        self.leaks: list[str] = []  # storage addresses, which are others' servers, to which the token was sent
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.datasets: dict[str, dict[str, Any]] = {}
        self.kernels: dict[str, Kernel] = {}
        self.submissions: list[dict[str, Any]] = []
        self.blobs: dict[str, tuple[str, bytes]] = {}
        self.downloads: Files = {}
        self.competition = {"userHasEntered": True, "submissionsDisabled": False, "isKernelsSubmissionsOnly": False}
        self.limits = {"numAllowedNow": 5}
        self.score: Callable[[bytes], str] = lambda content: "0.95"
        self.lag = 0  # looks at a list (of submissions, or of a kernel's versions) that does not show the newest yet
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": self}))
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        """Of the server, for use as a proxy."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Stub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """The variables that bring the real client here, logged in, with nothing of this machine's own."""
        home.mkdir(parents=True, exist_ok=True)
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": TOKEN,
            "HTTP_PROXY": self.address,
            "HTTPS_PROXY": self.address,
            "http_proxy": self.address,
            "https_proxy": self.address,
            "NO_PROXY": "",
            "no_proxy": "",
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "TMPDIR": str(home),
        }

    def fail(self, method: str, kind: int | str, message: str = "injected", times: int = 1, **headers: str) -> None:
        """Let the next call(s) of a method fail: `SaveKernel`, `CreateSubmission`, `PUT`, `GET` ..."""
        self.faults[method].append(Fault(kind, message, times, headers))

    def count(self, method: str) -> int:
        """How often a method was called."""
        return self.calls.count(method)

    # What each call does; `fields` is its JSON, the answer is JSON or (status, message).

    def introspect_token(self, fields: dict[str, Any]) -> Any:
        return {"active": fields.get("token") == TOKEN, "username": USER}

    def get_competition(self, fields: dict[str, Any]) -> Any:
        return {"ref": fields["competitionName"], **self.competition}

    def get_submission_limits(self, fields: dict[str, Any]) -> Any:
        count = len(self.submissions)
        return {"numToday": count, "numTotal": count, **self.limits}

    def get_accelerator_quota_statistics(self, fields: dict[str, Any]) -> Any:
        quota = {"timeUsed": "3600s", "totalTimeAllowed": "108000s"}
        return {"gpuQuota": quota, "tpuQuota": quota}

    def get_dataset_status(self, fields: dict[str, Any]) -> Any:
        dataset = self.datasets.get(f"{fields['ownerSlug']}/{fields['datasetSlug']}")
        if dataset is None:
            return 403, "Permission 'datasets.get' was denied"
        dataset["looks"] += 1
        if dataset["pending"] and dataset["looks"] > 1:
            dataset["files"], dataset["pending"] = dataset["pending"], None
            dataset["version"] += 1
        return {"status": "ready" if dataset["version"] else "blobs_received"}

    def get_dataset(self, fields: dict[str, Any]) -> Any:
        dataset = self.datasets.get(f"{fields['ownerSlug']}/{fields['datasetSlug']}")
        return (404, "no such dataset") if dataset is None else {"currentVersionNumber": dataset["version"]}

    def list_dataset_files(self, fields: dict[str, Any]) -> Any:
        dataset = self.datasets.get(f"{fields['ownerSlug']}/{fields['datasetSlug']}")
        if dataset is None:
            return 404, "no such dataset"
        names, start = sorted(dataset["files"]), int(fields.get("pageToken") or 0)
        page: dict[str, Any] = {"datasetFiles": [{"name": name} for name in names[start : start + 1]]}  # one a page
        return page | ({"nextPageToken": str(start + 1)} if start + 1 < len(names) else {})

    def start_blob_upload(self, fields: dict[str, Any]) -> Any:
        token = f"blob{len(self.blobs)}"
        self.blobs[token] = (fields["name"], b"")
        return {"token": token, "createUrl": f"{self.address}/up/{token}"}

    def create_dataset(self, fields: dict[str, Any]) -> Any:
        ref = f"{fields['ownerSlug']}/{fields['slug']}"
        if ref in self.datasets:
            return {"status": "error", "error": "already in use"}
        self.datasets[ref] = {"files": {}, "version": 0, "looks": 0, "private": fields.get("isPrivate")}
        return self._next_version(ref, fields["files"])

    def create_dataset_version(self, fields: dict[str, Any]) -> Any:
        return self._next_version(f"{fields['ownerSlug']}/{fields['datasetSlug']}", fields["body"]["files"])

    def _next_version(self, ref: str, sent: list[dict[str, str]]) -> Any:
        self.datasets[ref] |= {"pending": dict(self.blobs[file["token"]] for file in sent), "looks": 0}
        return {"status": "ok", "url": f"https://www.kaggle.com/datasets/{ref}"}

    def save_kernel(self, fields: dict[str, Any]) -> Any:
        kernel = self.kernels.setdefault(fields["slug"], Kernel())
        kernel.sources.append(fields["text"])
        kernel.lag = self.lag
        kernel.requests.append(fields)
        missing = [
            ref for ref in fields.get("datasetDataSources", []) if ref.startswith(USER) and ref not in self.datasets
        ]
        return {
            "ref": f"/code/{fields['slug']}",
            "url": f"https://www.kaggle.com/code/{fields['slug']}",
            "versionNumber": len(kernel.sources),
            "invalidDatasetSources": missing,
            "invalidModelSources": self.unattached_models(fields),
        }

    def get_kernel(self, fields: dict[str, Any]) -> Any:
        kernel = self.kernels.get(f"{fields['userName']}/{fields['kernelSlug']}")
        newest = 0 if kernel is None else len(kernel.sources) - (kernel.lag > 0)
        if kernel is None or not newest:
            if kernel:
                kernel.lag -= 1
            return 404, "Notebook not found"
        kernel.lag = max(0, kernel.lag - 1)
        version = int(str(fields.get("versionLabel", f"v{newest}")).removeprefix("v"))
        if not 1 <= version <= newest:
            return 404, "no such version"
        blob = {
            "source": kernel.sources[version - 1],
            "language": "python",
            "kernelType": "script",
            "slug": fields["kernelSlug"],
        }
        return {"metadata": {"currentVersionNumber": newest}, "blob": blob}

    def get_kernel_session_status(self, fields: dict[str, Any]) -> Any:
        kernel = self.kernels.get(f"{fields['userName']}/{fields['kernelSlug']}")
        if kernel is None:
            return 403, "Permission 'kernels.get' was denied"
        version = int(str(fields.get("versionLabel", f"v{len(kernel.sources)}")).removeprefix("v"))
        kernel.looks[version] += 1
        if kernel.looks[version] < 3:
            return {"status": "queued" if kernel.looks[version] == 1 else "running"}
        if version not in kernel.results:
            mounts = self.mounts(kernel.requests[version - 1])
            kernel.results[version] = self.run_kernel(kernel.sources[version - 1], mounts)
        code, _, _ = kernel.results[version]
        return {"status": "complete"} if code == 0 else {"status": "error", "failureMessage": f"exit code {code}"}

    def list_kernel_session_output(self, fields: dict[str, Any]) -> Any:
        ref = f"{fields['userName']}/{fields['kernelSlug']}"
        version = int(str(fields["versionLabel"]).removeprefix("v"))
        _, log, output = self.kernels[ref].results[version]
        names, start = sorted(output), int(fields.get("pageToken") or 0)
        shown = names[start : start + 2]  # two a page, so that paging is used
        for name in shown:
            self.downloads[f"/out/{ref}/{version}/{name}"] = output[name]
        page: dict[str, Any] = {
            "files": [{"url": f"{self.address}/out/{ref}/{version}/{name}", "fileName": name} for name in shown],
            "log": json.dumps([{"stream_name": "stdout", "time": 0.1, "data": log}]),
        }
        return page | ({"nextPageToken": str(start + 2)} if start + 2 < len(names) else {})

    def start_submission_upload(self, fields: dict[str, Any]) -> Any:
        token = f"blob{len(self.blobs)}"
        self.blobs[token] = (fields["fileName"], b"")
        return {"token": token, "createUrl": f"{self.address}/up/{token}"}

    def create_submission(self, fields: dict[str, Any]) -> Any:
        name, content = self.blobs[fields["blobFileTokens"]]
        entry = {
            "ref": len(self.submissions) + 1,
            "fileName": name,
            "status": "pending",
            "looks": 0,
            "lag": self.lag,
            "content": content,
        }
        self.submissions.append(entry | {"description": fields.get("submissionDescription", "")})
        return {"message": "Successfully submitted", "ref": entry["ref"]}

    def download_data_file(self, fields: dict[str, Any]) -> Any:
        return f"/files/{fields['competitionName']}/{fields['fileName']}"

    def download_data_files(self, fields: dict[str, Any]) -> Any:
        return f"/files/{fields['competitionName']}.zip"

    def download_dataset(self, fields: dict[str, Any]) -> Any:
        return f"/files/{fields['ownerSlug']}/{fields['datasetSlug']}.zip"

    def get_submission(self, fields: dict[str, Any]) -> Any:
        entry = next((entry for entry in self.submissions if entry["ref"] == fields.get("ref")), None)
        return (404, "no such submission") if entry is None or self._is_hidden(entry) else self._listed(entry)

    def list_submissions(self, fields: dict[str, Any]) -> Any:
        start = int(fields.get("pageToken") or 0)
        entries = [entry for entry in reversed(self.submissions) if not self._is_hidden(entry)]
        page: dict[str, Any] = {"submissions": [self._listed(entry) for entry in entries[start : start + 2]]}
        return page | ({"nextPageToken": str(start + 2)} if start + 2 < len(entries) else {})

    def _is_hidden(self, entry: dict[str, Any]) -> bool:
        entry["lag"] -= 1
        return entry["lag"] >= 0

    def _listed(self, entry: dict[str, Any]) -> dict[str, Any]:
        entry["looks"] += 1
        if entry["looks"] > 2 and entry["status"] == "pending":
            entry |= self.scored(entry)
        return {key: value for key, value in entry.items() if key not in ("looks", "lag", "content", "code", "log")}


class _Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer goes out in two pieces, of which the second would wait for 40 ms

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_CONNECT(self) -> None:
        self.stub.connects.append(self.path)
        self.send_error(403, "this proxy leads nowhere")

    def do_POST(self) -> None:
        method = urlsplit(self.path).path.rsplit("/", 1)[-1]
        fields = json.loads(self._body() or b"{}")
        self._serve(method, lambda: self._api(method, fields))

    def do_PUT(self) -> None:
        token, body = self.path.rsplit("/", 1)[-1], self._body()

        def put() -> tuple[int, bytes, str]:
            self.stub.blobs[token] = (self.stub.blobs[token][0], body)
            return 200, b"", "text/plain"

        self._serve("PUT", put)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path

        def get() -> tuple[int, bytes, str]:
            if path in self.stub.downloads:
                content = self.stub.downloads[path]
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                if start >= len(content) > 0:
                    return 416, b"", "text/plain"
                return 206 if start else 200, content[start:], "application/octet-stream"
            return 404, b"<html>not found</html>", "text/html"

        self._serve("GET", get)

    def _api(self, method: str, fields: dict[str, Any]) -> tuple[int, bytes, str]:
        name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method).strip("_")
        call = getattr(self.stub, name, None)
        answer = (404, f"no method {method}") if call is None else call(fields)
        if isinstance(answer, str):  # where a file is
            return 302, answer.encode(), "text/plain"
        status, content = (
            (answer[0], {"code": answer[0], "message": answer[1]}) if isinstance(answer, tuple) else (200, answer)
        )
        return status, json.dumps(content).encode(), "application/json"

    def _serve(self, method: str, work: Callable[[], tuple[int, bytes, str]]) -> None:
        with self.stub.lock:
            self.stub.calls.append(method)
            if method in ("GET", "PUT") and self.headers.get("Authorization"):
                self.stub.leaks.append(f"{method} {self.path}")
            faults = self.stub.faults[method]
            fault = faults[0] if faults else None
            if fault:
                fault.times -= 1
                if fault.times <= 0:
                    faults.pop(0)
            if fault and fault.kind == "pass":
                fault = None
            if fault and fault.kind == "reset":
                return self._hang_up()
            if fault and fault.kind == "inside":  # as Kaggle sometimes does: an error in an answer that says 200
                body = json.dumps({"code": int(fault.headers["code"]), "message": fault.message}).encode()
                return self._answer(200, body, "application/json", {})
            if fault and fault.kind == "json":
                return self._answer(200, fault.message.encode(), "application/json", {})
            if fault and isinstance(fault.kind, int):
                body = json.dumps({"code": fault.kind, "message": fault.message}).encode()
                return self._answer(fault.kind, body, "application/json", fault.headers)
            status, body, kind = work()
        if fault and fault.kind == "lost":
            return self._hang_up()
        if fault and fault.kind == "slow":
            time.sleep(1.0)
        if fault and fault.kind == "html":
            status, body, kind = 200, b"<html>maintenance</html>", "text/html"
        self._answer(status, body, kind, {}, cut=bool(fault and fault.kind == "truncated"))
        return None

    def _answer(self, status: int, body: bytes, kind: str, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        if status == 302:
            headers, body = {"Location": f"{self.stub.address}{body.decode()}"}, b""
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        with suppress(BrokenPipeError, ConnectionResetError):  # by a client that waits no longer
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(2)

    def _body(self) -> bytes:
        if hasattr(socket, "TCP_QUICKACK"):  # behind a proxy urllib3 sends the body only when the head is acknowledged
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

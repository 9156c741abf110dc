"""Kaggle's API, through the SDK of its own client (the `kaggle` package).

The SDK's requests are used, not the functions behind the client's command line: those take an error page for a file and
a refusal for success. kit.kaggle.http decides what is retried; a request that changes something is sent once.
"""

import contextlib
import io
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kit import files
from kit.kaggle import requests
from kit.kaggle.http import (
    KaggleError,
    Unanswered,
    UnknownValue,
    default_timeouts,
    fetch,
    is_read,
    readable_errors,
    retrying_adapter,
    upload,
)
from kit.runtime.session import LOGIN


@dataclass(frozen=True)
class PushedVersion:
    """A pushed version of a kernel: its number, and the sources that Kaggle could not attach."""

    version: int
    unattached: tuple[str, ...]


@dataclass(frozen=True)
class ListedSubmission:
    """A submission on Kaggle's list: its number, state (pending, complete, error), description, scores and error."""

    ref: int
    state: str
    description: str
    public: float | None
    private: float | None
    error: str


class Kaggle:
    """A logged-in client; `user` owns what is created with it."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Log in as Kaggle's client does; raises KaggleError when it is not installed or finds no valid login."""
        require_client()
        self._sleep = sleep
        self._connect()

    def renew(self) -> None:
        """Log in again, as a login may last only hours; a failure is ignored."""
        with contextlib.suppress(KaggleError):
            self._connect()

    def competition(self, slug: str) -> Any:
        """The competition's facts (SDK's ApiCompetition)."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest

        return self._call(
            self._client.competitions.competition_api_client.get_competition,
            ApiGetCompetitionRequest,
            competition_name=slug,
        )

    def submissions_left(self, slug: str) -> int:
        """How many submissions are allowed now; 0 also for users who have not joined."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionLimitsRequest

        api = self._client.competitions.competition_api_client
        limits = self._call(api.get_submission_limits, ApiGetSubmissionLimitsRequest, competition_name=slug)
        return int(limits.num_allowed_now)

    def hours_left(self, accelerator: str) -> float | None:
        """Hours of the week's quota of `gpu` or `tpu`; None where Kaggle does not say."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest

        api = self._client.kernels.kernels_api_client
        statistics = self._call(api.get_accelerator_quota_statistics, ApiGetAcceleratorQuotaStatisticsRequest)
        quota = getattr(statistics, f"{accelerator}_quota", None)
        if quota is None or quota.total_time_allowed is None:
            return None
        return (quota.total_time_allowed - (quota.time_used or timedelta(0))).total_seconds() / 3600

    def dataset_state(self, ref: str) -> tuple[str, int] | None:
        """(state, current version) of a dataset `owner/slug`; None where there is none, or it cannot be seen."""
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiGetDatasetStatusRequest

        owner, slug = ref.split("/")
        api = self._client.datasets.dataset_api_client
        try:
            answer = self._call(api.get_dataset_status, ApiGetDatasetStatusRequest, owner_slug=owner, dataset_slug=slug)
            dataset = self._call(api.get_dataset, ApiGetDatasetRequest, owner_slug=owner, dataset_slug=slug)
        except KaggleError as error:
            if error.status in (403, 404):
                return None
            raise
        state = str(getattr(answer.status, "name", answer.status)).lower()
        return state, int(dataset.current_version_number or 0)

    def dataset_files(self, ref: str) -> list[str]:
        """The names of the files of a dataset's current version; none where there is no such dataset."""
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

        owner, slug = ref.split("/")
        api, token, names = self._client.datasets.dataset_api_client, "", []
        while True:
            fields = {"owner_slug": owner, "dataset_slug": slug, "page_token": token, "page_size": 200}
            try:
                page = self._call(api.list_dataset_files, ApiListDatasetFilesRequest, **fields)
            except KaggleError as error:
                if error.status in (403, 404):
                    return []
                raise
            names += [file.name for file in page.dataset_files or []]
            token = page.next_page_token or ""
            if not token:
                return names

    def upload_dataset(self, ref: str, title: str, paths: list[Path], notes: str, new: bool) -> None:
        """Create the private dataset `ref` from these files, or (not `new`) its next version; it is ready later.

        Raises Unanswered when the last request's answer was lost.
        """
        tokens = []
        for path in paths:
            start = self._send(self._client.blobs.blob_api_client.start_blob_upload, requests.start_upload(path))
            upload(self._session, start.create_url, path, self._sleep)
            tokens.append(start.token)
        datasets = self._client.datasets.dataset_api_client
        if new:
            answer = self._send(datasets.create_dataset, requests.create_dataset(ref, title, tokens))
        else:
            request = requests.create_dataset_version(ref, notes, tokens)
            answer = self._send(datasets.create_dataset_version, request)
        if answer.error or str(answer.status).lower() not in ("ok", "none", ""):
            raise KaggleError(f"Kaggle did not accept the dataset {ref}: {answer.error or answer.status}")

    def push(self, metadata: dict[str, Any], source: str, timeout: int | None = None) -> PushedVersion:
        """Save and run a new version of a kernel; `metadata` is that of `kernel-metadata.json`, `timeout` in seconds.

        Raises Unanswered when the answer was lost.
        """
        request = requests.save_kernel(metadata, source, timeout)
        answer = self._send(self._client.kernels.kernels_api_client.save_kernel, request)
        if answer.error:
            raise KaggleError(f"Kaggle did not accept the kernel {metadata['id']}: {answer.error}")
        kinds = ("dataset", "competition", "kernel", "model")
        bad = [f"{kind} {name}" for kind in kinds for name in getattr(answer, f"invalid_{kind}_sources", None) or []]
        if not answer.version_number:
            raise Unanswered("Kaggle accepted the kernel but did not say which version it is")
        return PushedVersion(int(answer.version_number), tuple(bad))

    def kernel(self, ref: str) -> tuple[int, str] | None:
        """(number, source) of a kernel's newest version; None where there is no such kernel, or it cannot be seen."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

        owner, slug = ref.split("/")
        api = self._client.kernels.kernels_api_client
        try:
            kernel = self._call(api.get_kernel, ApiGetKernelRequest, user_name=owner, kernel_slug=slug)
        except KaggleError as error:
            if error.status in (403, 404):
                return None
            raise
        return int(kernel.metadata.current_version_number or 0), kernel.blob.source or ""

    def kernel_state(self, ref: str, version: int) -> tuple[str, str]:
        """(state, why it failed) of that version: queued, running, complete, error ...; `unknown` to this client."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        owner, slug = ref.split("/")
        api = self._client.kernels.kernels_api_client
        fields = {"user_name": owner, "kernel_slug": slug, "version_label": f"v{version}"}
        try:
            answer = self._call(api.get_kernel_session_status, ApiGetKernelSessionStatusRequest, **fields)
        except UnknownValue:
            return "unknown", ""
        return answer.status.name.lower(), answer.failure_message or ""

    def kernel_output(
        self, ref: str, version: int, folder: Path, accepts: Callable[[str], bool] = lambda name: True
    ) -> str:
        """Download a version's output files whose name `accepts` likes, each whole or not at all; returns its log."""
        log = ""
        for page in self._output_pages(ref, version):
            for file in page.files or []:
                path = inside(folder, file.file_name)
                if accepts(file.file_name) and not path.exists():
                    self.fetch(file.url, path)
            log = log or page.log or ""
        return log

    def kernel_log(self, ref: str, version: int) -> str:
        """A version's log; empty where there is none yet."""
        return next((page.log for page in self._output_pages(ref, version) if page.log), "")

    def competition_archive(self, slug: str) -> tuple[str, int | None]:
        """(address, bytes) of the archive of all files of a competition, or of a dataset (`owner/name`)."""
        if "/" in slug:
            from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

            owner, name = slug.split("/")
            datasets = self._client.datasets.dataset_api_client
            answer = self._call(
                datasets.download_dataset, ApiDownloadDatasetRequest, owner_slug=owner, dataset_slug=name
            )
        else:
            from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

            api = self._client.competitions.competition_api_client
            answer = self._call(api.download_data_files, ApiDownloadDataFilesRequest, competition_name=slug)
        with answer:  # only for its address: the body is not read
            size = answer.headers.get("Content-Length")
            return answer.url, int(size) if size else None

    def competition_file(self, slug: str, name: str, path: Path) -> None:
        """Download one of a competition's files, unpacked where Kaggle sends it zipped."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFileRequest

        api = self._client.competitions.competition_api_client
        fields = {"competition_name": slug, "file_name": name}
        with self._call(api.download_data_file, ApiDownloadDataFileRequest, **fields) as answer:
            url = answer.url
        download = path.with_name(f"{path.name}.sent")
        self.fetch(url, download)
        if zipfile.is_zipfile(download):
            with zipfile.ZipFile(download) as archive, files.replacing(path) as part:
                part.write_bytes(archive.read(archive.namelist()[0]))
            download.unlink()
        else:
            download.replace(path)

    def submit(self, slug: str, path: Path, description: str) -> int:
        """Submit a file; returns the submission's number, 0 where Kaggle gives none.

        Raises Unanswered when the last answer was lost: look for the description on the list.
        """
        api = self._client.competitions.competition_api_client
        start = self._send(api.start_submission_upload, requests.start_upload(path, slug))
        upload(self._session, start.create_url, path, self._sleep)
        request = requests.create_submission(slug, start.token, description)
        return int(self._send(api.create_submission, request).ref or 0)

    def submissions(self, slug: str) -> list[ListedSubmission]:
        """The newest submissions to a competition."""
        from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

        api = self._client.competitions.competition_api_client
        answer = self._call(api.list_submissions, ApiListSubmissionsRequest, competition_name=slug, page=1)
        return [
            ListedSubmission(
                int(entry.ref),
                entry.status.name.lower(),
                entry.description or "",
                _score(entry.public_score),
                _score(entry.private_score),
                entry.error_description or "",
            )
            for entry in answer.submissions or []
        ]

    def fetch(self, url: str, path: Path, size: int | None = None) -> None:
        """Download an address into a file (`kit.kaggle.http.fetch`)."""
        fetch(self._session, url, path, self._sleep, size)

    def _output_pages(self, ref: str, version: int) -> Iterator[Any]:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest as Request

        owner, slug = ref.split("/")
        api, token = self._client.kernels.kernels_api_client, ""
        fields = {"user_name": owner, "kernel_slug": slug, "version_label": f"v{version}", "page_size": 100}
        while True:
            page = self._call(api.list_kernel_session_output, Request, page_token=token, **fields)
            yield page
            token = page.next_page_token or ""
            if not token:
                return

    def _connect(self) -> None:
        for left in reversed(range(3)):
            try:
                with readable_errors(sending=False), default_timeouts():
                    api = _authenticated()
                break
            except KaggleError as error:
                if not left or (error.status or 500) < 500:  # no login, or a wrong one
                    raise
                self._sleep(5)
        self.user = str(api.config_values.get("username") or "")
        client = api.build_kaggle_client()
        http = client.http_client()
        http._init_session()
        for scheme in ("http://", "https://"):
            http._session.mount(scheme, retrying_adapter(self._sleep))
        self._client, self._session = client, http._session

    def _call(self, method: Callable[[Any], Any], request_type: type, **values: Any) -> Any:
        return self._send(method, requests.filled(request_type, **values))

    def _send(self, method: Callable[[Any], Any], request: Any) -> Any:
        name = "".join(part.title() for part in method.__name__.split("_"))
        with readable_errors(sending=not is_read(name)):
            return method(request)


def require_client() -> None:
    """Raise KaggleError where Kaggle's client is not installed."""
    if not (find_spec("kaggle") and find_spec("kagglesdk")):
        raise KaggleError("Kaggle's client is needed: pip install 'kit[kaggle]'")


def inside(folder: Path, name: str) -> Path:
    """The path of a file below `folder`, named by somebody else; raises KaggleError for a name that leads outside."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise KaggleError(f"refused a file named {name!r}: it would be written outside {folder}")
    return path


def _authenticated() -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints a page of help where there is no login
            try:
                from kaggle.api.kaggle_api_extended import KaggleApi
            except SystemExit:  # up to 2.2.3
                KaggleApi = sys.modules["kaggle.api.kaggle_api_extended"].KaggleApi
            api = KaggleApi()
            api.authenticate()
    except ImportError as error:
        raise KaggleError(f"Kaggle's client is needed: pip install 'kit[kaggle]' ({error})", 401) from error
    except SystemExit as error:
        raise KaggleError(f"not logged in to Kaggle: {LOGIN}", 401) from error
    return api


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None

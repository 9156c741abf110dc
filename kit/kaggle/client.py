"""Kaggle's API, through the SDK of its own client (the `kaggle` package).

The SDK's requests are used, not the functions behind the client's command line: those take an error page for a file and
a refusal for success. kit.kaggle.http decides what is retried; a request that changes something is sent once. Answers
are read by kit.kaggle.answers within `readable_errors`: one of another shape is one error that names the call.
"""

import contextlib
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit import files
from kit.kaggle import answers, requests
from kit.kaggle.answers import CompetitionFacts, ListedSubmission, PushedVersion, SubmissionCount
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
from kit.kaggle.login import logged_in, require_client

_MOST_PAGES = 1000  # of a list
_LARGEST_FILE = 2**31  # bytes of a sample submission
_HIDDEN = (403, 404)  # HTTP statuses of what is not there, or not ours to see


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

    def competition(self, slug: str) -> CompetitionFacts:
        """Whether the user has joined the competition, and whether it takes files."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetCompetitionRequest as Request

        return self._call(self._competitions.get_competition, Request, answers.competition, competition_name=slug)

    def submission_count(self, slug: str) -> SubmissionCount:
        """How many submissions there are, and how many are left; zeros also for users who have not joined."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionLimitsRequest as Request

        method = self._competitions.get_submission_limits
        return self._call(method, Request, answers.submission_count, competition_name=slug)

    def submissions_left(self, slug: str) -> int:
        """How many submissions are allowed now; 0 also for users who have not joined."""
        return self.submission_count(slug).left

    def hours_left(self, accelerator: str) -> float | None:
        """Hours of the week's quota of `gpu` or `tpu`; None where Kaggle does not say."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest as Request

        method = self._kernels.get_accelerator_quota_statistics
        return self._call(method, Request, lambda answer: answers.hours_left(answer, accelerator))

    def dataset_state(self, ref: str) -> tuple[str, int] | None:
        """(state, current version) of a dataset `owner/slug`; None where there is none, or it cannot be seen."""
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiGetDatasetStatusRequest

        api, fields = self._datasets, _dataset_fields(ref)
        try:
            state = self._call(api.get_dataset_status, ApiGetDatasetStatusRequest, answers.dataset_state, **fields)
            version = self._call(
                api.get_dataset,
                ApiGetDatasetRequest,
                lambda dataset: int(dataset.current_version_number or 0),
                **fields,
            )
        except KaggleError as error:
            if error.status in _HIDDEN:
                return None
            raise
        return state, version

    def dataset_files(self, ref: str) -> list[str]:
        """The names of the files of a dataset's current version; none where there is no such dataset."""
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest as Request

        fields = {**_dataset_fields(ref), "page_size": 200}
        try:
            pages = self._pages(self._datasets.list_dataset_files, Request, answers.dataset_files, **fields)
            return [name for page in pages for name in page]
        except KaggleError as error:
            if error.status in _HIDDEN:
                return []
            raise

    def upload_dataset(self, ref: str, title: str, paths: list[Path], notes: str, new: bool) -> None:
        """Create the private dataset `ref` from these files, or (not `new`) its next version; it is ready later.

        Raises Unanswered when the last request's answer was lost.
        """
        tokens = [self._upload(self._client.blobs.blob_api_client.start_blob_upload, path) for path in paths]
        if new:
            method, request = self._datasets.create_dataset, requests.create_dataset(ref, title, tokens)
        else:
            method = self._datasets.create_dataset_version
            request = requests.create_dataset_version(ref, notes, tokens)
        if refusal := self._send(method, request, answers.dataset_refusal):
            raise KaggleError(f"Kaggle did not accept the dataset {ref}: {refusal}")

    def push(self, metadata: dict[str, Any], source: str, timeout: int | None = None) -> PushedVersion:
        """Save and run a new version of a kernel; `metadata` is that of `kernel-metadata.json`, `timeout` in seconds.

        Raises Unanswered when the answer was lost.
        """
        request = requests.save_kernel(metadata, source, timeout)
        refusal, pushed = self._send(self._kernels.save_kernel, request, answers.pushed)
        if refusal:
            raise KaggleError(f"Kaggle did not accept the kernel {metadata['id']}: {refusal}")
        if not pushed.version:
            raise Unanswered("Kaggle accepted the kernel but did not say which version it is")
        return pushed

    def kernel(self, ref: str, version: int | None = None) -> tuple[int, str] | None:
        """(number, source) of a kernel's newest version; None where there is no such kernel, or it cannot be seen.

        With `version`, the source is that version's; raises KaggleError where the installed client cannot ask for it.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest as Request

        if version and not hasattr(Request, "version_label"):
            raise KaggleError(
                "this version of Kaggle's client cannot look at older versions: pip install -U kaggle six"
            )
        label = f"v{version}" if version else None
        fields = {**_kernel_fields(ref), "version_label": label}
        try:
            return self._call(self._kernels.get_kernel, Request, answers.kernel, **fields)
        except KaggleError as error:
            if error.status in _HIDDEN:
                return None
            raise

    def kernel_state(self, ref: str, version: int) -> tuple[str, str]:
        """(state, why it failed) of that version: queued, running, complete, error ...; `unknown` to this client."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest as Request

        fields = {**_kernel_fields(ref), "version_label": f"v{version}"}
        try:
            return self._call(self._kernels.get_kernel_session_status, Request, answers.kernel_state, **fields)
        except UnknownValue:
            return "unknown", ""

    def kernel_output(
        self, ref: str, version: int, folder: Path, accepts: Callable[[str], bool] = lambda name: True
    ) -> str:
        """Download a version's output files whose name `accepts` likes, each whole or not at all; returns its log."""
        log = ""
        for page_log, page in self._output_pages(ref, version):
            for name, url in page:
                path = inside(folder, name)
                if accepts(name) and not path.exists():
                    self.fetch(url, path)
            log = log or page_log
        return log

    def kernel_log(self, ref: str, version: int) -> str:
        """A version's log; empty where there is none yet."""
        return next((log for log, _ in self._output_pages(ref, version) if log), "")

    def competition_archive(self, slug: str) -> tuple[str, int | None]:
        """(address, bytes) of the archive of all files of a competition, or of a dataset (`owner/name`)."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        if "/" in slug:
            method, request = self._datasets.download_dataset, ApiDownloadDatasetRequest
            return self._call(method, request, answers.download_address, **_dataset_fields(slug))
        method, request = self._competitions.download_data_files, ApiDownloadDataFilesRequest
        return self._call(method, request, answers.download_address, competition_name=slug)

    def competition_file(self, slug: str, name: str, path: Path) -> None:
        """Download one of a competition's files, unpacked where Kaggle sends it zipped.

        Raises KaggleError for an archive that cannot be read, or is far larger than it seems.
        """
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFileRequest as Request

        fields = {"competition_name": slug, "file_name": name}
        url, _ = self._call(self._competitions.download_data_file, Request, answers.download_address, **fields)
        download = path.with_name(f"{path.name}.sent")
        self.fetch(url, download)
        if not zipfile.is_zipfile(download):
            download.replace(path)
            return
        try:
            with zipfile.ZipFile(download) as archive:
                entry = archive.infolist()[0]
                if entry.file_size > _LARGEST_FILE:
                    raise ValueError(f"{entry.file_size} bytes unpacked")
                content = archive.read(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, IndexError, ValueError, RuntimeError, OSError) as error:
            raise KaggleError(f"Kaggle sent {name} in an archive that cannot be read ({error}): try again") from error
        finally:
            download.unlink()
        with files.replacing(path) as part:
            part.write_bytes(content)

    def submit(self, slug: str, path: Path, description: str, before_sending: Callable[[], None] = lambda: None) -> int:
        """Submit a file; returns the submission's number, 0 where Kaggle gives none.

        `before_sending` is called when only the request that submits is left. Raises Unanswered when its answer was
        lost: look for the description on the list.
        """
        token = self._upload(self._competitions.start_submission_upload, path, slug)
        before_sending()
        request = requests.create_submission(slug, token, description)
        return self._send(self._competitions.create_submission, request, lambda answer: max(0, int(answer.ref or 0)))

    def submission(self, ref: int) -> ListedSubmission | None:
        """The submission of that number; None where it cannot be seen (yet)."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest as Request

        try:
            entry = self._call(self._competitions.get_submission, Request, answers.submission, ref=ref)
        except KaggleError as error:
            if error.status in _HIDDEN:
                return None
            raise
        return entry if entry.ref == ref else None

    def submissions(self, slug: str) -> list[ListedSubmission]:
        """All submissions to a competition, the newest first."""
        return list(self._each_submission(slug))

    def find_submission(self, slug: str, text: str) -> ListedSubmission | None:
        """The newest submission to a competition with that text in its description, on whichever page it is."""
        return next((entry for entry in self._each_submission(slug) if text in entry.description), None)

    def fetch(self, url: str, path: Path, size: int | None = None) -> None:
        """Download an address into a file (`kit.kaggle.http.fetch`)."""
        fetch(self._session, url, path, self._sleep, size)

    def _each_submission(self, slug: str) -> Iterator[ListedSubmission]:
        from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest as Request

        fields = {"competition_name": slug, "page": 1}
        for page in self._pages(self._competitions.list_submissions, Request, answers.submissions, **fields):
            yield from page

    def _output_pages(self, ref: str, version: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest as Request

        fields = {**_kernel_fields(ref), "version_label": f"v{version}", "page_size": 100}
        return self._pages(self._kernels.list_kernel_session_output, Request, answers.output_page, **fields)

    def _pages(
        self, method: Callable[[Any], Any], request_type: type, parse: Callable[[Any], Any], **values: Any
    ) -> Iterator[Any]:
        """A list, page by page; raises KaggleError for one that has no end."""

        def page_and_token(page: Any) -> tuple[Any, str]:
            return parse(page), str(page.next_page_token or "")

        token, tokens = "", {""}
        while len(tokens) <= _MOST_PAGES:
            page, token = self._call(method, request_type, page_and_token, page_token=token, **values)
            yield page
            if not token:
                return
            if token in tokens:
                break
            tokens.add(token)
        raise KaggleError(f"Kaggle's list has no end (nextPageToken of {_name(method)} repeats): try again later")

    def _upload(self, start: Callable[[Any], Any], path: Path, competition: str | None = None) -> str:
        """Upload a file, which has no effect yet; returns the token that names it."""
        url, token = self._send(start, requests.start_upload(path, competition), answers.upload_address)
        if not (url and token):
            raise KaggleError(f"Kaggle's answer to {_name(start)} has no address to upload to: try again later")
        upload(self._session, url, path, self._sleep)
        return str(token)

    def _connect(self) -> None:
        for left in reversed(range(3)):
            try:
                with readable_errors(sending=False, name="IntrospectToken"), default_timeouts():
                    api = logged_in()
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
        self._competitions = client.competitions.competition_api_client
        self._datasets = client.datasets.dataset_api_client
        self._kernels = client.kernels.kernels_api_client

    def _call(
        self,
        method: Callable[[Any], Any],
        request_type: type,
        parse: Callable[[Any], Any] = lambda answer: answer,
        **values: Any,
    ) -> Any:
        return self._send(method, requests.filled(request_type, **values), parse)

    def _send(
        self, method: Callable[[Any], Any], request: Any, parse: Callable[[Any], Any] = lambda answer: answer
    ) -> Any:
        """What `parse` makes of the answer; what it raises for one of another shape becomes KaggleError."""
        name = _name(method)
        with readable_errors(sending=not is_read(name), name=name):
            return parse(method(request))


def inside(folder: Path, name: str) -> Path:
    """The path of a file below `folder`, named by somebody else; raises KaggleError for a name that leads outside."""
    refusal = KaggleError(f"refused a file named {name!r}: it would be written outside {folder}")
    try:
        path = (folder / name).resolve()
    except ValueError as error:  # a NUL
        raise refusal from error
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise refusal
    return path


def _name(method: Callable[[Any], Any]) -> str:
    """The call's name, `GetKernel`."""
    return "".join(part.title() for part in method.__name__.split("_"))


def _kernel_fields(ref: str) -> dict[str, Any]:
    owner, slug = ref.split("/")
    return {"user_name": owner, "kernel_slug": slug}


def _dataset_fields(ref: str) -> dict[str, Any]:
    owner, slug = ref.split("/")
    return {"owner_slug": owner, "dataset_slug": slug}

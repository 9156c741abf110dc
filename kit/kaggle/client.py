"""What the kit asks of Kaggle, through the SDK of its own client (the `kaggle` package).

The SDK's requests are used, not the functions behind the client's command line: those take an error page for a file and
a refusal for success. kit.kaggle.http says what is tried again; a request that changes something is sent once.
"""

import contextlib
import io
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kit import files
from kit.kaggle.http import KaggleError, NewWord, Unanswered, fetch, is_read, patient, plain_words, time_outs, upload
from kit.runtime.session import LOGIN


@dataclass(frozen=True)
class Pushed:
    """A version of a kernel that was pushed: its number, and what it asked for that Kaggle could not attach."""

    version: int
    unattached: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A submission on the list: its number, state (pending, complete, error), what was said of it, and its scores."""

    ref: int
    state: str
    description: str
    public: float | None
    private: float | None
    error: str


class Kaggle:
    """A logged-in client; `user` is the owner of what is made."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Log in as Kaggle's client does; raises KaggleError when it is not installed or finds no valid login."""
        require_client()
        self._sleep = sleep
        self._connect()

    def renew(self) -> None:
        """Log in again, after a login that lasts for some hours only; nothing happens where that fails."""
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
        """How many submissions are allowed now; 0 also for who has not joined."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionLimitsRequest

        api = self._client.competitions.competition_api_client
        found = self._call(api.get_submission_limits, ApiGetSubmissionLimitsRequest, competition_name=slug)
        return int(found.num_allowed_now)

    def hours_left(self, accelerator: str) -> float | None:
        """Hours of the week's quota of `gpu` or `tpu`; None where Kaggle does not say."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetAcceleratorQuotaStatisticsRequest

        api = self._client.kernels.kernels_api_client
        found = self._call(api.get_accelerator_quota_statistics, ApiGetAcceleratorQuotaStatisticsRequest)
        quota = getattr(found, f"{accelerator}_quota", None)
        if quota is None or quota.total_time_allowed is None:
            return None
        return (quota.total_time_allowed - (quota.time_used or timedelta(0))).total_seconds() / 3600

    def dataset_state(self, ref: str) -> tuple[str, int] | None:
        """(state, current version) of a dataset `owner/slug`; None where there is none, or it cannot be seen."""
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiGetDatasetStatusRequest

        owner, slug = ref.split("/")
        api = self._client.datasets.dataset_api_client
        try:
            state = self._call(api.get_dataset_status, ApiGetDatasetStatusRequest, owner_slug=owner, dataset_slug=slug)
            found = self._call(api.get_dataset, ApiGetDatasetRequest, owner_slug=owner, dataset_slug=slug)
        except KaggleError as error:
            if error.status in (403, 404):
                return None
            raise
        return str(getattr(state.status, "name", state.status)).lower(), int(found.current_version_number or 0)

    def dataset_files(self, ref: str) -> list[str]:
        """The names of the files of a dataset's current version; none where there is no such dataset."""
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

        owner, slug = ref.split("/")
        api, token, names = self._client.datasets.dataset_api_client, "", []
        while True:
            asked = {"owner_slug": owner, "dataset_slug": slug, "page_token": token, "page_size": 200}
            try:
                page = self._call(api.list_dataset_files, ApiListDatasetFilesRequest, **asked)
            except KaggleError as error:
                if error.status in (403, 404):
                    return []
                raise
            names += [file.name for file in page.dataset_files or []]
            token = page.next_page_token or ""
            if not token:
                return names

    def upload_dataset(self, ref: str, title: str, paths: list[Path], notes: str, new: bool) -> None:
        """Make the private dataset `ref` of these files, or (not `new`) its next version; it is not ready at once.

        Raises Unanswered when the last request's answer was lost.
        """
        tokens = []
        for path in paths:
            start = self._send(self._client.blobs.blob_api_client.start_blob_upload, start_upload(path))
            upload(self._session, start.create_url, path, self._sleep)
            tokens.append(start.token)
        datasets = self._client.datasets.dataset_api_client
        if new:
            made = self._send(datasets.create_dataset, create_dataset(ref, title, tokens))
        else:
            made = self._send(datasets.create_dataset_version, create_dataset_version(ref, notes, tokens))
        if made.error or str(made.status).lower() not in ("ok", "none", ""):
            raise KaggleError(f"Kaggle did not take the dataset {ref}: {made.error or made.status}")

    def push(self, metadata: dict[str, Any], source: str, timeout: int | None = None) -> Pushed:
        """Save and run a new version of a kernel; `metadata` is that of `kernel-metadata.json`, `timeout` in seconds.

        Raises Unanswered when the answer was lost.
        """
        made = self._send(self._client.kernels.kernels_api_client.save_kernel, save_kernel(metadata, source, timeout))
        if made.error:
            raise KaggleError(f"Kaggle did not take the kernel {metadata['id']}: {made.error}")
        kinds = ("dataset", "competition", "kernel", "model")
        bad = [f"{kind} {name}" for kind in kinds for name in getattr(made, f"invalid_{kind}_sources", None) or []]
        if not made.version_number:
            raise Unanswered("Kaggle took the kernel and did not say which version it is")
        return Pushed(int(made.version_number), tuple(bad))

    def kernel(self, ref: str) -> tuple[int, str] | None:
        """(number, source) of a kernel's newest version; None where there is no such kernel, or it cannot be seen."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelRequest

        owner, slug = ref.split("/")
        api = self._client.kernels.kernels_api_client
        try:
            found = self._call(api.get_kernel, ApiGetKernelRequest, user_name=owner, kernel_slug=slug)
        except KaggleError as error:
            if error.status in (403, 404):
                return None
            raise
        return int(found.metadata.current_version_number or 0), found.blob.source or ""

    def kernel_state(self, ref: str, version: int) -> tuple[str, str]:
        """(state, why it failed) of that version: queued, running, complete, error ...; `unknown` for a new word."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        owner, slug = ref.split("/")
        api = self._client.kernels.kernels_api_client
        asked = {"user_name": owner, "kernel_slug": slug, "version_label": f"v{version}"}
        try:
            found = self._call(api.get_kernel_session_status, ApiGetKernelSessionStatusRequest, **asked)
        except NewWord:
            return "unknown", ""
        return found.status.name.lower(), found.failure_message or ""

    def kernel_output(
        self, ref: str, version: int, folder: Path, wanted: Callable[[str], bool] = lambda name: True
    ) -> str:
        """Fetch a version's output files that are `wanted` by name, each whole or not at all; returns its log."""
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        owner, slug = ref.split("/")
        api, token, log = self._client.kernels.kernels_api_client, "", ""
        asked = {"user_name": owner, "kernel_slug": slug, "version_label": f"v{version}", "page_size": 100}
        while True:
            page = self._call(
                api.list_kernel_session_output, ApiListKernelSessionOutputRequest, page_token=token, **asked
            )
            for file in page.files or []:
                path = inside(folder, file.file_name)
                if wanted(file.file_name) and not path.exists():
                    self.fetch(file.url, path)
            log, token = log or page.log or "", page.next_page_token or ""
            if not token:
                return log

    def competition_archive(self, slug: str) -> tuple[str, int | None]:
        """(address, bytes) of the archive with all files of a competition, or of a dataset (`owner/name`)."""
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
        with answer:  # only where it leads to
            size = answer.headers.get("Content-Length")
            return answer.url, int(size) if size else None

    def competition_file(self, slug: str, name: str, path: Path) -> None:
        """Download one of a competition's files; Kaggle may send it zipped, and it is unpacked."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFileRequest

        api = self._client.competitions.competition_api_client
        asked = {"competition_name": slug, "file_name": name}
        with self._call(api.download_data_file, ApiDownloadDataFileRequest, **asked) as answer:
            url = answer.url
        sent = path.with_name(f"{path.name}.sent")
        self.fetch(url, sent)
        if zipfile.is_zipfile(sent):
            with zipfile.ZipFile(sent) as packed, files.replacing(path) as part:
                part.write_bytes(packed.read(packed.namelist()[0]))
            sent.unlink()
        else:
            sent.replace(path)

    def submit(self, slug: str, path: Path, description: str) -> int:
        """Send a submission, and return its number (0: not said).

        Raises Unanswered when the last answer was lost: look for the description on the list.
        """
        api = self._client.competitions.competition_api_client
        start = self._send(api.start_submission_upload, start_upload(path, slug))
        upload(self._session, start.create_url, path, self._sleep)
        return int(self._send(api.create_submission, create_submission(slug, start.token, description)).ref or 0)

    def submissions(self, slug: str) -> list[Submission]:
        """The newest submissions to a competition."""
        from kagglesdk.competitions.types.competition_api_service import ApiListSubmissionsRequest

        api = self._client.competitions.competition_api_client
        found = self._call(api.list_submissions, ApiListSubmissionsRequest, competition_name=slug, page=1)
        return [
            Submission(
                int(entry.ref),
                entry.status.name.lower(),
                entry.description or "",
                _score(entry.public_score),
                _score(entry.private_score),
                entry.error_description or "",
            )
            for entry in found.submissions or []
        ]

    def fetch(self, url: str, path: Path, size: int | None = None) -> None:
        """Download an address into a file (`kit.kaggle.http.fetch`)."""
        fetch(self._session, url, path, self._sleep, size)

    def _connect(self) -> None:
        for left in reversed(range(3)):
            try:
                with plain_words(sending=False), time_outs():
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
            http._session.mount(scheme, patient(self._sleep))
        self._client, self._session = client, http._session

    def _call(self, method: Callable[[Any], Any], request_type: type, **values: Any) -> Any:
        return self._send(method, _filled(request_type, **values))

    def _send(self, method: Callable[[Any], Any], request: Any) -> Any:
        name = "".join(part.title() for part in method.__name__.split("_"))
        with plain_words(sending=not is_read(name)):
            return method(request)


def require_client() -> None:
    """Raise KaggleError, with what to do, where Kaggle's client is not installed."""
    if not (find_spec("kaggle") and find_spec("kagglesdk")):
        raise KaggleError("Kaggle's client is needed: pip install 'kit[kaggle]'")


def save_kernel(metadata: dict[str, Any], source: str, timeout: int | None) -> Any:
    """The request that pushes a kernel; `timeout` in seconds."""
    from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest

    return _filled(
        ApiSaveKernelRequest,
        slug=metadata["id"],
        new_title=metadata["title"],
        text=source,
        language=metadata["language"],
        kernel_type=metadata["kernel_type"],
        is_private=metadata["is_private"],
        enable_gpu=metadata["enable_gpu"],
        enable_tpu=metadata["enable_tpu"],
        enable_internet=metadata["enable_internet"],
        dataset_data_sources=metadata["dataset_sources"],
        competition_data_sources=metadata["competition_sources"],
        kernel_data_sources=metadata["kernel_sources"],
        model_data_sources=metadata["model_sources"],
        machine_shape=metadata["machine_shape"],
        session_timeout_seconds=timeout,
    )


def create_dataset(ref: str, title: str, tokens: list[str]) -> Any:
    """The request that makes a private dataset of uploaded files."""
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetRequest

    owner, slug = ref.split("/")
    return _filled(
        ApiCreateDatasetRequest,
        owner_slug=owner,
        slug=slug,
        title=title,
        license_name="other",
        is_private=True,
        files=_new_files(tokens),
    )


def create_dataset_version(ref: str, notes: str, tokens: list[str]) -> Any:
    """The request that makes a dataset's next version of uploaded files, which replace those before."""
    from kagglesdk.datasets.types import dataset_api_service as types

    owner, slug = ref.split("/")
    body = _filled(types.ApiCreateDatasetVersionRequestBody, version_notes=notes, files=_new_files(tokens))
    return _filled(types.ApiCreateDatasetVersionRequest, owner_slug=owner, dataset_slug=slug, body=body)


def start_upload(path: Path, competition: str | None = None) -> Any:
    """The request for an address to upload a file to: a submission of `competition`, or (None) a dataset's file."""
    described = {"content_length": path.stat().st_size, "last_modified_epoch_seconds": int(path.stat().st_mtime)}
    if competition:
        from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest as Submission

        return _filled(Submission, competition_name=competition, file_name=path.name, **described)
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

    return _filled(ApiStartBlobUploadRequest, type=ApiBlobType.DATASET, name=path.name, **described)


def create_submission(competition: str, token: str, description: str) -> Any:
    """The request that submits an uploaded file."""
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    return _filled(
        ApiCreateSubmissionRequest,
        competition_name=competition,
        blob_file_tokens=token,
        submission_description=description,
    )


def request_text(request: Any) -> dict[str, Any]:
    """What is sent of a request, as JSON can hold it."""
    return dict(type(request).to_dict(request))


def inside(folder: Path, name: str) -> Path:
    """The path of a file that somebody else named, below `folder`; raises KaggleError for one that would leave it."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise KaggleError(f"refused a file named {name!r}: it would be written outside {folder}")
    return path


def _authenticated() -> Any:
    noise = io.StringIO()
    try:
        with contextlib.redirect_stdout(noise):  # the client prints a page of help where there is no login
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


def _filled(request_type: type, **values: Any) -> Any:
    request = request_type()
    for name, value in values.items():
        if value is not None and hasattr(request_type, name):  # an older SDK lacks some
            setattr(request, name, value)
    return request


def _new_files(tokens: list[str]) -> list[Any]:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile

    return [_filled(ApiDatasetNewFile, token=token) for token in tokens]


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None

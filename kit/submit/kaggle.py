"""Kaggle through its own client (the `kaggle` package), with what that lacks: time-outs, patience, plain words.

The SDK's requests are used, not the functions behind its command line: those take an error page for a file and a refusal
for success. Reads are tried again after a lost connection, 429 and 5xx; what changes something is sent once, and after a
lost reply the caller looks whether it happened (`Unanswered`). Nothing here prints, and no header is ever shown.
"""

import contextlib
import io
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import files
from kit.errors import KitError

TIMEOUT = (5, 60)  # seconds to connect, and between two pieces of an answer
TRIES = 6  # of a read
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever Retry-After asks
_READS = ("Get", "List", "Download", "Introspect")


class KaggleError(KitError):
    """What Kaggle refused, in a person's words, and the next step; `status` is HTTP's, None without an answer."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class Unanswered(KaggleError):
    """A request that changes something was sent and no answer came: it may have happened or not."""


@dataclass(frozen=True)
class Pushed:
    """A version of a kernel that was pushed: `ref` owner/slug, its number and page."""

    ref: str
    version: int
    url: str


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
        self._sleep = sleep
        with _plain_words(sending=False):
            self._api = _authenticated()
        self.user = str(self._api.config_values.get("username") or "")
        client = self._api.build_kaggle_client()
        http = client.http_client()
        http._init_session()
        for scheme in ("http://", "https://"):
            http._session.mount(scheme, _patient(sleep))
        self._client, self._session = client, http._session

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
        return (quota.total_time_allowed - quota.time_used).total_seconds() / 3600

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
        """The names of the files of a dataset's current version."""
        from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

        owner, slug = ref.split("/")
        api = self._client.datasets.dataset_api_client
        found = self._call(api.list_dataset_files, ApiListDatasetFilesRequest, owner_slug=owner, dataset_slug=slug)
        return [file.name for file in found.dataset_files or []]

    def upload_dataset(self, ref: str, title: str, paths: list[Path], notes: str, new: bool) -> None:
        """Make the private dataset `ref` of these files, or (not `new`) its next version; it is not ready at once.

        Raises Unanswered when the last request's answer was lost.
        """
        from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
        from kagglesdk.datasets.types import dataset_api_service as types

        owner, slug = ref.split("/")
        sent = []
        for path in paths:
            start = self._call(
                self._client.blobs.blob_api_client.start_blob_upload,
                ApiStartBlobUploadRequest,
                type=ApiBlobType.DATASET,
                name=path.name,
                content_length=path.stat().st_size,
                last_modified_epoch_seconds=int(path.stat().st_mtime),
            )
            self._put(start.create_url, path)
            file = types.ApiDatasetNewFile()
            file.token = start.token
            sent.append(file)
        api = self._client.datasets.dataset_api_client
        if new:
            made = self._call(
                api.create_dataset,
                types.ApiCreateDatasetRequest,
                owner_slug=owner,
                slug=slug,
                title=title,
                license_name="CC0-1.0",
                is_private=True,
                files=sent,
            )
        else:
            body = types.ApiCreateDatasetVersionRequestBody()
            body.version_notes, body.files = notes, sent
            made = self._call(
                api.create_dataset_version,
                types.ApiCreateDatasetVersionRequest,
                owner_slug=owner,
                dataset_slug=slug,
                body=body,
            )
        if made.error or str(made.status).lower() not in ("ok", "none", ""):
            raise KaggleError(f"Kaggle did not take the dataset {ref}: {made.error or made.status}")

    def push(self, metadata: dict[str, Any], source: str, timeout: int | None = None) -> Pushed:
        """Save and run a new version of a kernel; `metadata` is that of `kernel-metadata.json`.

        Raises KaggleError also where Kaggle takes the kernel and ignores one of its sources, and Unanswered when the
        answer was lost.
        """
        from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest

        made = self._call(
            self._client.kernels.kernels_api_client.save_kernel,
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
        if made.error:
            raise KaggleError(f"Kaggle did not take the kernel {metadata['id']}: {made.error}")
        for kind in ("dataset", "competition", "kernel", "model"):
            if bad := getattr(made, f"invalid_{kind}_sources", None):
                raise KaggleError(
                    f"the kernel was pushed, but Kaggle cannot attach the {kind} {', '.join(bad)}: is its name right, is "
                    "it yours or public, and have you accepted the rules on its page?"
                )
        return Pushed(made.ref.removeprefix("/code/") or metadata["id"], int(made.version_number or 0), made.url)

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
        except (KeyError, AttributeError):  # a state that this version of the client does not know
            return "unknown", ""
        return found.status.name.lower(), found.failure_message or ""

    def kernel_output(self, ref: str, version: int, folder: Path) -> str:
        """Fetch all files of a version's output into `folder`, each whole or not at all; returns its log."""
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        owner, slug = ref.split("/")
        api, token, log = self._client.kernels.kernels_api_client, "", ""
        while True:
            asked = {"user_name": owner, "kernel_slug": slug, "version_label": f"v{version}", "page_size": 100}
            page = self._call(
                api.list_kernel_session_output, ApiListKernelSessionOutputRequest, page_token=token, **asked
            )
            for file in page.files or []:
                self.fetch(file.url, inside(folder, file.file_name))
            log, token = log or page.log or "", page.next_page_token or ""
            if not token:
                return log

    def submit(self, slug: str, path: Path, description: str) -> None:
        """Send a submission; raises Unanswered when the last answer was lost: look for the description on the list."""
        from kagglesdk.competitions.types import competition_api_service as types

        api = self._client.competitions.competition_api_client
        start = self._call(
            api.start_submission_upload,
            types.ApiStartSubmissionUploadRequest,
            competition_name=slug,
            file_name=path.name,
            content_length=path.stat().st_size,
            last_modified_epoch_seconds=int(path.stat().st_mtime),
        )
        self._put(start.create_url, path)
        self._call(
            api.create_submission,
            types.ApiCreateSubmissionRequest,
            competition_name=slug,
            blob_file_tokens=start.token,
            submission_description=description,
        )

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

    def fetch(self, url: str, path: Path) -> None:
        """Download an address into a file, whole or not at all; raises KaggleError for an error page or a short body."""
        for left in reversed(range(TRIES)):
            try:
                with _plain_words(sending=False), self._session.get(url, stream=True, timeout=TIMEOUT) as answer:
                    answer.raise_for_status()
                    wanted, got = answer.headers.get("Content-Length"), 0
                    with files.replacing(path) as part, part.open("wb") as file:
                        for piece in answer.iter_content(2**20):
                            got += file.write(piece)
                        if wanted is not None and got != int(wanted):
                            raise OSError(f"{got} of {wanted} bytes came")
                return
            except (KaggleError, OSError) as error:
                if not left or (isinstance(error, KaggleError) and error.status):
                    raise KaggleError(
                        f"could not download {path.name}: {error}; the same command tries again"
                    ) from error
                self._sleep(_pause(TRIES - left))

    def _call(self, method: Callable[[Any], Any], request_type: type, **values: Any) -> Any:
        request = request_type()
        for name, value in values.items():
            if value is not None and hasattr(request_type, name):  # an older SDK lacks some
                setattr(request, name, value)
        name = "".join(part.title() for part in method.__name__.split("_"))
        with _plain_words(sending=not name.startswith(_READS)):
            return method(request)

    def _put(self, url: str, path: Path) -> None:
        """Upload a file's bytes to where Kaggle said; nothing is made of them yet, so this may be tried again."""
        with _plain_words(sending=False), path.open("rb") as file:
            answer = self._session.put(url, data=file, auth=_nobody, timeout=TIMEOUT, headers={"Content-Type": None})
            answer.raise_for_status()


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
                KaggleApi = sys.modules["kaggle.api.kaggle_api_extended"].KaggleApi  # type: ignore[attr-defined]
            api = KaggleApi()
            api.authenticate()
    except ImportError as error:
        raise KaggleError(f"Kaggle's client is needed: pip install 'kit[kaggle]' ({error})") from error
    except SystemExit as error:
        raise KaggleError(
            "not logged in to Kaggle: make a token at kaggle.com/settings and put it into ~/.kaggle/access_token, or "
            "set KAGGLE_API_TOKEN"
        ) from error
    return api


def _patient(sleep: Callable[[float], None]) -> Any:
    """An adapter that sets time-outs and, for reads, tries again."""
    import requests
    from requests.adapters import HTTPAdapter

    class Patient(HTTPAdapter):
        def send(self, request: Any, *args: Any, **values: Any) -> Any:
            values["timeout"] = values.get("timeout") or TIMEOUT
            name = request.url.split("?")[0].rsplit("/", 1)[-1]
            read = request.method == "GET" or (request.method == "POST" and name.startswith(_READS))
            for done in range(1, TRIES + 1):
                try:
                    answer = super().send(request, *args, **values)
                except (requests.ConnectionError, requests.Timeout):
                    if not read or done == TRIES:
                        raise
                    sleep(_pause(done))
                    continue
                again = answer.status_code == 429 or (read and answer.status_code >= 500)
                if not again or done == TRIES:
                    return answer
                asked = answer.headers.get("Retry-After", "")
                answer.close()
                sleep(min(float(asked), _LONGEST_WAIT) if re.fullmatch(r"\d+(\.\d+)?", asked) else _pause(done))
            raise AssertionError

    return Patient()


def _pause(done: int) -> float:
    """Seconds before the next try: doubling, and not the same for everybody."""
    return min(_LONGEST_WAIT, 2.0**done) * random.uniform(0.5, 1.0)


def _nobody(request: Any) -> Any:
    """No login for an address outside Kaggle's API."""
    request.headers.pop("Authorization", None)
    return request


@contextlib.contextmanager
def _plain_words(sending: bool) -> Iterator[None]:
    """Turn what the client raises into KaggleError; its prints go nowhere."""
    try:
        import requests
    except ImportError as error:
        raise KaggleError(f"Kaggle's client is needed: pip install 'kit[kaggle]' ({error})") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        message = _said(error)
        if sending and status is not None and status >= 500:
            raise Unanswered(f"Kaggle answered {status}: it is not known whether that was done", status) from error
        raise KaggleError(_meaning(status, message), status) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if sending:
            raise Unanswered("the connection to Kaggle was lost: it is not known whether that was done") from error
        raise KaggleError("Kaggle cannot be reached: is there a network? The same command goes on later") from error
    except (requests.RequestException, ValueError) as error:  # a page in the place of JSON
        if sending:
            raise Unanswered("Kaggle's answer cannot be read: it is not known whether that was done") from error
        raise KaggleError(f"Kaggle's answer cannot be read ({type(error).__name__}): try again later") from error


def _said(error: Any) -> str:
    try:
        return str(error.response.json()["message"])
    except Exception:  # a page, or nothing at all
        return str(error).split(" for url")[0]


def _meaning(status: int | None, message: str) -> str:
    """An HTTP error in a person's words, with the next step; 403 has three meanings, told apart by what it says."""
    text = message.lower()
    if status == 401:
        return "Kaggle does not know this login: make a new token at kaggle.com/settings"
    if status == 403 and "allowance" in text:
        return f"no submission left today: {message}"
    if status == 403 and ("accept" in text or "rules" in text):
        return f"the rules are not accepted yet: open the competition's page, join it, and run this again ({message})"
    if status == 403:
        return f"Kaggle does not allow that: is the name right, and have you joined the competition? ({message})"
    if status == 404:
        return f"Kaggle knows no such thing: is the name right? ({message})"
    if status == 409:
        return f"that name is taken by something else of yours: {message}"
    if status == 429:
        return "Kaggle asks to slow down: run this again in some minutes"
    return f"Kaggle answered {status}: {message}"


def _score(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None

"""Kaggle's competitions, datasets and kernels: what is asked and sent, as functions of kit's own types."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit import files
from kit.kaggle import answers, requests
from kit.kaggle.answers import CompetitionFacts, ListedSubmission, PushedVersion, SubmissionCount
from kit.kaggle.http import KaggleError, Unanswered, UnknownValue, fetch
from kit.kaggle.model_calls import ModelCalls
from kit.kaggle.session import HIDDEN

_LARGEST_FILE = 2**31  # bytes of a sample submission


class Kaggle(ModelCalls):
    """A logged-in client; `user` owns what is created with it."""

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
            if error.status in HIDDEN:
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
            if error.status in HIDDEN:
                return []
            raise

    def upload_dataset(self, ref: str, title: str, paths: list[Path], notes: str, new: bool) -> None:
        """Create the private dataset `ref` from these files, or (not `new`) its next version; it is ready later.

        Raises Unanswered when the last request's answer was lost.
        """
        tokens = self._upload_blobs(paths, "DATASET")
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
            if error.status in HIDDEN:
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
        start = requests.start_submission_upload(path, slug)
        token = self._upload(self._competitions.start_submission_upload, path, start)
        before_sending()
        request = requests.create_submission(slug, token, description)
        return self._send(self._competitions.create_submission, request, lambda answer: max(0, int(answer.ref or 0)))

    def submit_code(self, slug: str, kernel: str, version: int, file: str, description: str) -> int:
        """Submit a version of a kernel, which Kaggle runs again on the hidden test set; returns what `submit` does.

        `file` is the name of the output file that is scored. Raises Unanswered as `submit` does.
        """
        request = requests.create_code_submission(slug, kernel, version, file, description)
        method = self._competitions.create_code_submission
        return self._send(method, request, lambda answer: max(0, int(answer.ref or 0)))

    def submission(self, ref: int) -> ListedSubmission | None:
        """The submission of that number; None where it cannot be seen (yet)."""
        from kagglesdk.competitions.types.competition_api_service import ApiGetSubmissionRequest as Request

        try:
            entry = self._call(self._competitions.get_submission, Request, answers.submission, ref=ref)
        except KaggleError as error:
            if error.status in HIDDEN:
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


def _kernel_fields(ref: str) -> dict[str, Any]:
    owner, slug = ref.split("/")
    return {"user_name": owner, "kernel_slug": slug}


def _dataset_fields(ref: str) -> dict[str, Any]:
    owner, slug = ref.split("/")
    return {"owner_slug": owner, "dataset_slug": slug}

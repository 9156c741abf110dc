"""What the answers of Kaggle's API hold, as kit's own types.

These functions take objects of the SDK and may raise anything for an answer of another shape: kit.kaggle.client calls
them within `readable_errors`. Text is made safe to show.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kit.kaggle.text import shortened, visible


@dataclass(frozen=True)
class CompetitionFacts:
    """Whether the user has joined a competition, and whether it takes files."""

    user_has_entered: bool
    submissions_disabled: bool
    is_kernels_submissions_only: bool


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


@dataclass(frozen=True)
class SubmissionCount:
    """How many submissions of the team Kaggle counts, today (UTC) and in all, and how many more it allows now."""

    today: int
    total: int
    left: int

    def has_changed_since(self, before: "SubmissionCount") -> bool:
        """Whether something may have been submitted since `before`; days may have begun in between."""
        return self.total != before.total or self.today > before.today or self.left < before.left


def competition(answer: Any) -> CompetitionFacts:
    """Of ApiCompetition."""
    flags = (answer.user_has_entered, answer.submissions_disabled, answer.is_kernels_submissions_only)
    if not all(isinstance(flag, bool) for flag in flags):
        raise TypeError
    return CompetitionFacts(*flags)


def submission_count(limits: Any) -> SubmissionCount:
    """Of ApiSubmissionLimits."""
    return SubmissionCount(int(limits.num_today), int(limits.num_total), int(limits.num_allowed_now))


def submission(entry: Any) -> ListedSubmission:
    """Of ApiSubmission."""
    return ListedSubmission(
        int(entry.ref),
        entry.status.name.lower(),
        visible(entry.description or ""),
        _score(entry.public_score),
        _score(entry.private_score),
        shortened(entry.error_description or ""),
    )


def submissions(page: Any) -> list[ListedSubmission]:
    """Of ApiListSubmissionsResponse."""
    return [submission(entry) for entry in page.submissions or []]


def hours_left(statistics: Any, accelerator: str) -> float | None:
    """Of the week's quota; None where Kaggle does not say."""
    quota = getattr(statistics, f"{accelerator}_quota", None)
    if quota is None or quota.total_time_allowed is None:
        return None
    left: timedelta = quota.total_time_allowed - (quota.time_used or timedelta(0))
    return left.total_seconds() / 3600


def dataset_state(answer: Any) -> str:
    """Of ApiGetDatasetStatusResponse, in lower case."""
    return visible(getattr(answer.status, "name", answer.status)).lower()


def dataset_files(page: Any) -> list[str]:
    """Names of files, of ApiListDatasetFilesResponse."""
    return [str(file.name) for file in page.dataset_files or []]


def dataset_refusal(answer: Any) -> str:
    """Why Kaggle did not take a dataset; empty where it did."""
    accepted = str(answer.status).lower() in ("ok", "none", "")
    return shortened(answer.error) if answer.error else "" if accepted else shortened(answer.status)


def model_version(answer: Any) -> int:
    """The number of the newest version, of ApiModelInstance."""
    return int(answer.version_number or 0)


def model_files(page: Any) -> list[str]:
    """Names of files, of ApiListModelInstanceVersionFilesResponse."""
    return [str(file.name) for file in page.files or []]


def model_refusal(answer: Any) -> str:
    """Why Kaggle did not take a model; empty where it did."""
    return shortened(answer.error or "")


def pushed(answer: Any) -> tuple[str, PushedVersion]:
    """(why Kaggle did not take the kernel, its version: 0 where the answer has none), of ApiSaveKernelResponse."""
    kinds = ("dataset", "competition", "kernel", "model")
    lists = {kind: getattr(answer, f"invalid_{kind}_sources", None) or [] for kind in kinds}
    bad = tuple(shortened(f"{kind} {name}") for kind, names in lists.items() for name in names)
    return shortened(answer.error or ""), PushedVersion(max(0, int(answer.version_number or 0)), bad)


def kernel(answer: Any) -> tuple[int, str]:
    """(number of the newest version, source), of ApiGetKernelResponse."""
    return int(answer.metadata.current_version_number or 0), str(answer.blob.source or "")


def kernel_state(answer: Any) -> tuple[str, str]:
    """(state in lower case, why it failed), of ApiGetKernelSessionStatusResponse."""
    return answer.status.name.lower(), shortened(answer.failure_message or "")


def output_page(page: Any) -> tuple[str, list[tuple[str, str]]]:
    """(log, names and addresses of files), of ApiListKernelSessionOutputResponse."""
    return str(page.log or ""), [(str(file.file_name), str(file.url)) for file in page.files or []]


def upload_address(answer: Any) -> tuple[str, str]:
    """(address, token) of an upload."""
    return str(answer.create_url or ""), str(answer.token or "")


def download_address(answer: Any) -> tuple[str, int | None]:
    """(address, bytes where they are known) of a download, whose body is not read."""
    with answer:
        size = answer.headers.get("Content-Length")
        return str(answer.url), int(size) if size else None


def _score(text: str | None) -> float | None:
    try:
        score = float(text) if text else math.nan
    except ValueError:
        return None
    return score if math.isfinite(score) else None

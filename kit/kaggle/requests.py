"""The requests that change something at Kaggle, of the SDK of its own client: built here, sent by kit.kaggle.client."""

from pathlib import Path
from typing import Any


def save_kernel(metadata: dict[str, Any], source: str, timeout: int | None) -> Any:
    """The request that pushes a kernel; `timeout` in seconds."""
    from kagglesdk.kernels.types.kernels_api_service import ApiSaveKernelRequest

    return filled(
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
    """The request that creates a private dataset from uploaded files."""
    from kagglesdk.datasets.types.dataset_api_service import ApiCreateDatasetRequest

    owner, slug = ref.split("/")
    return filled(
        ApiCreateDatasetRequest,
        owner_slug=owner,
        slug=slug,
        title=title,
        license_name="other",
        is_private=True,
        files=_new_files(tokens),
    )


def create_dataset_version(ref: str, notes: str, tokens: list[str]) -> Any:
    """The request that creates a dataset's next version from uploaded files, which replace the present ones."""
    from kagglesdk.datasets.types import dataset_api_service as types

    owner, slug = ref.split("/")
    body = filled(types.ApiCreateDatasetVersionRequestBody, version_notes=notes, files=_new_files(tokens))
    return filled(types.ApiCreateDatasetVersionRequest, owner_slug=owner, dataset_slug=slug, body=body)


def start_upload(path: Path, competition: str | None = None) -> Any:
    """The request for an address to upload a file to: a submission to `competition`, or (None) a dataset's file."""
    facts = {"content_length": path.stat().st_size, "last_modified_epoch_seconds": int(path.stat().st_mtime)}
    if competition:
        from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest

        return filled(ApiStartSubmissionUploadRequest, competition_name=competition, file_name=path.name, **facts)
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

    return filled(ApiStartBlobUploadRequest, type=ApiBlobType.DATASET, name=path.name, **facts)


def create_submission(competition: str, token: str, description: str) -> Any:
    """The request that submits an uploaded file."""
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    return filled(
        ApiCreateSubmissionRequest,
        competition_name=competition,
        blob_file_tokens=token,
        submission_description=description,
    )


def request_json(request: Any) -> dict[str, Any]:
    """What a request sends, as JSON can hold it."""
    return dict(type(request).to_dict(request))


def filled(request_type: type, **values: Any) -> Any:
    """A request of that type with these values, but for those that are None or that an older SDK does not have."""
    request = request_type()
    for name, value in values.items():
        if value is not None and hasattr(request_type, name):
            setattr(request, name, value)
    return request


def _new_files(tokens: list[str]) -> list[Any]:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile

    return [filled(ApiDatasetNewFile, token=token) for token in tokens]

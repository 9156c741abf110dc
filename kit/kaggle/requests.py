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


def start_blob_upload(path: Path, kind: str = "DATASET") -> Any:
    """The request for an address to upload a file of a dataset or a model to (`kind`: DATASET, MODEL)."""
    from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest

    return filled(ApiStartBlobUploadRequest, type=ApiBlobType[kind], name=path.name, **_facts(path))


def start_submission_upload(path: Path, competition: str) -> Any:
    """The request for an address to upload a submission to."""
    from kagglesdk.competitions.types.competition_api_service import ApiStartSubmissionUploadRequest as Request

    return filled(Request, competition_name=competition, file_name=path.name, **_facts(path))


def create_submission(competition: str, token: str, description: str) -> Any:
    """The request that submits an uploaded file."""
    from kagglesdk.competitions.types.competition_api_service import ApiCreateSubmissionRequest

    return filled(
        ApiCreateSubmissionRequest,
        competition_name=competition,
        blob_file_tokens=token,
        submission_description=description,
    )


def create_code_submission(competition: str, kernel: str, version: int, file: str, description: str) -> Any:
    """The request that submits a version of a kernel (`owner/slug`) by the name of its output file."""
    from kagglesdk.competitions.types.competition_api_service import ApiCreateCodeSubmissionRequest

    owner, slug = kernel.split("/")
    return filled(
        ApiCreateCodeSubmissionRequest,
        competition_name=competition,
        kernel_owner=owner,
        kernel_slug=slug,
        kernel_version=version,
        file_name=file,
        submission_description=description,
    )


def create_model(ref: str, title: str, description: str) -> Any:
    """The request that creates a private model `owner/slug`, which has no files yet."""
    from kagglesdk.models.types.model_api_service import ApiCreateModelRequest

    owner, slug = ref.split("/")
    fields = {"owner_slug": owner, "slug": slug, "title": title, "is_private": True, "description": description}
    return filled(ApiCreateModelRequest, **fields)


def create_model_variation(variation: str, license_name: str, overview: str, tokens: list[str]) -> Any:
    """The request that creates a variation `owner/model/keras/slug` of a model, as version 1 of uploaded files."""
    from kagglesdk.models.types import model_api_service as types

    owner, model, framework, slug = variation.split("/")
    body = filled(
        types.ApiCreateModelInstanceRequestBody,
        instance_slug=slug,
        framework=model_framework(framework),
        overview=overview,
        license_name=license_name,
        fine_tunable=False,
        files=_new_files(tokens),
    )
    return filled(types.ApiCreateModelInstanceRequest, owner_slug=owner, model_slug=model, body=body)


def create_model_version(variation: str, notes: str, tokens: list[str]) -> Any:
    """The request that creates the next version of a model's variation from uploaded files."""
    from kagglesdk.models.types import model_api_service as types

    body = filled(types.ApiCreateModelInstanceVersionRequestBody, version_notes=notes, files=_new_files(tokens))
    return filled(types.ApiCreateModelInstanceVersionRequest, body=body, **variation_fields(variation))


def variation_fields(variation: str) -> dict[str, Any]:
    """The fields by which requests name a variation `owner/model/framework/slug`."""
    owner, model, framework, slug = variation.split("/")
    fields = {"owner_slug": owner, "model_slug": model, "instance_slug": slug}
    return {**fields, "framework": model_framework(framework)}


def model_framework(name: str) -> Any:
    """The SDK's value for a framework: `keras`."""
    from kagglesdk.models.types.model_enums import ModelFramework

    return ModelFramework[f"MODEL_FRAMEWORK_{name.upper()}"]


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


def _facts(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"content_length": stat.st_size, "last_modified_epoch_seconds": int(stat.st_mtime)}


def _new_files(tokens: list[str]) -> list[Any]:
    from kagglesdk.datasets.types.dataset_api_service import ApiDatasetNewFile

    return [filled(ApiDatasetNewFile, token=token) for token in tokens]

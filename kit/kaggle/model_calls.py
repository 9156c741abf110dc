"""Kaggle Models: a model `owner/slug` has variations `owner/model/framework/slug`, and these have numbered versions.

Nothing of a version ever changes, and a kernel attaches it by its number.
"""

from pathlib import Path
from typing import Any

from kit.kaggle import answers, requests
from kit.kaggle.http import KaggleError
from kit.kaggle.session import HIDDEN, Session


class ModelCalls(Session):
    """The calls that concern models."""

    def has_model(self, ref: str) -> bool:
        """Whether there is a model `owner/slug` that can be seen."""
        from kagglesdk.models.types.model_api_service import ApiGetModelRequest as Request

        owner, slug = ref.split("/")
        fields = {"owner_slug": owner, "model_slug": slug}
        return self._unless_hidden(self._models.get_model, Request, lambda model: bool(model.slug), fields) or False

    def newest_model_version(self, variation: str) -> int:
        """The number of the newest version of a variation; 0 where there is none, or it cannot be seen."""
        from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest as Request

        fields = requests.variation_fields(variation)
        return self._unless_hidden(self._models.get_model_instance, Request, answers.model_version, fields) or 0

    def model_files(self, variation: str, version: int) -> list[str]:
        """The names of the files of a version; none where it is not there (yet)."""
        from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionFilesRequest as Request

        method = self._models.list_model_instance_version_files
        fields = {**requests.variation_fields(variation), "version_number": version, "page_size": 200}
        try:
            return [name for page in self._pages(method, Request, answers.model_files, **fields) for name in page]
        except KaggleError as error:
            if error.status in HIDDEN:
                return []
            raise

    def create_model(self, ref: str, title: str, description: str) -> None:
        """Create a private model without files; raises Unanswered when the answer was lost."""
        request = requests.create_model(ref, title, description)
        if refusal := self._send(self._models.create_model, request, answers.model_refusal):
            raise KaggleError(f"Kaggle did not accept the model {ref}: {refusal}")

    def upload_model(self, variation: str, paths: list[Path], license_name: str, notes: str, new: bool) -> None:
        """Create a variation of a model from these files, or (not `new`) its next version; its files show up later.

        Raises Unanswered when the last request's answer was lost.
        """
        tokens = self._upload_blobs(paths, "MODEL")
        if new:
            method = self._models.create_model_instance
            request = requests.create_model_variation(variation, license_name, notes, tokens)
        else:
            method = self._models.create_model_instance_version
            request = requests.create_model_version(variation, notes, tokens)
        if refusal := self._send(method, request, answers.model_refusal):
            raise KaggleError(f"Kaggle did not accept the model {variation}: {refusal}")

    def _unless_hidden(self, method: Any, request_type: type, parse: Any, fields: dict[str, Any]) -> Any:
        """What a call answers; None where what it asks for is not there, or not ours to see."""
        try:
            return self._call(method, request_type, parse, **fields)
        except KaggleError as error:
            if error.status in HIDDEN:
                return None
            raise

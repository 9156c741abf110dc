"""What the stub of Kaggle knows of models and code submissions: versions that never change, and reruns."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

Files = dict[str, bytes]
USER = "fakeuser"
MOST_LOOKS = 2  # at a new version of a model before it is shown


class CodeCalls:
    """Mixed into the stub. `models` has the versions' files of each variation, `rerun` runs a kernel on hidden data."""

    kernels: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    blobs: dict[str, tuple[str, bytes]]
    submissions: list[dict[str, Any]]
    run_kernel: Callable[[str, dict[str, Files]], tuple[int, str, Files]]
    score: Callable[[bytes], str]
    lag: int

    def __init__(self) -> None:
        self.model_refs: dict[str, dict[str, Any]] = {}  # owner/slug -> what it was created with
        self.models: dict[str, list[Files]] = {}  # owner/model/framework/variation -> its versions
        self.model_requests: list[dict[str, Any]] = []
        self.model_looks: dict[str, int] = defaultdict(int)
        self.rerun: Callable[[str, dict[str, Files]], tuple[int, str, Files]] | None = None
        self.rerun_error = ""  # what becomes of every rerun, if not empty

    # ---- models

    def get_model(self, fields: dict[str, Any]) -> Any:
        ref = f"{fields['ownerSlug']}/{fields['modelSlug']}"
        return {"ref": ref, "slug": fields["modelSlug"]} if ref in self.model_refs else (404, "no such model")

    def create_model(self, fields: dict[str, Any]) -> Any:
        ref = f"{fields['ownerSlug']}/{fields['slug']}"
        if ref in self.model_refs:
            return {"error": "the slug is in use", "errorCode": 409}
        self.model_refs[ref] = fields
        return {"id": len(self.model_refs), "ref": ref, "url": f"https://www.kaggle.com/models/{ref}"}

    def get_model_instance(self, fields: dict[str, Any]) -> Any:
        variation = _variation(fields)
        if variation not in self.models or not (number := self._shown(variation)):
            return 404, "no such model instance"
        return {"slug": fields["instanceSlug"], "framework": fields["framework"], "versionNumber": number}

    def create_model_instance(self, fields: dict[str, Any]) -> Any:
        body = fields["body"]
        named = {**fields, "framework": body["framework"], "instanceSlug": body["instanceSlug"]}
        if f"{fields['ownerSlug']}/{fields['modelSlug']}" not in self.model_refs:
            return 404, "no such model"
        if _variation(named) in self.models:
            return {"error": "the slug is in use", "errorCode": 409}
        if not body.get("licenseName"):
            return {"error": "a license is needed", "errorCode": 400}
        return self._next_model_version(_variation(named), fields)

    def create_model_instance_version(self, fields: dict[str, Any]) -> Any:
        return self._next_model_version(_variation(fields), fields)

    def list_model_instance_version_files(self, fields: dict[str, Any]) -> Any:
        variation, number = _variation(fields), fields["versionNumber"]
        if number > self._shown(variation):
            return 404, "no such version"
        names, start = sorted(self.models[variation][number - 1]), int(fields.get("pageToken") or 0)
        page: dict[str, Any] = {"files": [{"name": name} for name in names[start : start + 1]]}  # one a page
        return page | ({"nextPageToken": str(start + 1)} if start + 1 < len(names) else {})

    def _next_model_version(self, variation: str, fields: dict[str, Any]) -> Any:
        self.models.setdefault(variation, []).append(
            dict(self.blobs[file["token"]] for file in fields["body"]["files"])
        )
        self.model_requests.append(fields)
        self.model_looks[variation] = 0
        return {"id": 7, "ref": variation, "url": f"https://www.kaggle.com/models/{variation}"}

    def _shown(self, variation: str) -> int:
        """The number of the newest version that shows already: one that is processed appears after some looks."""
        self.model_looks[variation] += 1
        return len(self.models.get(variation, [])) - (self.model_looks[variation] < MOST_LOOKS)

    # ---- kernels and code submissions

    def unattached_models(self, fields: dict[str, Any]) -> list[str]:
        """The models of a push that Kaggle does not have; without a number it attaches none."""
        bad = []
        for handle in fields.get("modelDataSources", []):
            variation, _, number = handle.rpartition("/")
            versions = len(self.models.get(variation, []))
            if handle.startswith(USER) and not (number.isdigit() and 1 <= int(number) <= versions):
                bad.append(handle)
        return bad

    def mounts(self, fields: dict[str, Any]) -> dict[str, Files]:
        """What a pushed kernel attaches: datasets by owner/name, models by owner/model/framework/variation/version."""
        attached = fields.get("datasetDataSources", [])
        mounts = {ref: self.datasets[ref]["files"] for ref in attached if ref in self.datasets}
        for handle in fields.get("modelDataSources", []):
            variation, _, number = handle.rpartition("/")
            if variation in self.models:
                mounts[handle] = self.models[variation][int(number) - 1]
        return mounts

    def create_code_submission(self, fields: dict[str, Any]) -> Any:
        ref, version = f"{fields['kernelOwner']}/{fields['kernelSlug']}", fields["kernelVersion"]
        result = self.kernels[ref].results.get(version) if ref in self.kernels else None
        if result is None or result[0] or fields["fileName"] not in result[2]:
            return 400, "Could not find provided notebook, or its output file"
        entry = {
            "ref": len(self.submissions) + 1,
            "fileName": fields["fileName"],
            "status": "pending",
            "looks": 0,
            "lag": self.lag,
            "content": b"",
            "code": (ref, version),
        }
        self.submissions.append(entry | {"description": fields.get("submissionDescription", "")})
        return {"message": "Successfully submitted", "ref": entry["ref"]}

    def scored(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What becomes of a submission: a file is scored, a kernel is rerun and then its file is."""
        content = entry["content"]
        if "code" in entry:
            if self.rerun_error:
                return {"status": "error", "errorDescription": self.rerun_error}
            ref, version = entry["code"]
            kernel, run = self.kernels[ref], self.rerun or self.run_kernel
            code, log, output = run(kernel.sources[version - 1], self.mounts(kernel.requests[version - 1]))
            entry["log"] = log
            if code:
                return {"status": "error", "errorDescription": "Notebook Threw Exception"}
            if entry["fileName"] not in output:
                return {"status": "error", "errorDescription": "Submission CSV Not Found"}
            entry["content"] = content = output[entry["fileName"]]
        try:
            return {"status": "complete", "publicScore": self.score(content), "privateScore": ""}
        except ValueError:
            return {"status": "error", "errorDescription": "Submission Scoring Error"}


def _variation(fields: dict[str, Any]) -> str:
    framework = str(fields["framework"]).lower().removeprefix("model_framework_")
    return f"{fields['ownerSlug']}/{fields['modelSlug']}/{framework}/{fields['instanceSlug']}"

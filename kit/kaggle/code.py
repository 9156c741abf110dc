"""Code submissions: a kernel that predicts whatever test set is mounted, and what Kaggle says of its rerun."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit import files
from kit.errors import SubmissionError
from kit.kaggle import bundle
from kit.kaggle.bundle import Wheel
from kit.kaggle.client import Kaggle
from kit.kaggle.models import publish_run
from kit.kaggle.plan import CodePlan, SubmissionPlan
from kit.run import SUBMISSION, Run

_IMPORT = "from kit.kaggle.kernel import"
OUTPUTS = (SUBMISSION, "submission.parquet")  # the second is what gateways write

# What Kaggle's errors of a rerun contain, in lower case -> what happened, and what to do. The first that fits counts.
_ERRORS = (
    (("server never started", "server_never_started"), "the gateway waited for the kernel's server in vain",
     "look at the kernel's log for what it did until then: `kit kaggle logs COMP --code`"),
    (("connection failed", "connection_failed"), "the gateway lost the kernel's server, most likely out of memory",
     "rehearse with the hidden number of cases: `kit kaggle rehearse COMP --from-run RUN --cases N`"),
    (("missing endpoint", "missing_endpoint"), "the gateway asks the kernel's server for something kit does not know",
     "look how the competition's sample notebook answers its gateway"),
    (("deadline",), "one prediction took longer than the gateway waits",
     "predict with fewer folds or views (predict.tta), or a smaller network"),
    (("server raised", "server_raised"), "the kernel's server failed on a hidden case",
     "rehearse: `kit kaggle rehearse COMP --from-run RUN`"),
    (("gateway",), "the competition's own gateway failed, which costs no submission", "submit again with --again"),
    (("time limit", "time cap", "timeout", "timed out"), "predicting took longer than the competition allows",
     "rehearse with the hidden number of cases (--cases N), and submit with fewer --hours, folds or views"),
    (("exceeded allowed compute", "memory"), "the kernel ran out of memory, or used more than it may",
     "set a smaller predict.batch_size, and rehearse with --cases N, which extrapolates memory"),
    (("not found", "no output", "missing output"), "the rerun left no submission file",
     "rehearse: an empty or unusual test set is the likely cause"),
    (("threw exception", "exception", "notebook error"), "the kernel failed on the hidden test set",
     "rehearse: `kit kaggle rehearse COMP --from-run RUN` tries other ids, an unreadable file and an empty test set"),
    (("scoring", "evaluation", "invalid", "format"), "the submission was written, but Kaggle could not score it",
     "compare its columns and values with the competition's Evaluation page, and rehearse"),
)  # fmt: skip


def explanation(error: str, slug: str) -> str:
    """An error of a rerun in a person's words, with the next step."""
    page = f"https://www.kaggle.com/competitions/{slug}/submissions"
    if not error:
        return f"Kaggle gives no reason here: open {page}, whose list of submissions may"
    for words, meaning, remedy in _ERRORS:
        if any(word in error.lower() for word in words):
            return f"{error}: {meaning}. Next: {remedy}"
    return f"{error}. Next: open {page}"


def inference_source(
    plan: SubmissionPlan, code: CodePlan, wheel: Wheel, run_id: str = "", packages: Sequence[Path] = ()
) -> str:
    """The script (kit/kaggle/inference.py) that predicts with a published run: one file, with the text it imports."""
    kernel, inference = bundle.script("kernel.py"), bundle.script("inference.py")
    docstring, body = inference.partition("import ")[0], inference.partition(_IMPORT)[2].partition("\n")[2]
    imports = kernel[kernel.index("import ") : kernel.index("\n# competition")]
    install = kernel[kernel.index("def install(") : kernel.index("def main(")]
    text = docstring + imports + body.replace("def weights_of(", f"{install}def weights_of(", 1)
    values: dict[str, Any] = {
        "competition": plan.name,
        "wheel": wheel.name,
        "sha256": wheel.sha256,
        "run_id": run_id,
        "hours": plan.training_hours,
        "settings": list(plan.settings),
        "accelerator": plan.accelerator,
        "model": code.model,
        "manifest": code.manifest,
        "packages": {path.name: files.sha256_of(path) for path in packages},
    }
    return bundle.with_plan(text, values)


def published(plan: SubmissionPlan, kaggle: Kaggle, sleep: Callable[[float], None]) -> SubmissionPlan:
    """The plan with its run on Kaggle, as a version of a model; any other plan as it is."""
    if plan.code is None or plan.code.run is None:
        return plan
    model, manifest = publish_run(kaggle, plan.name, Run(plan.code.run), plan.code.license_name, sleep)
    return replace(plan, code=replace(plan.code, model=model, manifest=manifest))


def output_of(folder: Path) -> Path:
    """The submission among a kernel's output; raises SubmissionError where there is none."""
    path = next((folder / name for name in OUTPUTS if (folder / name).is_file()), None)
    if path is None:
        raise SubmissionError(f"{folder} holds neither {' nor '.join(OUTPUTS)}: Kaggle would have nothing to score")
    return path

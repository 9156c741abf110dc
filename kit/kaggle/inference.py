"""An inference kernel of kit: predicts whatever test set is mounted, without internet, with weights that are attached.

`kit submit COMP --code` replaces the line PLAN and pushes this one file. Kaggle runs it twice: as a version of a
kernel, with the public test set, and once it is submitted with the hidden one. Both times it leaves submission.csv.
"""

import hashlib
import json
import os
import pathlib
import sys

from kit.kaggle.kernel import install  # in its place stands its text, as this file is pushed alone

# competition: a config's name, with settings · wheel, sha256, packages: as in a training kernel · hours: of predicting;
# a case that is not reached by then gets a constant · accelerator: gpu, tpu or cpu · model: the version of a Kaggle
# Model with the weights (empty: constants alone) · manifest: the SHA-256 of its inference.json
PLAN = {"competition": "pcam", "wheel": "", "sha256": "", "run_id": "", "hours": 8.0, "settings": [], "model": ""}

ROOT = pathlib.Path(os.environ.get("KIT_KAGGLE_ROOT", "/kaggle"))
OUTPUT = ROOT / "working"


def weights_of(model, manifest):
    """The folder of the attached model version, by the content of its manifest; exits when it is not there."""
    places = (ROOT / "input" / "models", ROOT / "input" / model.split("/")[1])
    for path in (path for place in places for path in sorted(place.rglob("inference.json"))):
        if hashlib.sha256(path.read_bytes()).hexdigest() == manifest:
            return path.parent
    print(*(path for depth in (1, 2, 3) for path in sorted((ROOT / "input").glob("*/" * depth))), sep="\n")
    return sys.exit(f"the weights are missing: {model} is not attached; what is attached is listed above")


def main(competition, wheel, sha256, run_id, hours, settings, accelerator="cpu", model="", manifest="", packages=()):
    """Predict and submit; returns the exit code."""
    weights = weights_of(model, manifest) if model else None
    install(wheel, sha256, dict(packages))
    from kit import log
    from kit.errors import KitError
    from kit.stages.infer import submit_hidden

    log.show()
    try:
        summary = submit_hidden(competition, settings, weights, OUTPUT, hours * 3600, accelerator)
    except KitError as error:
        return f"kit: {error}"
    results = OUTPUT.glob("submission.*")  # parquet, where a gateway wrote it
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in results}
    summary = {"run_id": run_id, "finished": True, "sha256": sums, **summary}
    (OUTPUT / "kernel.json").write_text(json.dumps(summary, indent=1))
    print(f"kit: {summary}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(**PLAN))

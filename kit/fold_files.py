"""Folders in a run, of one fold and of explanations: the names of their files. A part of kit/run.py, which has them."""

from dataclasses import dataclass
from pathlib import Path

from kit import files
from kit.schemas import Explanations, TrainingState

MODEL, WEIGHTS = "model.json", "model.weights.h5"  # a model on disk: its builder's arguments, its weights
BOOSTED = "boosted.json"  # the trees that correct it, where there are any


@dataclass(frozen=True)
class StateFiles:
    """The folder of a fold that is being trained; removed when it is done."""

    folder: Path

    @property
    def state(self) -> Path:
        """History, and which files of weights belong to it (kit.train.callbacks)."""
        return self.folder / "state.json"

    @property
    def inputs(self) -> Path:
        """The fingerprint of what is trained on."""
        return self.folder / "inputs.json"

    @property
    def shuffle(self) -> Path:
        """How many examples are shuffled at a time."""
        return self.folder / "shuffle.json"

    @property
    def pseudo_records(self) -> Path:
        """Test images with pseudo-labels, as a shard."""
        return self.folder / "pseudo.tfrecord"

    @property
    def relabelled(self) -> Path:
        """What other heads say of the training images: id, `p_*`."""
        return self.folder / "relabelled.parquet"

    @property
    def relabelled_records(self) -> Path:
        """The folder of shards with these labels."""
        return self.folder / "relabelled"

    def read(self) -> TrainingState:
        """How far training has come."""
        return files.read_model(self.state, TrainingState, self.remedy) if self.state.exists() else TrainingState()

    @property
    def remedy(self) -> str:
        """What to do when a file of the state is damaged."""
        return f"restore it, or delete {self.folder} to train this fold from its first epoch"

    def history(self) -> list[dict[str, float]]:
        """The values of every whole epoch so far."""
        return list(self.read().history)


@dataclass(frozen=True)
class FoldFiles:
    """The folder of one fold."""

    folder: Path

    @property
    def history(self) -> Path:
        """A row per epoch."""
        return self.folder / "history.csv"

    @property
    def model(self) -> tuple[Path, ...]:
        """The trained model's files (kit.models.saved): two, and a third where it has one."""
        return self.folder / MODEL, self.folder / WEIGHTS, *([self.folder / BOOSTED] if self.has_trees else [])

    @property
    def has_trees(self) -> bool:
        """Whether trees follow the trained network."""
        return (self.folder / BOOSTED).exists()

    @property
    def done(self) -> Path:
        """The stamp of training."""
        return self.folder / "done.json"

    @property
    def trained(self) -> files.Stamp | None:
        """The stamp of training, None where there is none.

        Raises DataError, naming the file, when it is damaged or the model is not as training wrote it.
        """
        # A model that was just saved when training was killed has no stamp yet, but it has its state.
        if not self.done.exists() and (self.state.state.exists() or not any(path.exists() for path in self.model)):
            return None
        stamp = files.read_stamp(self.done, self.remedy)
        if absent := {path.name for path in self.model} - stamp.outputs.keys():
            raise files.damaged(self.done, f"it does not name {min(absent)}", self.remedy)
        files.require_unchanged(self.done, self.remedy)
        return stamp

    @property
    def remedy(self) -> str:
        """What to do when a file is damaged that training wrote."""
        return f"restore it, or delete {self.folder} to train it again"

    @property
    def oof(self) -> Path:
        """Predictions of the training images that this fold's model has not seen."""
        return self.folder / "oof.parquet"

    @property
    def test(self) -> Path:
        """Predictions of the test images."""
        return self.folder / "test.parquet"

    @property
    def oof_done(self) -> Path:
        """The stamp of `oof`."""
        return self.folder / "predicted_oof.json"

    @property
    def test_done(self) -> Path:
        """The stamp of `test`."""
        return self.folder / "predicted_test.json"

    @property
    def pseudo(self) -> Path:
        """The SHA-256 of the predictions that pseudo-labels came from."""
        return self.folder / "pseudo.json"

    @property
    def relabel(self) -> Path:
        """The fingerprint of the heads that labels came from."""
        return self.folder / "relabel.json"

    @property
    def state(self) -> StateFiles:
        """The state of training."""
        return StateFiles(self.folder / "state")


@dataclass(frozen=True)
class ExplanationFiles:
    """A folder of maps over images, of a run or of new images."""

    folder: Path

    @property
    def index(self) -> Path:
        """`Explanations`: the pictures; it is written last."""
        return self.folder / "explanations.json"

    @property
    def scores(self) -> Path:
        """`ExplanationScores`: the checks."""
        return self.folder / "scores.json"

    @property
    def page(self) -> Path:
        """The page for people to look at."""
        return self.folder / "explanations.html"

    def picture(self, number: int) -> Path:
        """The picture of that number, a JPEG."""
        return self.folder / f"{number:03d}.jpg"

    def read(self) -> Explanations | None:
        """The pictures; None where there are none. Raises DataError for a damaged index, and names of other files."""
        if not self.index.exists():
            return None
        content: Explanations = files.read_model(self.index, Explanations, "run `kit explain` again")
        for each in content.pictures:
            files.inside(self.folder, each.file)
        return content

    def clear(self) -> None:
        """Remove what is there: the index first, so that it never names pictures that are gone."""
        for path in (self.index, self.scores, self.page, *sorted(self.folder.glob("[0-9][0-9][0-9]*.jpg"))):
            path.unlink(missing_ok=True)

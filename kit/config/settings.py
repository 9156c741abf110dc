"""The whole of the settings, by section."""

from pydantic import Field, model_validator

from kit import extensions
from kit.config.augment import AugmentSettings
from kit.config.data import DataSettings
from kit.config.evaluate import EvaluateSettings
from kit.config.image import ImageSettings
from kit.config.input import InputSettings
from kit.config.model import ModelSettings
from kit.config.predict import PredictSettings
from kit.config.pseudo import PseudoSettings
from kit.config.runtime import RuntimeSettings
from kit.config.source import Source
from kit.config.train import TrainSettings


class Config(Source):
    """Everything a run depends on besides its data."""

    # A module of kit/competitions: pcam, rsna, ..., or csv and folders for your own images; one of a package; or a file
    # of your own, FILE.py.
    competition: str
    recipe: str | None = None  # what a run was started from, the COMP of its command; kit writes it
    seed: int = Field(0, ge=0)  # of everything random
    folds: int = Field(5, ge=2)  # how many; each is predicted by a model that was trained on the others
    # Seed of the split into folds; null: seed. Runs that are to be blended need the same folds, and so the same seed.
    fold_seed: int | None = Field(None, ge=0)
    # A column of the example table, such as the hospital, the scanner or the year, whose values no fold splits: with as
    # many folds as values, each is left out by itself. null: folds are dealt by patients. Your own folds: columns.fold.
    fold_by: str | None = None
    # How often all folds are trained, each time with another seed and other folds (kit run). The predictions are
    # averaged, in RUN/repeats; the further runs are RUN/repeat1, RUN/repeat2, ...
    repeats: int = Field(1, ge=1, le=50)
    # Before the network is trained, a linear head on its frozen features, in RUN/frozen: a score and a submission soon.
    frozen_first: bool = False
    pseudo: PseudoSettings = PseudoSettings()
    data: DataSettings = DataSettings()
    image: ImageSettings = ImageSettings()
    input: InputSettings = InputSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    @property
    def competition_name(self) -> str:
        """The competition's name; of one in a file, the file's without its ending."""
        return extensions.plain(self.competition)

    @property
    def code(self) -> list[str]:
        """The names, among the settings, of what is in files of one's own (kit.extensions)."""
        return list(extensions.names_in(self.model_dump()))

    @property
    def split_seed(self) -> int:
        """The seed of the split into folds."""
        return self.seed if self.fold_seed is None else self.fold_seed

    @model_validator(mode="after")
    def _one_correction(self) -> "Config":
        if self.input.balance == "classes" and self.train.loss.weights != "none":
            raise ValueError(
                "input.balance = classes and train.loss.weights both correct the same imbalance: use one of them"
            )
        return self

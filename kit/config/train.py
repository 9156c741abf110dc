"""`train`: how one fold is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from kit import extensions
from kit.config.base import PathText, Settings

Optimizer = Literal[
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "nadam", "rmsprop", "sgd"
]


def _or_code(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    return value if extensions.is_code(value) else validate(value)


class LossSettings(Settings):
    """`train.loss`: what is minimised (formulas in kit/train/losses.py). Unknown labels (NaN) do not contribute."""

    # focal: Lin et al. 2017; asymmetric: Ridnik et al. 2021, for labels that do not exclude each other; FILE.py:NAME, a
    # function of your own (docs/extending.md), takes none of the settings below.
    name: Annotated[Literal["crossentropy", "focal", "asymmetric"], WrapValidator(_or_code)] = "crossentropy"
    gamma: float = Field(2.0, ge=0)  # focusing exponent of focal; of asymmetric, for negatives only
    clip: float = Field(0.05, ge=0, lt=1)  # asymmetric: negatives with a probability below this do not contribute
    smoothing: float = Field(0.0, ge=0, lt=1)  # 0.1: the target 1 becomes 0.95 (of C exclusive classes: 0.9 + 0.1 / C)
    # balanced: n / (classes * n of the class), as in scikit-learn; effective: Cui et al. 2019, with effective_beta.
    # Or the weights themselves: [negative, positive] of one label, one per class of exclusive classes, one per label
    # for the positives of several labels.
    weights: Literal["none", "balanced", "effective"] | tuple[Annotated[float, Field(gt=0)], ...] = "none"
    effective_beta: float = Field(0.999, gt=0, lt=1)  # effective: nearer to 1, rare classes weigh more

    @model_validator(mode="after")
    def _alone(self) -> "LossSettings":
        given = self.model_dump(exclude={"name"})
        others = {key: field.default for key, field in type(self).model_fields.items() if key != "name"}
        if extensions.is_code(self.name) and (changed := [key for key in given if given[key] != others[key]]):
            raise ValueError(f"{self.name} is a loss of your own, and takes no {changed[0]}: leave it out")
        return self


class RelabelSettings(Settings):
    """`train.relabel`: labels that may be wrong, mixed with what heads on frozen features say of them out of fold.

    The label that the model of a fold learns of an image comes from a head that was fitted neither on the fold of that
    image nor on the one the model is validated on. Scores are of the labels as they are.
    """

    run: PathText | None = None  # a run of heads on frozen features, such as RUN/frozen; null: labels stay as they are
    weight: float = Field(0.3, ge=0, le=1)  # of the probability; 1 - weight is that of the label


class Phase(Settings):
    """One of `train.phases`: a stretch of training with its own learning rate on part of the backbone.

    It starts from the best weights so far. Frozen layers keep their batch statistics too.
    """

    epochs: int = Field(ge=1)  # of this phase
    learning_rate: float = Field(gt=0)  # the peak of the schedule, which each phase runs through
    # Which part of the backbone trains: none, all, or counted from its end `N layers` or `N stages`. A stage is what
    # lies between two halvings of the feature maps. The head always trains.
    unfreeze: str = Field("all", pattern=r"^(none|all|[1-9]\d* (layers|stages))$")
    # Learning rate of a backbone stage relative to the stage after it (the head, for the last); 1: the same for all.
    layer_decay: float = Field(1.0, gt=0, le=1)


class TrainSettings(Settings):
    """`train`: epochs, optimiser, schedule and loss."""

    epochs: int = Field(15, ge=1)  # without phases
    batch_size: int = Field(64, ge=1)  # images per update, over all devices
    # Parts a batch is computed in, one after the other, where the whole does not fit in memory.
    accumulate: int = Field(1, ge=1)
    optimizer: Optimizer = "adam"
    optimizer_arguments: dict[str, Any] = {}  # further arguments of Keras's optimiser, such as {momentum: 0.9}
    learning_rate: float = Field(1e-3, gt=0)  # without phases; `kit lr-find` suggests one
    weight_decay: float = Field(0.0, ge=0)  # decoupled, with every optimiser
    clip_norm: float | None = Field(None, gt=0)  # limit of the norm of all gradients together; null: none
    phases: tuple[Phase, ...] = ()  # instead of epochs and learning_rate
    # How the last layer starts. linear: as the regularised logistic regression on what the network, as it is, says of
    # the training images, so that training does not begin by spoiling what it was pre-trained to see (Kumar et al.
    # 2022, arXiv:2202.10054). It takes the place of a first phase with unfreeze: none.
    initial_head: Literal["random", "linear"] = "random"

    # Keep the backbone's batch statistics throughout: those of small batches are poor.
    freeze_batch_norm: bool = False
    # null: the network's own. Keras's usual 0.99 lags hundreds of updates behind, too many for small datasets.
    batch_norm_momentum: float | None = Field(None, ge=0, lt=1)

    # cosine: linear warm-up, then down to 0; plateau: times plateau_factor when the score stalls; exponential: linear
    # warm-up, hold, then times decay every epoch; one_cycle: up in the first 30 % of the updates, then down.
    schedule: Literal["constant", "cosine", "plateau", "exponential", "one_cycle"] = "cosine"
    warmup_epochs: float = Field(1.0, ge=0)  # cosine and exponential
    hold_epochs: float = Field(0.0, ge=0)  # exponential: epochs at the full rate
    decay: float = Field(0.8, gt=0, le=1)  # exponential: factor per epoch
    # Where the warm-up starts; null: cosine at 0, exponential (constant within an epoch) at learning_rate / 50.
    start_learning_rate: float | None = Field(None, ge=0)
    min_learning_rate: float = Field(1e-6, ge=0)  # plateau and exponential: never below
    plateau_factor: float = Field(0.2, gt=0, lt=1)  # of the learning rate, each time
    plateau_patience: int = Field(2, ge=1)  # epochs
    patience: int | None = Field(None, ge=1)  # epochs without a better score that end a phase; null: never

    # What is scored and kept: none: the weights themselves; ema: their exponential moving average; swa: the mean of the
    # last swa_epochs epochs (Izmailov et al. 2018), scored as one more epoch and kept if it is the best.
    average: Literal["none", "ema", "swa"] = "none"
    ema_momentum: float = Field(0.999, gt=0, lt=1)  # per update
    swa_epochs: int = Field(5, ge=2)  # of the last phase
    loss: LossSettings = LossSettings()
    relabel: RelabelSettings = RelabelSettings()

    @property
    def all_phases(self) -> tuple[Phase, ...]:
        """The phases; without any, a single one that trains everything."""
        return self.phases or (Phase(epochs=self.epochs, learning_rate=self.learning_rate),)

"""`augment`: random changes of the training images, made on the accelerator."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)

from kit import extensions
from kit.config.base import Settings
from kit.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "pcam": {  # tissue has no up or down, and stains differ
        "horizontal_flip": True,
        "vertical_flip": True,
        "rotation": 180,
        "shift": 0.05,
        "zoom": 0.1,
        "brightness": 0.1,
        "channel_shift": 20,
    },
    "xray": {"rotation": 10, "shift": 0.05, "zoom": 0.1, "brightness": 0.1, "fill_mode": "constant"},
    "boxes": {  # what boxes of a chest X-ray follow: small moves, and nothing shown twice
        "rotation": 10,
        "shift": (0.02, 0.04),
        "zoom": (0.02, 0.03),
        "shear": 1,
        "brightness": 0.1,
        "fill_mode": "constant",
    },
    "strong": {
        "horizontal_flip": True,
        "rotation": 20,
        "shift": 0.1,
        "zoom": 0.2,
        "shear": 10,
        "brightness": 0.2,
        "channel_shift": 20,
        "erasing": 0.25,
        "mixup": 0.2,
    },
}


def _one_or_two(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError as error:  # pydantic would report both kinds of value, by names of its own
        raise ValueError("it is a number from 0 to below 1, or a list of two: [x, y]") from error


_Share = Annotated[float, Field(ge=0, lt=1)]
Shares = Annotated[_Share | tuple[_Share, _Share], WrapValidator(_one_or_two)]


class AugmentSettings(Settings):
    """`augment`: what is drawn anew for every image of every epoch. 0 and false switch a change off.

    Ranges are symmetric and uniform: rotation 10 draws from -10 to 10 degrees.
    """

    # Values to start from, PRESETS above; settings beside it override them.
    preset: Literal["none", "pcam", "xray", "boxes", "strong"] = "none"
    horizontal_flip: bool = False  # of every other image, left to right
    vertical_flip: bool = False  # of every other image, top to bottom
    rotation: float = Field(0, ge=0, le=180)  # degrees
    shift: Shares = 0  # share of the side, in x and in y; [x, y]: one for each
    # 0.1: a factor from 0.9 to 1.1; [x, y]: width and height by a factor each, which changes the image's proportions.
    zoom: Shares = 0
    shear: float = Field(0, ge=0, lt=90)  # degrees, along x
    # Share of the side by which each edge of the image moves: inwards it leaves a black frame, outwards it crops.
    border: float = Field(0, ge=0, lt=0.5)
    brightness: float = Field(0, ge=0, lt=1)  # 0.1: a factor from 0.9 to 1.1
    channel_shift: float = Field(0, ge=0, le=255)  # grey levels added, drawn for each channel
    contrast: float = Field(0, ge=0, lt=1)  # 0.1: differences from the image's mean by a factor from 0.9 to 1.1
    gamma: float = Field(0, ge=0, lt=1)  # 0.1: grey levels, as shares of white, to a power from 0.9 to 1.1
    # A random rising curve of grey levels. 0.5: its four straight pieces get slopes from 0.5 to 1.5, scaled so that
    # black and white stay.
    histogram: float = Field(0, ge=0, lt=1)
    # Haematoxylin, eosin and residual of stained tissue, by a factor and a shift each (Tellez et al. 2019, whose light
    # is 0.05 and strong 0.2); colour images only.
    stain: float = Field(0, ge=0, lt=1)
    # How pixels from outside the image are filled. Where boxes are learnt, only constant: what is mirrored has no box.
    fill_mode: Literal["constant", "reflect", "nearest", "wrap"] = "reflect"
    fill_value: float = Field(0, ge=0, le=255)  # grey level, for fill_mode constant
    rand_augment: float = Field(0, ge=0, le=1)  # magnitude of Keras's RandAugment, two operations per image
    erasing: float = Field(0, ge=0, le=1)  # probability that an image loses a rectangle (RandomErasing)
    grid_mask: float = Field(0, ge=0, le=1)  # probability that an image loses a grid (GridMask; needs keras-cv)
    # Of a box: the share of its area that has to stay in the image, and not erased, or it is dropped.
    min_visible: float = Field(0.3, ge=0, le=1)
    # Mixing images, and their labels with them; of several that are on, each batch uses one.
    mixup: float = Field(0, ge=0)  # alpha of MixUp's beta distribution
    cutmix: float = Field(0, ge=0, le=1)  # factor of Keras's CutMix
    fourier_mix: float = Field(0, ge=0)  # alpha of FourierMix (needs keras-cv)
    # Layers of your own, FILE.py:NAME each (docs/extending.md), which change the pixels after all of the above but
    # erasing and mixing, and move none.
    layers: tuple[str, ...] = ()

    @field_validator("layers")
    @classmethod
    def _are_code(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not (reference := extensions.parse(name)) or not reference.name:
                raise ValueError(f"{name!r}: write each as FILE.py:NAME")
        return names

    @model_serializer(mode="wrap")
    def _without_no_layers(self, serialize: SerializerFunctionWrapHandler) -> Any:
        values = serialize(self)  # what was trained before there were such layers keeps its identity
        return values if self.layers else {key: value for key, value in values.items() if key != "layers"}

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return {**PRESETS.get(str(values.get("preset")), {}), **values} if isinstance(values, dict) else values

    @property
    def shift_xy(self) -> tuple[float, float]:
        """`shift` in x and in y."""
        return self.shift if isinstance(self.shift, tuple) else (self.shift, self.shift)

    @property
    def zoom_xy(self) -> tuple[float, float]:
        """`zoom` in x and in y."""
        return self.zoom if isinstance(self.zoom, tuple) else (self.zoom, self.zoom)

    @property
    def looks_outside(self) -> bool:
        """Whether a change can bring places from outside the image into it."""
        return any((self.rotation, self.shear, *self.shift_xy, *self.zoom_xy))

    @property
    def moves(self) -> bool:
        """Whether a change can move pixels."""
        return bool(self.horizontal_flip or self.vertical_flip or self.looks_outside or self.border)


def check_augment(settings: AugmentSettings, prediction: str, color: str = "rgb") -> None:
    """Raise ConfigError for a change that images of this colour, or boxes, cannot follow.

    `prediction` is that of the task (kit.tasks.Task), "boxes" or "probabilities"; `color` is image.color.
    """
    if settings.stain and color == "gray":
        raise ConfigError("augment.stain changes the stains of colour images, but image.color = gray: set it to 0")
    if prediction != "boxes":
        return
    for name in ("rand_augment", "mixup", "cutmix", "fourier_mix"):
        if getattr(settings, name):
            raise ConfigError(f"augment.{name} does not move boxes along with the pixels: set it to 0")
    if settings.looks_outside and settings.fill_mode != "constant":
        raise ConfigError(
            f"augment.fill_mode = {settings.fill_mode} would repeat parts of an image without their boxes: "
            "set it to constant (as augment.preset = boxes does)"
        )

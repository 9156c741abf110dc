"""`augment`: random changes of the training images, made on the accelerator."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kit.config.base import Settings

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


class AugmentSettings(Settings):
    """`augment`: what is drawn anew for every image of every epoch. 0 and false switch a change off.

    Ranges are symmetric and uniform: rotation 10 draws from -10 to 10 degrees.
    """

    # Values to start from, PRESETS above; settings beside it override them.
    preset: Literal["none", "pcam", "xray", "strong"] = "none"
    horizontal_flip: bool = False  # of every other image, left to right
    vertical_flip: bool = False  # of every other image, top to bottom
    rotation: float = Field(0, ge=0, le=180)  # degrees
    shift: float = Field(0, ge=0, lt=1)  # share of the side, in x and in y
    zoom: float = Field(0, ge=0, lt=1)  # 0.1: a factor from 0.9 to 1.1
    shear: float = Field(0, ge=0, lt=90)  # degrees, along x
    brightness: float = Field(0, ge=0, lt=1)  # 0.1: a factor from 0.9 to 1.1
    channel_shift: float = Field(0, ge=0, le=255)  # grey levels added, drawn for each channel
    # How pixels from outside the image are filled.
    fill_mode: Literal["constant", "reflect", "nearest", "wrap"] = "reflect"
    fill_value: float = Field(0, ge=0, le=255)  # grey level, for fill_mode constant
    rand_augment: float = Field(0, ge=0, le=1)  # magnitude of Keras's RandAugment, two operations per image
    erasing: float = Field(0, ge=0, le=1)  # probability that an image loses a rectangle (RandomErasing)
    grid_mask: float = Field(0, ge=0, le=1)  # probability that an image loses a grid (GridMask; needs keras-cv)
    # Mixing images, and their labels with them; of several that are on, each batch uses one.
    mixup: float = Field(0, ge=0)  # alpha of MixUp's beta distribution
    cutmix: float = Field(0, ge=0, le=1)  # factor of Keras's CutMix
    fourier_mix: float = Field(0, ge=0)  # alpha of FourierMix (needs keras-cv)

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        return {**PRESETS.get(str(values.get("preset")), {}), **values} if isinstance(values, dict) else values

"""`image`: what the records hold. Any change builds new records, and trains on them anew."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from kit.config.base import PathText, Settings

Positive = Annotated[float, Field(gt=0)]


def _ascending(percentiles: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError("percentiles are two numbers from 0 to 100, the lower one first")
    return percentiles


class CenterCrop(Settings):
    """Crops the central size x size pixels; a smaller image stops the build."""

    name: Literal["center_crop"]
    size: int = Field(ge=1)  # pixels


class Resize(Settings):
    """Resizes to size x size pixels, without keeping the aspect ratio."""

    name: Literal["resize"]
    size: int = Field(ge=1)  # pixels
    method: Literal["area", "lanczos"] = "area"  # area: mean over areas, for shrinking; lanczos: three lobes, for both


class Grayscale(Settings):
    """Converts to one channel, the luma of ITU-R BT.601."""

    name: Literal["grayscale"]


class Clahe(Settings):
    """Equalises the histogram adaptively, with limited contrast (Zuiderveld 1994); for colour images the lightness."""

    name: Literal["clahe"]
    clip_limit: float = Field(2.0, gt=0)  # a multiple of the mean count of a tile's histogram
    tiles: int = Field(8, ge=1)  # per side


class Percentile(Settings):
    """Stretches grey levels so that two percentiles of the image's become black and white; channels share the range."""

    name: Literal["percentile"]
    low: float = Field(1.0, ge=0, le=100)  # percent of the values that become black
    high: float = Field(99.0, ge=0, le=100)  # percent of the values up to those that become white

    @model_validator(mode="after")
    def _is_ascending(self) -> "Percentile":
        _ascending((self.low, self.high))
        return self


class Reinhard(Settings):
    """Gives stained tissue the colours of a reference, by mean and deviation (Reinhard et al. 2001, in CIELAB)."""

    name: Literal["reinhard"]
    # Of L* (0 to 100), a* and b*; the defaults, also of the deviations, are those of 450 slides of TCGA (slideflow's
    # preset v3).
    means: tuple[float, float, float] = (65.22, 28.93, -14.14)
    deviations: tuple[Positive, Positive, Positive] = (15.80, 9.26, 6.02)  # standard deviations of L*, a* and b*


class Macenko(Settings):
    """Gives stained tissue the haematoxylin and eosin of a reference (Macenko et al. 2009)."""

    name: Literal["macenko"]
    # Its optical densities of red, green and blue; the defaults of all three are those of github
    # mitkovetta/staining-normalization, as in torchstain.
    haematoxylin: tuple[Positive, Positive, Positive] = (0.5626, 0.7201, 0.4062)
    eosin: tuple[Positive, Positive, Positive] = (0.2159, 0.8012, 0.5581)  # its optical densities
    concentrations: tuple[Positive, Positive] = (1.9705, 1.0308)  # of both stains, at the 99th percentile of pixels


class SuperResolution(Settings):
    """Enlarges with a TensorFlow Hub model."""

    name: Literal["super_resolution"]
    model: PathText = "https://tfhub.dev/captain-pool/esrgan-tf2/1"  # an address, or the folder of a SavedModel
    batch_size: int = Field(32, ge=1)  # images


Step = Annotated[
    CenterCrop | Resize | Grayscale | Clahe | Percentile | Reinhard | Macenko | SuperResolution,
    Field(discriminator="name"),
]
Percentiles = Annotated[tuple[float, float], AfterValidator(_ascending)]


class DicomSettings(Settings):
    """`image.dicom`: how DICOM values become 8 bit. Other formats ignore it."""

    # first: the first VOI LUT or window of the header; otherwise the one with this explanation, such as LUNG.
    window: str = "first"
    # Instead of a window: the two percentiles of an image's values that become black and white, such as [1, 99].
    percentiles: Percentiles | None = None
    # Which frame of a multi-frame file to use, counted from 0; null: such files are rejected.
    frame: int | None = Field(None, ge=0)


class ImageSettings(Settings):
    """`image`: how images are prepared and stored. They are part of the records' fingerprint."""

    # Applied in this order, before the final size and colour: center_crop, resize, grayscale, clahe, percentile,
    # reinhard, macenko, super_resolution; such as [{name: center_crop, size: 512}, {name: clahe, clip_limit: 3}].
    steps: tuple[Step, ...] = ()
    # Pixels: images are resized to size x size, without keeping the aspect ratio.
    size: int = Field(96, ge=16, le=2048)
    color: Literal["rgb", "gray"] = "rgb"
    # raw: uint8 pixels; png; jpeg:Q with a quality Q from 1 to 100 (jpeg alone: 95).
    # auto: a JPEG that needs no change is stored as it is, everything else as png; auto:Q: everything else as jpeg:Q.
    encoding: str = "auto"
    # Values of more than 8 bit (PNG, TIFF): the two percentiles of an image's values that become black and white, such
    # as [1, 99]; null: the smallest and the largest.
    percentiles: Percentiles | None = None
    # Larger images are rejected before they are decoded. A worker needs 7 bytes a pixel: 2 GB for 300 million pixels.
    max_pixels: int = Field(300_000_000, ge=1, le=2**30)
    dicom: DicomSettings = DicomSettings()

    @field_validator("steps")
    @classmethod
    def _have_colour(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        names = [step.name for step in steps]
        for name in ("reinhard", "macenko"):
            if "grayscale" in names and name in names[names.index("grayscale") :]:
                raise ValueError(f"{name} needs colour: put it before grayscale")
        return steps

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, encoding: str) -> str:
        if not re.fullmatch(r"raw|png|(auto|jpeg)(:([1-9]|[1-9][0-9]|100))?", encoding):
            raise ValueError("an encoding is raw, png, jpeg:Q, auto or auto:Q, with a quality Q from 1 to 100")
        return encoding

"""What is known about a model before it is built: its card, and where its pre-trained weights come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras
    import numpy as np

BACKBONE = "backbone"  # the name, in every model that has one, of the layer that pre-trained weights go into


@dataclass(frozen=True)
class Published:
    """ImageNet weights that somebody published: the usual file name, its MD5 or SHA-256, and how to download it.

    `download()` returns a model that holds the weights, checked by Keras against the same checksum; None where nobody
    serves the file. `package` is the pip package that brings it, if any, in its folder `models`. `read(path)` returns
    the arrays of each layer by its name, of a file that Keras cannot read.
    """

    file: str
    checksum: str | None  # None: nobody published one
    download: "Callable[[], keras.Model] | None" = None
    package: str = ""
    read: "Callable[[Path], Mapping[str, Sequence[np.ndarray]]] | None" = None
    megabytes: int | None = None  # about, of the file


@dataclass(frozen=True)
class Provided:
    """Weights that come with a library's network; `model.weights` asks for them by `word`.

    `load(shape)` returns a model for images of `shape` that holds them; None where the builder has loaded them already.
    `whole`: they are those of the whole network, not of its backbone alone.
    """

    word: str
    load: "Callable[[tuple[int, int, int]], keras.Model] | None" = None
    whole: bool = False


@dataclass(frozen=True)
class ModelCard:
    """A model's builder, the image side it was made for in pixels, and the weights that it starts from by default.

    `parameters` are the total and trainable counts at `size` with `outputs` outputs, as published by the model's source
    or counted once. `licence` is that of the published weights; `published` says where to find them. A network that
    finds `boxes` is a `kit.models.detect.detector.Detector`; where it stands on any registered model (its argument
    `backbone`), `backbone` names the default one, whose card says where weights come from. What is `fitted` to the
    training images is the whole `network`, or only a `head` on features that are computed once.
    """

    name: str
    builder: "Callable[..., keras.Model]"
    size: int
    weights: str = "none"
    parameters: tuple[int, int] | None = None
    outputs: int = 1
    licence: str = ""
    source: str = ""
    published: Published | Provided | None = field(default=None, repr=False)
    prediction: Literal["probabilities", "boxes"] = "probabilities"
    backbone: str = ""
    fitted: Literal["network", "head"] = "network"

"""`input`: how records become training batches."""

from typing import Literal

from pydantic import Field

from kit.config.base import Settings


class InputSettings(Settings):
    """`input`: sampling, caching and order of the training examples."""

    # classes: every class comes up equally often (multilabel: the positives of every label, and the images without
    # any). Not together with train.loss.weights, which corrects the same imbalance.
    balance: Literal["none", "classes"] = "none"
    # What to keep in memory: encoded (as stored) or decoded (uint8 pixels) images. It is an error if they do not fit.
    # Even with none, encoded images stay in memory where they fit into a quarter of the free memory.
    cache: Literal["none", "encoded", "decoded"] = "none"
    # Detection: how many boxes an image of a batch has room for; null: as many as the image with the most has.
    most_boxes: int | None = Field(None, ge=1)
    # The order of an epoch depends on seed, fold and epoch alone; false lets tf.data hand over what is ready first.
    deterministic: bool = True

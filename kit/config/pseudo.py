"""`pseudo`: a second round of training, on confident predictions."""

from pydantic import Field

from kit.config.base import PathText, Settings


class PseudoSettings(Settings):
    """`pseudo`: train on test images too, with the labels that an earlier run is confident of (Lee 2013).

    That run must have the same records and folds. Each fold uses the predictions of the earlier model of the same fold:
    all others have seen the images it is validated on.
    """

    run: PathText | None = None  # the earlier run's directory; null: no pseudo-labels
    # Of classes that exclude each other the likeliest one becomes the label, from `above` on.
    above: float = Field(0.95, gt=0.5, le=1)  # a probability of at least this becomes the label 1
    below: float = Field(0.05, ge=0, lt=0.5)  # a probability of at most this becomes the label 0; others stay unknown

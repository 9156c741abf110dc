"""`data`: how raw files become records."""

from pydantic import Field

from kit.config.base import PathText, Settings


class DataSettings(Settings):
    """`data`: which training images to leave out, how much may be wrong with the raw files, and the size of shards."""

    # A CSV file with a column `id`, such as `labels_to_check.csv`: these training images are left out. null: none is.
    exclude: PathText | None = None

    # How many expected images may have no file, and how many files no label, each as a share of the expected images.
    # More is an error; fewer are left out and reported.
    max_missing: float = Field(0.0, ge=0, le=1)
    # Share of the images that may be unreadable. More is an error; fewer are left out and listed in the manifest.
    max_rejected: float = Field(0.01, ge=0, le=1)
    # MiB of decoded pixels per shard; a cell with more gets several shards. A change builds new records.
    shard_mib: float = Field(256, gt=0)

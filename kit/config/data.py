"""`data`: how raw files become records."""

from pydantic import Field

from kit.config.base import Settings


class DataSettings(Settings):
    """`data`: how much may be wrong with the raw files, and how large a shard of records gets."""

    # How many expected images may have no file, and how many files no label, each as a share of the expected images.
    # More is an error; fewer are left out and reported.
    max_missing: float = Field(0.0, ge=0, le=1)
    # Share of the images that may be unreadable. More is an error; fewer are left out and listed in the manifest.
    max_rejected: float = Field(0.01, ge=0, le=1)
    # MiB of decoded pixels per shard; a cell with more gets several shards. A change builds new records.
    shard_mib: float = Field(256, gt=0)

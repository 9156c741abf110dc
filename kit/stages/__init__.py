"""The stages, one file each: where the rooms meet."""

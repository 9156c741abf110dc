"""Records: written, described, read."""

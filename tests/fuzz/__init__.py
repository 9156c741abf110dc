"""Fuzzers: many damaged or hostile inputs of one kind, the same ones every time."""

import os


def examples(count: int) -> int:
    """How many inputs to try: `count`, or $KIT_FUZZ times as many (`make fuzz`)."""
    return count * int(os.environ.get("KIT_FUZZ", "1"))

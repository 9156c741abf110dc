"""How fast `kit examples --check` looks at images, against a loop that decodes and hashes them one after the other.

    python scripts/bench/check.py FOLDER [FOLDER ...] [--images 5000] [--repeats 3]

The image files below each FOLDER (DICOM or what Pillow reads) are looked at in turn until there are that many.
"""

import argparse
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pydicom
from common import in_turn, machine, show
from PIL import Image

from kit.config import ImageSettings
from kit.data.table.check import look_at
from kit.data.table.listing import list_images


def loop(root, paths):
    """What a notebook does: every file decoded, its pixels hashed."""
    hashes = set()
    for path in paths:
        if path.endswith(".dcm"):
            pixels = pydicom.dcmread(root / path).pixel_array
        else:
            with Image.open(root / path) as image:
                pixels = np.asarray(image)
        hashes.add(hashlib.md5(pixels.tobytes()).hexdigest())
    return len(paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    for root in options.folders:
        paths = list(itertools.islice(itertools.cycle(list_images(root)["path"]), options.images))
        variants = {
            "kit": lambda root=root, paths=paths: len(look_at(paths, root, ImageSettings())),
            "kit, 1 worker": lambda root=root, paths=paths: len(look_at(paths, root, ImageSettings(), workers=1)),
            "loop": lambda root=root, paths=paths: loop(root, paths),
        }
        speeds = in_turn(variants, options.repeats)
        show(f"{root.name}: {options.images} looks", speeds, against="loop")


if __name__ == "__main__":
    main()

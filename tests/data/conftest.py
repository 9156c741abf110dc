"""What the tests of building and reading records share."""

import filecmp

from kit.competitions import toy
from kit.config import DataSettings, ImageSettings, Source
from kit.data.records.build import build_records
from kit.data.table.examples import validate

SIZE = ImageSettings(size=32)
TOLERANT_OF_1_PERCENT = DataSettings()


def build(root, out, image=SIZE, data=TOLERANT_OF_1_PERCENT, workers=None):
    """Records of a toy folder."""
    examples = validate(toy.COMPETITION.read(root, Source()), 0)
    return build_records("toy", examples, root, out, image, data, workers)


def same_files(a, b):
    """Whether two folders hold files of the same names and bytes."""
    names = sorted(path.name for path in a.iterdir())
    return names == sorted(path.name for path in b.iterdir()) and not any(
        filecmp.cmpfiles(a, b, names, shallow=False)[1:]
    )

"""Hostile and damaged zips: unpacked inside their folder or refused in one line; never deleted without a proof."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from kit.errors import KitError
from kit.kaggle.archives import unpack
from tests.fuzz import examples

PARTS = (
    "a",
    "b",
    "A",
    "..",
    ".",
    "",
    "ä",
    "...zip",
    "x.zip",
    "C:",
    "n" * 260,
    "\N{LATIN SMALL LETTER A}\u0301",
    "nul\0l",
)
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).flatmap(
    lambda parts: st.sampled_from(("/", "\\")).map(lambda separator: separator.join(parts))
)
METHODS = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))


def packed(entries, method):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name or "x"), data, method)
    return content.getvalue()


def archives(content):
    return st.builds(packed, st.lists(st.tuples(NAMES, content), max_size=5), METHODS)


ARCHIVES = archives(st.binary(max_size=60) | archives(st.binary(max_size=60)))
DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:Duplicate name")
@seed(15)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=ARCHIVES, damage=DAMAGE, cut=st.floats(0.5, 1.5))
def test_unpacked_inside_or_refused(tmp_path, content, damage, cut):
    data = bytearray(content[: int(len(content) * cut)])
    for place, value in damage:
        if data:
            data[int(place * len(data))] = value
    base = Path(tmp_path, "base")
    shutil.rmtree(base, ignore_errors=True)
    (base / "deep").mkdir(parents=True)
    archive = base / "deep" / "a.zip"
    archive.write_bytes(data)
    try:
        unpack(archive, base / "deep" / "out", max_gib=0.01)
    except KitError as error:
        assert archive.exists() == ("has been deleted" not in str(error))
    else:
        assert archive.read_bytes() == bytes(data)
    assert {path.name for path in base.iterdir()} == {"deep"}
    assert {path.name for path in (base / "deep").iterdir()} <= {"a.zip", "out"}

"""Downloads: whole, going on where they were cut off, and unpacked nowhere but where they belong."""

import io
import random
import zipfile

import pytest

from kit.cli import main
from kit.competitions import toy
from kit.competitions.breast import COMPETITION as BREAST
from kit.competitions.nih import COMPETITION as NIH
from kit.competitions.pcam import COMPETITION as PCAM
from kit.errors import ConfigError, KitError
from kit.kaggle.archives import unpack
from kit.kaggle.client import Kaggle
from kit.kaggle.fetch import fetch_data


def archive(entries):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in entries.items():
            packed.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def login(stub):
    return lambda: Kaggle(sleep=lambda seconds: None)


def test_kit_data_fetch_ends_with_a_look_at_every_image(stub, tmp_path, capsys, monkeypatch):
    toy.make(tmp_path / "raw", train=6, test=3)
    files = {str(path.relative_to(tmp_path / "raw")): path.read_bytes() for path in (tmp_path / "raw").rglob("*.*")}
    stub.downloads[f"/files/{PCAM.slug}.zip"] = archive(files)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "pcam"]) == 0
    printed = capsys.readouterr().out
    assert "unpacked into data/pcam" in printed and "9 images" in printed.replace("  ", " ")
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"pcam"}
    assert main(["data", "fetch", "pcam"]) == 0
    assert "is there already" in capsys.readouterr().out and stub.count("DownloadDataFiles") == 1


def test_a_dataset_cut_off_and_continued(stub, login, tmp_path):
    content = random.Random(0).randbytes(3_000_000)
    stub.downloads["/files/nih-chest-xrays/data.zip"] = archive({"a/1.png": content, "a/2.png": content[::-1]})
    stub.fail("GET", "truncated", times=99)
    out = tmp_path / "nih"
    with pytest.raises(KitError, match="run the same command again to continue"):
        fetch_data(NIH, out, login)
    stub.faults.clear()
    assert not out.exists() and (tmp_path / ".part-.kit-nih-nih-chest-xrays-data.zip").stat().st_size > 0
    fetch_data(NIH, out, login)
    assert (out / "a/1.png").read_bytes() == content and [path.name for path in tmp_path.glob("*nih*")] == ["nih"]
    assert not stub.leaks


def test_a_broken_archive_is_fetched_again(stub, login, tmp_path):
    whole = archive({"1.png": b"x" * 5000})
    stub.downloads[f"/files/{PCAM.slug}.zip"] = whole[:40] + bytes([whole[40] ^ 255]) + whole[41:]
    with pytest.raises(KitError, match="was broken"):
        fetch_data(PCAM, tmp_path / "pcam", login)
    assert not (tmp_path / "pcam").exists()
    stub.downloads[f"/files/{PCAM.slug}.zip"] = whole
    fetch_data(PCAM, tmp_path / "pcam", login)
    assert (tmp_path / "pcam/1.png").stat().st_size == 5000


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_no_path_outside(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(archive({"fine": b"1", name: b"2"}))
    with pytest.raises(KitError, match="would be written outside"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_no_links_and_no_bombs(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    (tmp_path / "a.zip").write_bytes(archive({link: "/etc/passwd"}))
    with pytest.raises(KitError, match="'link' in it is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    (tmp_path / "b.zip").write_bytes(archive({"zeros": bytes(3 * 2**20)}))
    with pytest.raises(KitError, match=r"would become 0\.0 GiB: allow it with --max-gib"):
        unpack(tmp_path / "b.zip", tmp_path / "out", max_gib=0.002)
    unpack(tmp_path / "b.zip", tmp_path / "out", max_gib=0.004)
    assert (tmp_path / "out/zeros").stat().st_size == 3 * 2**20


def test_what_is_not_on_kaggle(tmp_path):
    with pytest.raises(ConfigError, match="breast is not on Kaggle"):
        fetch_data(BREAST, tmp_path / "breast", lambda: pytest.fail("no login is needed to say so"))

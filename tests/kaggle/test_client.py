"""The real client against a stub: what it says, what it repeats, and what it never sends twice."""

import importlib.util
import io
import traceback
import zipfile
from pathlib import Path

import pytest

from kit.cli import main
from kit.competitions.pcam import COMPETITION
from kit.kaggle import bundle, http
from kit.kaggle.client import Kaggle, inside
from kit.kaggle.http import KaggleError, Unanswered
from kit.kaggle.requests import create_submission
from tests.kaggle.stub import TOKEN, USER

SLUG = "histopathologic-cancer-detection"


@pytest.fixture
def kaggle(stub):
    """A logged-in client that does not wait."""
    return Kaggle(sleep=lambda seconds: None)


def test_login(kaggle):
    assert kaggle.user == USER


def test_without_a_login_it_says_what_to_do(stub, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    with pytest.raises(KaggleError, match="not logged in to Kaggle: make a token"):
        Kaggle()
    assert capsys.readouterr().out == ""


def test_facts(kaggle):
    assert kaggle.competition(SLUG).user_has_entered
    assert kaggle.submissions_left(SLUG) == 5
    assert kaggle.hours_left("gpu") == pytest.approx(29)
    assert kaggle.dataset_state(f"{USER}/none") is None
    assert kaggle.kernel(f"{USER}/none") is None


@pytest.mark.parametrize("fault", [429, 500, 503, 520, "reset", "truncated", "html"])
def test_reads_are_tried_again(kaggle, stub, fault):
    stub.fail("GetCompetition", fault, times=3)
    assert kaggle.competition(SLUG).user_has_entered
    assert stub.count("GetCompetition") == 4


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [
        (401, "Unauthenticated", "Kaggle rejected the login"),
        (403, "You must accept this competition's rules before you can continue", "the rules are not accepted yet"),
        (403, "Your team has used its submission allowance (5 of 5).", "no submission left today"),
        (403, "Permission 'competitions.participate' was denied", "is the name right"),
        (404, "Not found", "not found on Kaggle"),
        (409, "title already in use", "you already use that name for something else"),
    ],
)
def test_refusals_in_plain_words(kaggle, stub, status, message, says):
    stub.fail("GetCompetition", status, message)
    with pytest.raises(KaggleError, match=says):
        kaggle.competition(SLUG)
    assert stub.count("GetCompetition") == 1


def test_what_changes_something_is_sent_once(kaggle, stub, tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,label\na,0.5\n")
    for fault in ("lost", "reset", 500, "html"):
        stub.fail("CreateSubmission", fault)
        before = stub.count("CreateSubmission")
        with pytest.raises(Unanswered):
            kaggle.submit(SLUG, path, "kit")
        assert stub.count("CreateSubmission") == before + 1
    kaggle.submit(SLUG, path, "kit abc")
    entries = kaggle.submissions(SLUG)
    assert (
        entries[0].description == "kit abc"
        and len(entries) == len(stub.submissions) == 3
        and stub.submissions[-1]["content"] == path.read_bytes()
    )


def test_downloads_are_whole_or_not_there(kaggle, stub, tmp_path):
    stub.downloads["/out/x"] = b"0123456789" * 1000
    stub.fail("GET", "truncated")
    kaggle.fetch(f"{stub.address}/out/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == stub.downloads["/out/x"] and stub.count("GET") == 2
    with pytest.raises(KaggleError, match="not found on Kaggle"):
        kaggle.fetch(f"{stub.address}/out/absent", tmp_path / "absent")
    stub.fail("GET", "truncated", times=99)
    with pytest.raises(KaggleError, match="could not download y"):
        kaggle.fetch(f"{stub.address}/out/x", tmp_path / "y")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [".part-y", "x"]
    stub.faults.clear()
    kaggle.fetch(f"{stub.address}/out/x", tmp_path / "y")  # a later call goes on from the part
    assert (tmp_path / "y").read_bytes() == stub.downloads["/out/x"]
    with pytest.raises(KaggleError, match="10000 of 9999 bytes"):
        kaggle.fetch(f"{stub.address}/out/x", tmp_path / "z", size=9999)
    assert not stub.leaks


def test_names_that_would_leave_the_folder(tmp_path):
    assert inside(tmp_path, "runs/a.csv") == (tmp_path / "runs/a.csv").resolve()
    for name in ("../x", "/etc/passwd", "a/../../x", "."):
        with pytest.raises(KaggleError, match="would be written outside"):
            inside(tmp_path, name)


def test_nothing_reaches_the_real_hosts(kaggle, stub):
    import requests

    with pytest.raises(requests.RequestException):
        kaggle._session.get("https://www.kaggle.com", timeout=5)
    assert set(stub.connects) == {"www.kaggle.com:443"}


def test_a_refused_push_and_sources_that_cannot_be_attached(kaggle, stub):
    metadata = bundle.kernel_metadata(bundle.kernel_title("pcam"), COMPETITION, USER, "gpu", [f"{USER}/absent"])
    assert kaggle.push(metadata, "print(1)").unattached == (f"dataset {USER}/absent",)
    stub.fail("SaveKernel", 409, "title already in use")
    with pytest.raises(KaggleError, match="already use that name"):
        kaggle.push(metadata, "print(1)")


@pytest.mark.parametrize("fault", [401, 403, 409, 500, "reset", "html", "truncated"])
def test_no_token_is_shown(kaggle, stub, capfd, fault):
    """Not in the message, and not in a traceback with all local values, which a bug report may hold."""
    stub.fail("CreateDataset", fault, times=9)
    with pytest.raises(KaggleError) as raised:
        kaggle.upload_dataset("fakeuser/kit-x", "kit x", [], "notes", new=True)
    error = traceback.TracebackException.from_exception(raised.value, capture_locals=False)
    assert TOKEN not in "".join(error.format()) + "".join(capfd.readouterr())


def test_waiting_as_long_as_kaggle_asks(stub):
    waited = []
    kaggle = Kaggle(sleep=waited.append)
    stub.fail("GetCompetition", 429, Retry_After="7")
    kaggle.competition(SLUG)
    assert waited == [7]
    stub.fail("SaveKernel", 429, Retry_After="9")  # nothing was done: also what changes something is sent again
    kaggle.push(bundle.kernel_metadata(bundle.kernel_title("pcam"), COMPETITION, USER, "gpu", []), "print(1)")
    assert waited == [7, 9] and len(stub.kernels[f"{USER}/kit-pcam-kernel"].sources) == 1


def test_a_server_that_does_not_answer_in_time(kaggle, stub, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", (0.2, 0.2))
    stub.fail("GetCompetition", "slow", times=2)
    assert kaggle.competition(SLUG).user_has_entered
    stub.fail("CreateSubmission", "slow")
    with pytest.raises(Unanswered, match="the connection to Kaggle was lost"):
        kaggle._send(
            kaggle._client.competitions.competition_api_client.create_submission, create_submission("a", "b", "c")
        )
    stub.fail("IntrospectToken", "slow", times=99)
    with pytest.raises(KaggleError, match="cannot be reached"):
        Kaggle(sleep=lambda seconds: None)


def test_a_zipped_file_of_a_competition_is_unpacked(kaggle, stub, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("sample.csv", "id,label\n")
    stub.downloads[f"/files/{SLUG}/sample.csv"] = packed.getvalue()
    kaggle.competition_file(SLUG, "sample.csv", tmp_path / "sample.csv")
    assert (tmp_path / "sample.csv").read_text() == "id,label\n" and len(list(tmp_path.glob("*.csv*"))) == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "encrypted"])
def test_a_zipped_file_that_is_damaged(kaggle, stub, tmp_path, damage):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        if damage != "empty":
            archive.writestr("sample.csv", "id,label\n" * 500)
    content = bytearray(packed.getvalue())
    if damage == "encrypted":
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
    elif damage == "flipped":
        content[45] ^= 255
    elif damage == "cut":
        del content[44:50]
    stub.downloads[f"/files/{SLUG}/sample.csv"] = bytes(content)
    with pytest.raises(KaggleError, match=r"sent sample\.csv in an archive that cannot be read"):
        kaggle.competition_file(SLUG, "sample.csv", tmp_path / "sample.csv")
    assert not list(tmp_path.glob("*sample*"))


def test_without_the_client_its_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    hidden = lambda name, *rest: None if name.startswith("kaggle") else real(name, *rest)  # noqa: E731
    monkeypatch.setattr("kit.kaggle.login.find_spec", hidden)
    for command in (["submit", "pcam", "--dry-run"], ["submit", "pcam"], ["data", "fetch", "pcam"]):
        assert main(command) == 2
        assert "pip install kaggle six" in capsys.readouterr().err


def test_a_bad_request_is_not_tried_for_long(kaggle, stub):
    stub.fail("GetCompetition", 400, times=2)
    assert kaggle.competition(SLUG).user_has_entered
    stub.fail("GetCompetition", 400, times=99)
    with pytest.raises(KaggleError, match="Kaggle answered 400: injected"):
        kaggle.competition(SLUG)
    assert stub.count("GetCompetition") == 3 + 3


@pytest.mark.parametrize("body", ["null", "[]", '"x"', "[" * 50_000, "<html>", '{"userHasEntered": []}'])
def test_an_answer_of_another_shape_is_one_error_that_names_the_call(kaggle, stub, body):
    stub.fail("GetCompetition", "json", body, times=99)
    with pytest.raises(
        KaggleError, match=r"^Kaggle's answer to GetCompetition cannot be read \(\w+\): try again later$"
    ):
        kaggle.competition(SLUG)


def test_an_answer_without_end_takes_no_memory(kaggle, stub, monkeypatch):
    monkeypatch.setattr(http, "_LARGEST", 10_000)
    stub.fail("GetCompetition", "json", '{"title": "' + "x" * 20_000 + '"}', times=99)
    with pytest.raises(KaggleError, match="longer than 10,000 bytes"):
        kaggle.competition(SLUG)


@pytest.mark.parametrize(
    ("call", "look"),
    [
        ("ListSubmissions", lambda kaggle: kaggle.submissions(SLUG)),
        ("ListDatasetFiles", lambda kaggle: kaggle.dataset_files("a/b")),
        ("ListKernelSessionOutput", lambda kaggle: kaggle.kernel_log("a/b", 1)),
    ],
)
def test_a_list_whose_page_repeats_ends(kaggle, stub, call, look):
    stub.fail(call, "json", '{"nextPageToken": "again"}', times=9999)
    with pytest.raises(KaggleError, match=f"nextPageToken of {call} repeats"):
        look(kaggle)
    assert stub.count(call) == 2


def test_a_submission_is_found_on_whichever_page_it_is(kaggle, stub, tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,label\na,0.5\n")
    refs = [kaggle.submit(SLUG, path, f"kit number-{n}") for n in range(7)]
    assert kaggle.find_submission(SLUG, "number-0").ref == refs[0] == kaggle.submission(refs[0]).ref
    assert kaggle.find_submission(SLUG, "number-9") is None and kaggle.submission(99) is None
    assert len(kaggle.submissions(SLUG)) == 7 and kaggle.submission_count(SLUG).total == 7


def test_an_older_version_of_a_kernel(kaggle):
    metadata = bundle.kernel_metadata(bundle.kernel_title("pcam"), COMPETITION, USER, "gpu", [])
    for n in (1, 2, 3):
        assert kaggle.push(metadata, f"print({n})").version == n
    assert kaggle.kernel(metadata["id"]) == (3, "print(3)") and kaggle.kernel(metadata["id"], 2) == (3, "print(2)")


def test_escape_codes_of_a_server_are_shown_not_obeyed(kaggle, stub):
    stub.fail("GetCompetition", 409, "red \x1b[31m title\r hidden \u202e gpj.exe")
    with pytest.raises(KaggleError) as raised:
        kaggle.competition(SLUG)
    assert r"red \x1b[31m title\r hidden \u202e gpj.exe" in str(raised.value)
    with pytest.raises(KaggleError, match="would be written outside"):
        inside(Path("folder"), "a\0b")


def test_what_was_never_sent_is_not_unsure(kaggle, stub, monkeypatch):
    """Nobody listens at the address: nothing was done, so the same can be sent again."""
    stub.server.shutdown()
    stub.server.server_close()
    with pytest.raises(KaggleError, match="Kaggle cannot be reached") as raised:
        kaggle.push(bundle.kernel_metadata(bundle.kernel_title("pcam"), COMPETITION, USER, "gpu", []), "print(1)")
    assert not isinstance(raised.value, Unanswered)

"""Which login was refused, and what to do about it; a token is never shown."""

import json

import pytest

from kit.kaggle.client import Kaggle
from kit.kaggle.http import KaggleError
from kit.runtime.session import kaggle_login, logins
from tests.kaggle.stub import TOKEN, USER

BAD = "bad-token-77aa"


@pytest.fixture
def home(stub, tmp_path):
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(exist_ok=True)  # the client makes it when it is first imported
    return folder


def refusal():
    with pytest.raises(KaggleError) as raised:
        Kaggle(sleep=lambda seconds: None)
    assert TOKEN not in str(raised.value) and BAD not in str(raised.value)
    return str(raised.value)


def test_a_token_in_a_file(home, monkeypatch):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (home / "access_token").write_text(f"{TOKEN}\n")
    assert Kaggle().user == USER
    (home / "access_token").write_text(BAD)
    assert f"rejected the login of {home / 'access_token'}: create a new token" in refusal()


def test_a_bad_variable_hides_a_good_file(home, monkeypatch):
    (home / "access_token").write_text(TOKEN)
    monkeypatch.setenv("KAGGLE_API_TOKEN", BAD)
    assert f"of $KAGGLE_API_TOKEN, which hides {home / 'access_token'}: unset it to use that" in refusal()


def test_a_bad_variable_hides_a_good_key(home, monkeypatch):
    """The client falls back to the key, but would go on sending the token that was refused."""
    (home / "kaggle.json").write_text(json.dumps({"username": USER, "key": "k"}))
    monkeypatch.setenv("KAGGLE_API_TOKEN", BAD)
    assert f"of $KAGGLE_API_TOKEN, which hides {home / 'kaggle.json'}" in refusal()
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    from kaggle.api.kaggle_api_extended import KaggleApi

    monkeypatch.setattr(KaggleApi, "config", str(home / "kaggle.json"))  # read from the environment at its import
    assert Kaggle().user == USER, "an older key alone works"


@pytest.mark.parametrize("text", ["", "two words", "schlüssel", "a\nb"])
def test_what_can_be_no_token(home, monkeypatch, text):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (home / "access_token").write_text(text)
    assert f"{home / 'access_token'} holds no Kaggle token or key: make a token" in refusal()
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "access_token"))
    assert f"$KAGGLE_API_TOKEN (the file {home / 'access_token'}) holds no" in refusal()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"username": "x"}'])
def test_what_can_be_no_key(home, monkeypatch, text):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (home / "kaggle.json").write_text(text)
    assert f"{home / 'kaggle.json'} holds no Kaggle token or key" in refusal()


def test_a_login_that_is_refused_later_is_named_too(home, stub):
    kaggle = Kaggle()
    stub.fail("GetCompetition", 401)
    with pytest.raises(KaggleError, match=r"rejected the login of \$KAGGLE_API_TOKEN: create a new token"):
        kaggle.competition("c")


def test_places_in_the_order_of_the_client(home, monkeypatch):
    for name in ("credentials.json", "kaggle.json", "access_token.txt", "access_token"):
        (home / name).touch()
    monkeypatch.setenv("KAGGLE_KEY", "k")
    names = ["$KAGGLE_API_TOKEN", "access_token", "access_token.txt", "$KAGGLE_KEY", "kaggle.json", "credentials.json"]
    assert [place.rsplit("/", 1)[-1] for place in logins()] == names and kaggle_login() == "$KAGGLE_API_TOKEN"

"""A tiny run, served once for each test file that asks for it."""

import contextlib
import json
import urllib.error
import urllib.request
from typing import NamedTuple

import pytest

from kit.serve import server


@pytest.fixture(scope="session")
def run(toy_run):
    """A finished run of two folds, with its records beside it."""
    return toy_run


@pytest.fixture(scope="session")
def served(run):
    """A server of that run."""
    with serving(run.directory) as up:
        yield up


@contextlib.contextmanager
def serving(source, **options):
    """A server on a free port."""
    with server.serving(source, server.Options(port=0, **options)) as up:
        yield up


class Answer(NamedTuple):
    """Status, JSON (or bytes) and headers of an answer."""

    status: int
    content: object
    headers: dict


def ask(address, body=None, headers=()):
    """Send a request, a POST where there is a body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(urllib.request.Request(address, body, dict(headers)), timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        content = answer.read()
    content = json.loads(content) if answer.headers.get_content_type() == "application/json" else content
    return Answer(answer.status, content, dict(answer.headers))

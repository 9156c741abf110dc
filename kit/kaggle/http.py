"""HTTP as Kaggle's client lacks it: time-outs, patience, whole downloads that go on where they were cut, plain words.

Reads are tried again after a lost connection, 429 and 5xx; what changes something is sent once, and after a lost reply
the caller looks whether it happened (`Unanswered`). Nothing here prints, and no header is ever shown.
"""

import contextlib
import io
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit import files
from kit.errors import KitError
from kit.parallel import progress_bar

TIMEOUT = (5, 60)  # seconds to connect, and between two pieces of an answer
TRIES = 6  # of a read
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever Retry-After asks
# Of a storage address: not JSON, and not packed on the way, so that sizes can be compared.
_BARE = {"Content-Type": None, "Accept-Encoding": "identity"}
_LARGE = 20_000_000  # bytes; of what is smaller no progress is shown
_READS = ("Get", "List", "Download", "Introspect", "Start")  # what Start... makes is an address, and costs nothing


class KaggleError(KitError):
    """What Kaggle refused, in a person's words, and the next step; `status` is HTTP's, None without an answer."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class Unanswered(KaggleError):
    """A request that changes something was sent and no answer came: it may have happened or not."""


class NewWord(KaggleError):
    """An answer holds what this version of Kaggle's client does not know, such as a new state."""


@contextlib.contextmanager
def time_outs() -> Iterator[None]:
    """Time-outs for requests that Kaggle's client sends by itself: at its import, and to log in. It has none."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def in_time(self: Any, request: Any, *args: Any, **values: Any) -> Any:
        return send(self, request, *args, **{**values, "timeout": values.get("timeout") or TIMEOUT})

    HTTPAdapter.send = in_time  # type: ignore[method-assign]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


def patient(sleep: Callable[[float], None]) -> Any:
    """An adapter that sets time-outs and, for reads, tries again."""
    import requests
    from requests.adapters import HTTPAdapter

    class Patient(HTTPAdapter):
        def send(self, request: Any, *args: Any, **values: Any) -> Any:
            values["timeout"] = values.get("timeout") or TIMEOUT
            name = request.url.split("?")[0].rsplit("/", 1)[-1]
            if request.method == "PUT":  # its body is a file, read to the end by the first try: `upload` repeats it
                return super().send(request, *args, **values)
            read = request.method == "GET" or is_read(name)
            for done in range(1, TRIES + 1):
                try:
                    answer = super().send(request, *args, **values)
                except (requests.ConnectionError, requests.Timeout):
                    if not read or done == TRIES:
                        raise
                    sleep(pause(done))
                    continue
                again = answer.status_code == 429 or (read and answer.status_code >= 500)
                if not again or done == TRIES:
                    return answer
                asked = answer.headers.get("Retry-After", "")
                answer.close()
                sleep(min(float(asked), _LONGEST_WAIT) if re.fullmatch(r"\d+(\.\d+)?", asked) else pause(done))
            raise AssertionError

    return Patient()


def is_read(name: str) -> bool:
    """Whether a call of that name (`GetKernel`) changes nothing, so that it can be sent again."""
    return name.startswith(_READS)


def fetch(session: Any, url: str, path: Path, sleep: Callable[[float], None], size: int | None = None) -> None:
    """Download an address into a file, whole or not at all; what was cut off goes on from there, also by a later call.

    `size` in bytes, where it is known, is checked. Raises KaggleError for an error page and a body that stays short.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{files.PART}{path.name}")
    for done in range(1, TRIES + 1):
        have = part.stat().st_size if part.exists() else 0
        headers = {**_BARE, "Range": f"bytes={have}-" if have else None}
        try:
            with (
                plain_words(sending=False),
                session.get(url, stream=True, timeout=TIMEOUT, auth=nobody, headers=headers) as answer,
            ):
                if answer.status_code == 416:  # more is here than there is: of another version
                    part.unlink()
                    raise OSError("it has changed since a part of it was fetched")
                answer.raise_for_status()
                goes_on = answer.status_code == 206
                left = answer.headers.get("Content-Length")
                wanted = size if size is not None else None if left is None else int(left) + have * goes_on
                bar = progress_bar(
                    path.name, "B", wanted, have * goes_on, unit_scale=True, disable=(wanted or 0) < _LARGE
                )
                with bar, part.open("ab" if goes_on else "wb") as file:
                    for piece in answer.iter_content(2**20):
                        bar.update(file.write(piece))
            got = part.stat().st_size
            if wanted is not None and got > wanted:
                part.unlink()
            if wanted is not None and got != wanted:
                raise OSError(f"{got} of {wanted} bytes came")
            part.replace(path)
            return
        except (KaggleError, OSError) as error:
            if done == TRIES or (isinstance(error, KaggleError) and error.status):
                raise KaggleError(
                    f"could not download {path.name}: {error}; the same command goes on from here",
                    getattr(error, "status", None),
                ) from error
            sleep(pause(done))


def upload(session: Any, url: str, path: Path, sleep: Callable[[float], None]) -> None:
    """Send a file's bytes to where Kaggle said; nothing is made of them yet, so this is tried again."""
    for done in range(1, TRIES + 1):
        try:
            with plain_words(sending=False), path.open("rb") as file:
                session.put(url, data=file, auth=nobody, timeout=TIMEOUT, headers=_BARE).raise_for_status()
            return
        except KaggleError as error:
            again = error.status is None or error.status == 429 or error.status >= 500
            if not again or done == TRIES:
                raise KaggleError(f"could not upload {path.name}: {error}", error.status) from error
            sleep(pause(done))


def pause(done: int) -> float:
    """Seconds before the next try: doubling, and not the same for everybody."""
    return min(_LONGEST_WAIT, 2.0**done) * random.uniform(0.5, 1.0)


def nobody(request: Any) -> Any:
    """No login for an address outside Kaggle's API."""
    request.headers.pop("Authorization", None)
    return request


@contextlib.contextmanager
def plain_words(sending: bool) -> Iterator[None]:
    """Turn what the client raises into KaggleError; its prints go nowhere."""
    try:
        import requests
    except ImportError as error:
        raise KaggleError(f"Kaggle's client is needed: pip install 'kit[kaggle]' ({error})") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except requests.HTTPError as error:
        status, message = _said(error)
        if sending and status is not None and status >= 500:
            raise Unanswered(f"Kaggle answered {status}: it is not known whether that was done", status) from error
        raise KaggleError(_meaning(status, message), status) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if sending:
            raise Unanswered("the connection to Kaggle was lost: it is not known whether that was done") from error
        raise KaggleError("Kaggle cannot be reached: is there a network? The same command goes on later") from error
    except (KeyError, AttributeError) as error:
        if sending:
            raise Unanswered(
                f"Kaggle's answer has a new word ({error}): it is not known whether that was done"
            ) from error
        raise NewWord(
            f"Kaggle's answer has a word that its client does not know ({error}): pip install -U kaggle"
        ) from error
    except (requests.RequestException, ValueError) as error:  # a page in the place of JSON
        if sending:
            raise Unanswered("Kaggle's answer cannot be read: it is not known whether that was done") from error
        raise KaggleError(f"Kaggle's answer cannot be read ({type(error).__name__}): try again later") from error


def _said(error: Any) -> tuple[int | None, str]:
    """Status and message of an error; Kaggle may send both in the body of an answer that says 200."""
    status = None if error.response is None else error.response.status_code
    try:
        body = error.response.json()
        code = body.get("code")
        return (code if isinstance(code, int) and code >= 400 else status), str(body["message"])
    except Exception:  # a page, or nothing at all
        return status, str(error).split(" for url")[0]


def _meaning(status: int | None, message: str) -> str:
    """An HTTP error in a person's words, with the next step; 403 has three meanings, told apart by what it says."""
    text = message.lower()
    if status == 401:
        return (
            "Kaggle does not know this login (any more): make a new token at kaggle.com/settings, or kaggle auth login"
        )
    if status == 403 and "allowance" in text:
        return f"no submission left today: {message}"
    if status == 403 and ("accept" in text or "rules" in text):
        return f"the rules are not accepted yet: open the competition's page, join it, and run this again ({message})"
    if status == 403:
        return f"Kaggle does not allow that: is the name right, and have you joined the competition? ({message})"
    if status == 404:
        return f"Kaggle knows no such thing: is the name right? ({message})"
    if status == 409:
        return f"that name is taken by something else of yours: {message}"
    if status == 429:
        return "Kaggle asks to slow down: run this again in some minutes"
    return f"Kaggle answered {status}: {message}"

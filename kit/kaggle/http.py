"""What Kaggle's client lacks in HTTP: time-outs, retries, whole downloads that can be resumed, readable errors.

Reads are retried after a lost connection, a passing status and an answer that is cut or no JSON; what changes something
is sent once, and after a lost reply the caller looks whether it happened (`Unanswered`). Nothing here prints, and no
header is ever shown.
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
from kit.kaggle.text import shortened, visible
from kit.parallel import progress_bar
from kit.runtime.session import logins

TIMEOUT = (5, 60)  # seconds to connect, and between two pieces of an answer
TRIES = 6  # of a read
_TRIES_400 = 3  # Kaggle sometimes answers 400 for a moment; a wrong request, always
_LARGEST = 2**27  # bytes of an answer of the API; the longest are logs
_LONGEST_WAIT = 60.0  # seconds between two tries, whatever Retry-After says
# For storage addresses: not JSON, and not compressed on the way, so that sizes can be compared.
_BARE = {"Content-Type": None, "Accept-Encoding": "identity"}
_LARGE = 20_000_000  # bytes, from which on progress is shown
CLIENT_NEEDED = "Kaggle's client is needed: pip install kaggle six"
_UNSURE = "it may or may not have been done"
_READS = ("Get", "List", "Download", "Introspect", "Start")  # Start... only returns an address


class KaggleError(KitError):
    """What Kaggle refused and what to do about it; `status` is HTTP's, None without an answer that can be read."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(visible(message))
        self.status = status


def passes(status: int | None) -> bool:
    """Whether trouble of that HTTP status passes by itself; None: there was no answer."""
    return status is None or status in (400, 408, 425, 429) or status >= 500


class Unanswered(KaggleError):
    """A request that changes something was sent, and no answer came: it may have happened or not."""


class UnknownValue(KaggleError):
    """An answer holds a value that this version of Kaggle's client does not know, such as a new state."""


@contextlib.contextmanager
def default_timeouts() -> Iterator[None]:
    """Time-outs for the requests that Kaggle's client sends without any: at its import, and to log in."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def send_with_timeout(self: Any, request: Any, *args: Any, **values: Any) -> Any:
        return send(self, request, *args, **{**values, "timeout": values.get("timeout") or TIMEOUT})

    HTTPAdapter.send = send_with_timeout  # type: ignore[method-assign]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


def retrying_adapter(sleep: Callable[[float], None]) -> Any:
    """An adapter that sets time-outs, reads the API's answers whole, and retries reads."""
    import requests
    from requests.adapters import HTTPAdapter

    class Retrying(HTTPAdapter):
        def send(self, request: Any, *args: Any, **values: Any) -> Any:
            values["timeout"] = values.get("timeout") or TIMEOUT
            name = request.url.split("?")[0].rsplit("/", 1)[-1]
            if request.method == "PUT":  # the first try reads its body, a file, to the end: `upload` repeats it
                return super().send(request, *args, **values)
            read = request.method == "GET" or is_read(name)
            for done in range(1, TRIES + 1):
                try:
                    answer = super().send(request, *args, **values)
                    if not values.get("stream"):  # else a download, whose body `fetch` reads
                        _read_body(answer)
                except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                    if not read or done == TRIES:
                        raise
                    sleep(pause(done))
                    continue
                status = answer.status_code if values.get("stream") else _status_of(answer)
                again = status == 429 or (read and passes(status))
                if not again or done == (_TRIES_400 if status == 400 else TRIES):
                    if status is None:
                        raise requests.exceptions.InvalidJSONError("no JSON object")
                    return answer
                seconds = answer.headers.get("Retry-After", "")
                answer.close()
                sleep(min(float(seconds), _LONGEST_WAIT) if re.fullmatch(r"\d+(\.\d+)?", seconds) else pause(done))
            raise AssertionError

    return Retrying()


def _read_body(answer: Any) -> None:
    """Read the body of an answer, as `requests` would do later, but no more than memory has room for."""
    pieces, size = [], 0
    for piece in answer.iter_content(2**16):
        size += len(piece)
        if size > _LARGEST:
            answer.close()
            raise KaggleError(f"Kaggle's answer is longer than {_LARGEST:,} bytes: try again later")
        pieces.append(piece)
    answer._content = b"".join(pieces)


def _status_of(answer: Any) -> int | None:
    """HTTP's status, or the error code within an answer that says 200; None for one that is not a JSON object."""
    if answer.status_code >= 400:
        return int(answer.status_code)
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return None
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return int(answer.status_code) if isinstance(body, dict) else None


def is_read(name: str) -> bool:
    """Whether a call of that name (`GetKernel`) changes nothing, so that it can be repeated."""
    return name.startswith(_READS)


def fetch(session: Any, url: str, path: Path, sleep: Callable[[float], None], size: int | None = None) -> None:
    """Download an address into a file, whole or not at all; an interrupted download is resumed, also by a later call.

    `size` in bytes, where it is known, is checked. Raises KaggleError for an error page and a body that stays short.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{files.PART}{path.name}")
    for done in range(1, TRIES + 1):
        have = part.stat().st_size if part.exists() else 0
        headers = {**_BARE, "Range": f"bytes={have}-" if have else None}
        try:
            with (
                readable_errors(sending=False),
                session.get(url, stream=True, timeout=TIMEOUT, auth=no_login, headers=headers) as answer,
            ):
                if answer.status_code == 416:  # the part is longer than the file: it is of another version
                    part.unlink()
                    raise OSError("it changed since a part of it was downloaded")
                answer.raise_for_status()
                start = have if answer.status_code == 206 else 0
                left = answer.headers.get("Content-Length")
                expected = size if size is not None else None if left is None else int(left) + start
                bar = progress_bar(path.name, "B", expected, start, unit_scale=True, disable=(expected or 0) < _LARGE)
                with bar, part.open("ab" if start else "wb") as file:
                    for piece in answer.iter_content(2**20):
                        bar.update(file.write(piece))
            received = part.stat().st_size
            if expected is not None and received > expected:
                part.unlink()
            if expected is not None and received != expected:
                raise OSError(f"received {received} of {expected} bytes")
            part.replace(path)
            return
        except (KaggleError, OSError) as error:
            if done == TRIES or (isinstance(error, KaggleError) and error.status):
                raise KaggleError(
                    f"could not download {path.name}: {error}; run the same command again to continue",
                    getattr(error, "status", None),
                ) from error
            sleep(pause(done))


def upload(session: Any, url: str, path: Path, sleep: Callable[[float], None]) -> None:
    """Send a file's bytes to the address that Kaggle gave; they have no effect yet, so this is retried."""
    for done in range(1, TRIES + 1):
        try:
            with readable_errors(sending=False), path.open("rb") as file:
                session.put(url, data=file, auth=no_login, timeout=TIMEOUT, headers=_BARE).raise_for_status()
            return
        except KaggleError as error:
            if not passes(error.status) or done == TRIES:
                raise KaggleError(f"could not upload {path.name}: {error}", error.status) from error
            sleep(pause(done))


def pause(done: int) -> float:
    """Seconds before the next try: doubling, with jitter."""
    return min(_LONGEST_WAIT, 2.0**done) * random.uniform(0.5, 1.0)


def no_login(request: Any) -> Any:
    """Remove the login from a request to an address outside Kaggle's API."""
    request.headers.pop("Authorization", None)
    return request


@contextlib.contextmanager
def readable_errors(sending: bool, name: str = "") -> Iterator[None]:
    """Turn what the client raises into KaggleError, and discard what it prints; `name` is the call's, `GetKernel`."""
    try:
        import requests
    except ImportError as error:
        raise KaggleError(f"{CLIENT_NEEDED} ({error})") from error
    answer = f"Kaggle's answer to {name}" if name else "Kaggle's answer"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except KaggleError as error:
        if sending and not isinstance(error, Unanswered) and error.status is None:  # an answer without end
            raise Unanswered(f"{error}: {_UNSURE}") from error
        raise
    except requests.HTTPError as error:
        status, message = _status_and_message(error)
        if sending and status is not None and status >= 500:
            raise Unanswered(f"Kaggle answered {status}: {_UNSURE}", status) from error
        raise KaggleError(_explanation(status, message), status) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if sending and not _never_sent(error):
            raise Unanswered(f"the connection to Kaggle was lost: {_UNSURE}") from error
        raise KaggleError("Kaggle cannot be reached: check the network, then run the same command again") from error
    except KeyError as error:
        value = shortened(repr(error.args[0]) if error.args else "")
        if sending:
            raise Unanswered(f"{answer} has an unknown value ({value}): {_UNSURE}") from error
        message = f"{answer} has a value that its client does not know ({value}): pip install -U kaggle six"
        raise UnknownValue(message) from error
    except (requests.RequestException, ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        if sending:  # a page instead of JSON, or JSON of another shape
            raise Unanswered(f"{answer} cannot be read: {_UNSURE}") from error
        raise KaggleError(f"{answer} cannot be read ({type(error).__name__}): try again later") from error


def _never_sent(error: Any) -> bool:
    """Whether the connection failed before anything was sent: no route, no name, nobody listening."""
    from requests.exceptions import ConnectTimeout
    from urllib3.exceptions import NewConnectionError

    cause = getattr(error.args[0], "reason", None) if error.args else None
    cause = getattr(cause, "original_error", cause)  # of a proxy
    return isinstance(error, ConnectTimeout) or isinstance(cause, NewConnectionError)


def _status_and_message(error: Any) -> tuple[int | None, str]:
    """Status and message of an error; Kaggle may send both in the body of an answer that says 200."""
    status = None if error.response is None else error.response.status_code
    try:
        body = error.response.json()
        code = body.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else status
        return status, shortened(body["message"])
    except Exception:  # a page, or no body
        return status, shortened(str(error).split(" for url")[0])


def _explanation(status: int | None, message: str) -> str:
    """What an HTTP error means and what to do about it; 403 has three meanings, which its message distinguishes."""
    text = message.lower()
    if status == 401:
        return f"Kaggle rejected the login{refused_login()}"
    if status == 403 and "allowance" in text:
        return f"no submission left today: {message}"
    if status == 403 and ("accept" in text or "rules" in text):
        return f"the rules are not accepted yet: join on the competition's page, and run this again ({message})"
    if status == 403:
        return f"Kaggle refused access: is the name right, and have you joined the competition? ({message})"
    if status == 404:
        return f"not found on Kaggle: is the name right? ({message})"
    if status == 409:
        return f"you already use that name for something else: {message}"
    if status == 429:
        return "Kaggle's rate limit is reached: run this again in a few minutes"
    return f"Kaggle answered {status}: {message}"


def refused_login() -> str:
    """` of FILE OR VARIABLE: what to do`, where a login was refused; it is never shown itself."""
    places = logins()
    remedy = "create a new token at https://www.kaggle.com/settings, or run `kaggle auth login`"
    if len(places) > 1 and places[0].startswith("$"):
        return f" of {places[0]}, which hides {places[1]}: unset it to use that, or {remedy}"
    return f" of {places[0]}: {remedy}" if places else f": {remedy}"

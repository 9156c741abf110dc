"""A logged-in session with Kaggle's API, through the SDK of its own client: calls, lists, uploads.

The SDK's requests are used, not the functions behind the client's command line: those take an error page for a file and
a refusal for success. kit.kaggle.http decides what is retried; a request that changes something is sent once. Answers
are read by kit.kaggle.answers within `readable_errors`: one of another shape is one error that names the call.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kit.kaggle import answers, requests
from kit.kaggle.http import (
    KaggleError,
    default_timeouts,
    is_read,
    readable_errors,
    retrying_adapter,
    upload,
)
from kit.kaggle.login import logged_in, require_client

HIDDEN = (403, 404)  # HTTP statuses of what is not there, or not ours to see
_MOST_PAGES = 1000  # of a list


class Session:
    """A login, and what all calls share."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Log in as Kaggle's client does; raises KaggleError when it is not installed or finds no valid login."""
        require_client()
        self._sleep = sleep
        self._connect()

    def renew(self) -> None:
        """Log in again, as a login may last only hours; a failure is ignored."""
        with contextlib.suppress(KaggleError):
            self._connect()

    def _pages(
        self, method: Callable[[Any], Any], request_type: type, parse: Callable[[Any], Any], **values: Any
    ) -> Iterator[Any]:
        """A list, page by page; raises KaggleError for one that has no end."""

        def page_and_token(page: Any) -> tuple[Any, str]:
            return parse(page), str(page.next_page_token or "")

        token, tokens = "", {""}
        while len(tokens) <= _MOST_PAGES:
            page, token = self._call(method, request_type, page_and_token, page_token=token, **values)
            yield page
            if not token:
                return
            if token in tokens:
                break
            tokens.add(token)
        raise KaggleError(f"Kaggle's list has no end (nextPageToken of {_name(method)} repeats): try again later")

    def _upload(self, start: Callable[[Any], Any], path: Path, request: Any) -> str:
        """Upload a file to the address that `request` asks for, which has no effect yet; returns the file's token."""
        url, token = self._send(start, request, answers.upload_address)
        if not (url and token):
            raise KaggleError(f"Kaggle's answer to {_name(start)} has no address to upload to: try again later")
        upload(self._session, url, path, self._sleep)
        return str(token)

    def _upload_blobs(self, paths: list[Path], kind: str) -> list[str]:
        """Upload files of a dataset or a model (`kind`: DATASET, MODEL); returns their tokens."""
        start = self._client.blobs.blob_api_client.start_blob_upload
        return [self._upload(start, path, requests.start_blob_upload(path, kind)) for path in paths]

    def _connect(self) -> None:
        for left in reversed(range(3)):
            try:
                with readable_errors(sending=False, name="IntrospectToken"), default_timeouts():
                    api = logged_in()
                break
            except KaggleError as error:
                if not left or (error.status or 500) < 500:  # no login, or a wrong one
                    raise
                self._sleep(5)
        self.user = str(api.config_values.get("username") or "")
        client = api.build_kaggle_client()
        http = client.http_client()
        http._init_session()
        for scheme in ("http://", "https://"):
            http._session.mount(scheme, retrying_adapter(self._sleep))
        self._client, self._session = client, http._session
        self._competitions = client.competitions.competition_api_client
        self._datasets = client.datasets.dataset_api_client
        self._kernels = client.kernels.kernels_api_client
        self._models = client.models.model_api_client

    def _call(
        self,
        method: Callable[[Any], Any],
        request_type: type,
        parse: Callable[[Any], Any] = lambda answer: answer,
        **values: Any,
    ) -> Any:
        return self._send(method, requests.filled(request_type, **values), parse)

    def _send(
        self, method: Callable[[Any], Any], request: Any, parse: Callable[[Any], Any] = lambda answer: answer
    ) -> Any:
        """What `parse` makes of the answer; what it raises for one of another shape becomes KaggleError."""
        name = _name(method)
        with readable_errors(sending=not is_read(name), name=name):
            return parse(method(request))


def _name(method: Callable[[Any], Any]) -> str:
    """The call's name, `GetKernel`."""
    return "".join(part.title() for part in method.__name__.split("_"))

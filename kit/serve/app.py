"""The page and the JSON API as an ASGI application: routes, limits on what is sent, and who may ask.

A body is read into memory and dropped with its request; no file is written. Nothing about a request is logged but the
place in kit of an error that should not happen.
"""

import asyncio
import base64
import html
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import kit
from kit.decisions import Decision
from kit.serve.answers import how_good
from kit.serve.limits import Limits
from kit.serve.service import Refused, Service

log = logging.getLogger(__name__)
_BUSY = "Too much is being asked at the moment: try again in a few seconds."
_OWN = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": f"{_OWN}; base-uri 'none'; form-action 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "files.js": "text/javascript",
    "picture.js": "text/javascript",
}


def application(service: Service, hosts: Collection[str] | None, framed: bool = False) -> ASGIApp:
    """The application; `hosts` are the names that it answers to (None: any), `framed`: other pages may hold it."""
    return _Guard(_Site(service).starlette, hosts, framed)


class _Site:
    def __init__(self, service: Service) -> None:
        self._service, self._limits = service, service.limits
        self._held = self._waiting = 0
        self._threads = ThreadPoolExecutor(self._limits.waiting, "kit-answer")
        self._page = _text("page.html").replace("TITLE", html.escape(service.facts.title))
        posts = {"predict": self._predict, "picture": self._picture, "map": self._map}
        self.starlette = Starlette(
            routes=[
                Route("/", lambda _: Response(self._page, media_type="text/html")),
                *(Route(f"/{name}", _file(name, kind)) for name, kind in _FILES.items()),
                Route("/api/model", lambda _: JSONResponse(self._model())),
                Route("/api/examples/{number:int}", self._example),
                *(Route(f"/api/{name}", self._answering(f), methods=["POST"]) for name, f in posts.items()),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _model(self) -> dict[str, Any]:
        facts, limits = self._service.facts, self._limits
        return {
            "title": facts.title,
            "run": facts.name,
            "labels": list(facts.decision.labels),
            "kind": "probabilities" if isinstance(facts.decision, Decision) else "boxes",
            "how_good": how_good(facts.decision, facts.scores),
            "card": facts.card,
            "examples": [f"api/examples/{n}" for n in range(len(facts.examples))],
            "examples_are": facts.examples_are,
            "limits": {"size": limits.size, "files": limits.files, "pixels": limits.pixels},
            "kit": kit.__version__,
        }

    async def _example(self, request: Request) -> Response:
        number, examples = request.path_params["number"], self._service.facts.examples
        if number >= len(examples):
            return JSONResponse({"error": "There is no such example."}, 404)
        return Response(examples[number], media_type="application/octet-stream")

    async def _predict(self, request: Request, data: bytes) -> Response:
        images = await self._in_thread(self._service.predict, data)
        return JSONResponse({"images": images}, 422 if all("error" in image for image in images) else 200)

    async def _picture(self, request: Request, data: bytes) -> Response:
        picture = await self._in_thread(self._service.picture, data, _member(request))
        shown = "image/png" if picture.shown.startswith(b"\x89PNG") else "image/jpeg"
        window = picture.window and {**picture.window, "values": _address(picture.values, "image/png")}
        size = {"width": picture.width, "height": picture.height}
        return JSONResponse({**size, "image": _address(picture.shown, shown), "window": window})

    async def _map(self, request: Request, data: bytes) -> Response:
        label = request.query_params.get("label", "")
        found = await self._in_thread(self._service.map, data, label, _member(request))
        return JSONResponse({"image": _address(found.png, "image/png"), "place": found.place, "empty": found.empty})

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async with asyncio.timeout(self._limits.patience):
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _answering(self, function: Callable[[Request, bytes], Awaitable[Response]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                return await self._with_body(request, function)
            except Refused as refusal:
                return _refused(str(refusal), refusal.status)
            except TimeoutError:
                return _refused("It took too long: try again, with fewer or smaller images.", 503)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:  # its text may quote what was sent
                place = traceback.extract_tb(error.__traceback__)[-1]
                log.error(f"an answer failed: {type(error).__name__} in {place.name}, line {place.lineno}")
                return _refused("Something went wrong here: this image cannot be answered.", 500)

        return endpoint

    async def _with_body(self, request: Request, function: Callable[[Request, bytes], Awaitable[Response]]) -> Response:
        """The answer to a request, whose body is held as long as it takes."""
        if self._waiting >= self._limits.waiting:
            raise Refused(_BUSY, 503)
        self._waiting += 1
        taken = 0
        parts = []
        try:
            declared = int(request.headers.get("content-length") or 0)
            _require(declared, self._limits)
            async with asyncio.timeout(self._limits.patience):
                async for part in request.stream():
                    if self._held + len(part) > self._limits.held:
                        raise Refused(_BUSY, 503)
                    taken, self._held = taken + len(part), self._held + len(part)
                    _require(taken, self._limits)
                    parts.append(part)
            data = b"".join(parts)
            parts.clear()
            if not data:
                raise Refused("Nothing was sent: send the bytes of an image as the body.")
            return await function(request, data)
        finally:
            self._waiting, self._held = self._waiting - 1, self._held - taken


class _Guard:
    """Before the site: calls by another name, and by other sites' pages, are refused; every answer gets its headers.

    Without this, a page elsewhere could use the visitor's browser to ask a server that listens on loopback alone (DNS
    rebinding, cross-site requests).
    """

    def __init__(self, site: ASGIApp, hosts: Collection[str] | None, framed: bool) -> None:
        self._site, self._hosts = site, hosts
        policy = _HEADERS["content-security-policy"] + ("" if framed else "; frame-ancestors 'self'")
        headers = {**_HEADERS, "content-security-policy": policy}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # start and end of the server; there are no web sockets
            if scope["type"] == "lifespan":
                await self._site(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self._is_foreign(headers):
            await _refused("This is not asked by its own page.", 403)(scope, receive, with_headers)
            return
        await self._site(scope, receive, with_headers)

    def _is_foreign(self, headers: dict[str, str]) -> bool:
        host = headers.get("host", "")
        if self._hosts is not None and _name(f"//{host}") not in self._hosts:
            return True
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            return True
        origin = headers.get("origin")
        return self._hosts is not None and origin is not None and urlsplit(origin).netloc != host


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _member(request: Request) -> int | None:
    text = request.query_params.get("member", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _require(size: int, limits: Limits) -> None:
    if size > limits.size:
        raise Refused(f"That is larger than {limits.size >> 20} MiB, which is the most that is taken at a time.", 413)


def _refused(sentence: str, status: int) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)


def _address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    text = _text(name)
    return lambda _: Response(text, media_type=kind)


def _text(name: str) -> str:
    return (resources.files("kit.serve") / name).read_text(encoding="utf-8")

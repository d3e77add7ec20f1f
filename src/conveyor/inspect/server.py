"""The page, served on the loopback, and nobody else's page may read it."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from conveyor.errors import ConveyorError
from conveyor.inspect.answers import Answers, encoded
from conveyor.inspect.recording import Recording

WEB = files("conveyor.inspect") / "web"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
LONGEST = 1 << 20
"""Bytes of a text that is typed into the page."""
INDEX = (WEB / "index.html").read_text()
IMPORTS, BEGIN = re.findall(r"<script[^>]*>(.*?)</script>", INDEX, re.DOTALL)
"""What is written in the page itself: where its modules are, and what begins."""


def _policy() -> bytes:
    own = " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in (IMPORTS, BEGIN))
    images, style = "img-src 'self' data: blob:", "style-src 'self' 'unsafe-inline'"
    return f"default-src 'self'; script-src 'self' {own}; {images}; {style}; frame-ancestors 'none'".encode()


POLICY = _policy()


def app(answers: Answers, hosts: frozenset[str], read: Callable[[str], Recording] | None = None) -> Starlette:
    """The page and its answers, for requests to `hosts` alone; `read` records what is typed into the page."""

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        found = {one.name: one for one in WEB.iterdir()}.get(name)
        if found is None:
            return JSONResponse({"error": f"no file {name[:40]}"}, HTTPStatus.NOT_FOUND)
        return Response(found.read_bytes(), media_type=KINDS[Path(name).suffix])

    async def answer(request: Request) -> Response:
        try:
            found = await run_in_threadpool(answers, request.path_params["name"], dict(request.query_params))
        except ConveyorError as error:
            return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
        return Response(encoded(found), media_type=kind)

    async def type_in(request: Request) -> Response:
        if read is None:
            return JSONResponse({"error": "this task reads files; name them on the command line"}, HTTPStatus.FORBIDDEN)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST:
                return JSONResponse(
                    {"error": "expected at most a megabyte of text"}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                )
        try:
            recording = await run_in_threadpool(read, body.decode())
        except (ConveyorError, UnicodeDecodeError) as error:
            return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        return JSONResponse({"recording": answers.add(recording)})

    routes = [
        Route("/", file),
        Route("/api/read", type_in, methods=["POST"]),
        Route("/api/{name}", answer),
        Route("/{name}", file),
    ]
    served = Starlette(routes=routes)
    served.add_middleware(Guard, hosts=hosts)
    return served


class Guard:
    """Refuses requests that name another host, or come from another's page."""

    def __init__(self, inside: ASGIApp, hosts: frozenset[str]) -> None:
        self.inside, self.hosts = inside, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may pass, with headers that keep the page to itself."""
        if scope["type"] != "http":
            await self.inside(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        if headers.get("host") not in self.hosts or (origin and origin.removeprefix("http://") not in self.hosts):
            refusal = JSONResponse({"error": "this page is served to this machine alone"}, HTTPStatus.FORBIDDEN)
            await refusal(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = {
                    b"content-security-policy": POLICY, b"x-content-type-options": b"nosniff",
                    b"cross-origin-resource-policy": b"same-origin", b"referrer-policy": b"no-referrer",
                    b"cache-control": b"no-store",
                }  # fmt: skip
                message["headers"] = [*message["headers"], *kept.items()]
            await send(message)

        await self.inside(scope, receive, guarded)


class Server:
    """The page on a port of the loopback, for as long as `with` lasts."""

    def __init__(self, answers: Answers, read: Callable[[str], Recording] | None = None, port: int = 0) -> None:
        import socket

        import uvicorn

        if not 0 <= port < 1 << 16:
            raise ConveyorError(f"[inspect] --port: expected 0 to 65535, got {port}")
        self.socket = socket.socket()
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(("127.0.0.1", port))
        except OSError as error:
            self.socket.close()
            raise ConveyorError(f"[inspect] port {port}: {error.strerror}; name another with --port") from None
        self.port = self.socket.getsockname()[1]
        hosts = frozenset(f"{host}:{self.port}" for host in ("127.0.0.1", "localhost"))
        config = uvicorn.Config(app(answers, hosts, read), log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Server:
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: Any) -> None:
        self.server.should_exit = True
        self.thread.join(5)
        self.socket.close()
